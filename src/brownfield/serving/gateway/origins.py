"""Who may be meant by a request without a token: a browser must not be made a deputy of foreign pages.

A page of another site can make a browser on this machine send requests to loopback (CSRF), and by DNS rebinding read
the answers. Both show in the fields that a page cannot set: ``Host`` names the page's own domain, ``Origin`` its site.
"""

from collections.abc import Iterable

from brownfield.errors import Forbidden
from brownfield.serving.gateway.messages import Headers

__all__ = ["Origins"]

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REMEMBERED = 256


class Origins:
    """Admits requests whose ``Host``, and ``Origin`` where there is one, name this listener.

    Parameters
    ----------
    names
        Host names and addresses under which callers know it, besides those of loopback.

    Examples
    --------
    >>> origins = Origins(["scoring"])
    >>> origins.check({b"host": b"127.0.0.1:8080"})
    >>> origins.check({b"host": b"Scoring", b"origin": b"http://scoring:8080"})
    >>> origins.check({b"host": b"evil.example"})
    Traceback (most recent call last):
    brownfield.errors.Forbidden: the request names another host than this listener. Name the host in serving.host_names.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(_bracketed(name).lower().encode() for name in (*_LOOPBACK, *names))
        self._admitted: set[bytes] = set()

    def check(self, headers: Headers) -> None:
        """Refuse a request that a foreign page may have caused.

        Raises
        ------
        Forbidden
            When it names another host, or comes from a page of another one.
        """
        host = headers.get(b"host")
        if host is not None and host not in self._admitted:
            if _name(host) not in self._names:
                raise Forbidden(
                    "the request names another host than this listener",
                    next_step="Name the host in serving.host_names.",
                )
            if len(self._admitted) < _REMEMBERED:
                self._admitted.add(host)
        origin = headers.get(b"origin")
        if origin is not None and _name(origin.partition(b"://")[2]) not in self._names:
            raise Forbidden(
                "the request was made by a page of another host",
                next_step="Pages call through their own server; or name the host in serving.host_names.",
            )


def _name(host: bytes) -> bytes:
    """Host name of ``name``, ``name:port`` or ``[address]:port``, in lower case."""
    host = host.strip().lower()
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0].removesuffix(b".")


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
