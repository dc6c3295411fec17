"""Where a declared URL may lead.

In: the text of a URL, or the address that its name resolved to. Refused: what reaches the machine itself, cloud
metadata, or nobody; and every spelling that two parsers read differently. Private networks are admitted: the legacy
system lives there.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from brownfield.errors import DeclarationError

__all__ = ["check_address", "check_host", "check_url"]

_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f\\]")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_NUMBER_LIKE = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_METADATA_ADDRESSES = frozenset(
    {ip_address("fd00:ec2::254"), ip_address("100.100.100.200"), ip_address("168.63.129.16")}
)


def check_url(url: str, *, schemes: tuple[str, ...] = ("https", "http"), loopback: bool = False) -> None:
    """Refuse a URL that must not stand in a declaration.

    Parameters
    ----------
    url
        As declared.
    schemes
        The schemes that the key admits, in lower case.
    loopback
        Admit this machine itself.

    Raises
    ------
    DeclarationError
        Without the URL in its message: it may carry a secret.

    Notes
    -----
    A name is not resolved here. Whoever connects resolves it once, asks :func:`check_address` about every address,
    connects to the address that was checked, and follows no redirect.

    Examples
    --------
    >>> check_url("https://claims.example.internal:8443/score")
    >>> check_url("http://2130706433/")
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: expected an address in its usual spelling, got a number in disguise. Write ...
    """
    if not url.isascii() or _CONTROL_OR_SPACE.search(url):
        raise _refused("a URL of printable ASCII", "a space, backslash or other character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused("a URL", "a text that is none") from error
    if parts.scheme not in schemes or not url[len(parts.scheme) :].startswith("://"):
        raise _refused(f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}", "another")
    if "@" in parts.netloc:
        raise _refused("no name or password in a URL", "one", "Name the secret as {env: NAME} or {file: PATH}.")
    if parts.fragment or url.endswith("#"):
        raise _refused("no fragment", "one")
    if port == 0 or parts.netloc.endswith(":"):
        raise _refused("a port from 1 to 65535, or none", "another")
    host = parts.hostname or ""
    if not (loopback and host in {"localhost", "127.0.0.1", "::1"}):
        _check_host(host, bracketed=parts.netloc.startswith("["))


def check_host(host: str) -> None:
    """Refuse what is no plain name or address of a server, or a cloud's metadata service; this machine is admitted.

    Raises
    ------
    DeclarationError
        Without the host in its message.

    Examples
    --------
    >>> check_host("db.example.internal"), check_host("127.0.0.1")
    (None, None)
    >>> check_host("/var/run/postgresql")
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: expected a host name or an address, got another text
    """
    lower = host.lower()
    try:
        address = ip_address(lower)
    except ValueError:
        if lower != "localhost":
            _check_host(lower, bracketed=False)
    else:
        check_address(address, loopback=True)


def check_address(address: str | IPv4Address | IPv6Address, *, loopback: bool = False) -> None:
    """Refuse an address that no declared source or service may have.

    Parameters
    ----------
    address
        As resolved.
    loopback
        Admit this machine itself: legacy databases may run beside us.

    Raises
    ------
    DeclarationError
        For loopback, link-local (cloud metadata), unspecified, multicast and reserved addresses, and for IPv6
        addresses that stand for an IPv4 one.

    Examples
    --------
    >>> check_address("10.20.30.40")
    >>> check_address("169.254.169.254")
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: expected an address of another machine, got one that is link-local
    """
    try:
        plain = ip_address(address)
    except ValueError as error:
        raise _refused("an IP address", "another text") from error
    if loopback and plain.is_loopback and getattr(plain, "ipv4_mapped", None) is None:
        return
    if isinstance(plain, IPv6Address) and (plain.scope_id or _embedded(plain)):
        raise _refused("an address in its usual spelling", "an IPv4 address or a zone inside an IPv6 address")
    for problem in ("is_loopback", "is_unspecified", "is_link_local", "is_multicast", "is_reserved"):
        if getattr(plain, problem):
            found = f"one that is {problem.removeprefix('is_').replace('_', '-')}"
            raise _refused("an address of another machine", found)
    if plain in _METADATA_ADDRESSES:
        raise _refused("an address of another machine", "a cloud's metadata service")


def _check_host(host: str, *, bracketed: bool) -> None:
    if bracketed or re.fullmatch(r"[0-9]+(?:\.[0-9]+){3}", host):
        try:
            address = ip_address(host)
        except ValueError as error:
            raise _disguised() from error
        check_address(address)
        return
    if not _HOST_NAME.fullmatch(host):
        raise _refused("a host name or an address", "another text")
    if _NUMBER_LIKE.fullmatch(host.rpartition(".")[2]):
        raise _disguised()
    if host == "localhost" or host.endswith((".localhost", ".localdomain")) or host in _METADATA_HOSTS:
        raise _refused("the name of another machine", "a name of this one, or of a cloud's metadata service")


def _embedded(address: IPv6Address) -> bool:
    """Tell whether an IPv6 address stands for an IPv4 one: mapped, compatible, 6to4, Teredo or NAT64."""
    low = int(address) >> 32 == 0 and int(address) > 1
    nat64 = int(address) >> 96 == 0x0064FF9B  # noqa: PLR2004 (64:ff9b::/32 holds both NAT64 prefixes)
    return (
        low or nat64 or address.ipv4_mapped is not None or address.sixtofour is not None or address.teredo is not None
    )


def _disguised() -> DeclarationError:
    return _refused("an address in its usual spelling", "a number in disguise", "Write four decimal numbers.")


def _refused(expected: str, got: str, next_step: str | None = None) -> DeclarationError:
    return DeclarationError(expected=expected, got=got, next_step=next_step)
