"""What ``brownfield check`` says of connected systems without asking any: references, secrets, encryption."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.integration import (
    BrokerConnection,
    DatabaseConnection,
    HttpConnection,
    KeyPath,
    OdbcConnection,
    Reference,
    check_host,
    key_names,
    read_reference,
)
from brownfield.workspace.findings import At, Finding

__all__ = ["secret_findings", "server_findings"]

_OTHERS = 0o077
_SECRETS = frozenset({"password", "private_key", "passphrase"})


def server_findings(options: Any, path: KeyPath, folder: Path, at: At) -> Iterator[Finding]:
    """Report what will keep us from a server, or should: references without a value, secrets for all."""
    if isinstance(options, OdbcConnection):
        yield from _odbc_findings(options, path, folder, at)
        return
    for key in key_names(type(options)):
        reference = getattr(options, key)
        if isinstance(reference, Reference) and key in _SECRETS:
            yield from secret_findings(reference, (*path, key), folder, at)
        elif isinstance(reference, Reference):
            yield from _reference_findings(reference, (*path, key), folder, at)
    if isinstance(options, BrokerConnection | DatabaseConnection | HttpConnection):
        yield from _tls_findings(options, (*path, "tls"), folder, at)
    if isinstance(options, HttpConnection):
        yield from _http_findings(options, path, folder, at)


def _tls_findings(
    options: BrokerConnection | DatabaseConnection | HttpConnection, path: KeyPath, folder: Path, at: At
) -> Iterator[Finding]:
    """Report certificates that are not there, and a way that is in clear or leads to whoever answers."""
    tls = options.tls
    if tls.ca_file is not None:
        from brownfield.data.pipeline import ca_file_of  # brings Arrow with it

        try:
            ca_file_of(tls, folder)
        except DeclarationError as error:
            yield at.error("warning", (*path, "ca_file"), error)
        except SourceUnavailable as error:
            yield at("warning", (*path, "ca_file"), error.what, error.next_step or "")
    at_home = isinstance(options, HttpConnection) and options.network == "this_machine"
    if tls.mode != "verify" and not at_home:
        risk = "the server's certificate is not checked" if tls.mode == "encrypt" else "nothing is encrypted"
        yield at("warning", (*path, "mode"), f"{risk} on the way to it", "Declare tls: {mode: verify}.")


def _http_findings(options: HttpConnection, path: KeyPath, folder: Path, at: At) -> Iterator[Finding]:
    """Report a base URL that would be refused when it is asked, and a credential that cannot be used."""
    from brownfield.data.sources import Site  # brings Arrow with it

    with suppress(DeclarationError):  # one that cannot be read is reported as every reference is
        base_url = read_reference(options.base_url, folder)
        try:
            Site(base_url, options.network, tls=options.tls.mode).check()
        except DeclarationError as error:
            yield at.error("warning", (*path, "base_url"), error)
    if options.auth is not None:
        yield from secret_findings(options.auth.value, (*path, "auth", "value"), folder, at)


def _reference_findings(reference: Reference, path: KeyPath, folder: Path, at: At) -> Iterator[Finding]:
    """Report a reference without a value, and a host that is refused."""
    try:
        value = read_reference(reference, folder)
        if path[-1] == "host":
            check_host(value)
    except DeclarationError as error:
        yield at.error("warning", path, error)


def _odbc_findings(options: OdbcConnection, path: KeyPath, folder: Path, at: At) -> Iterator[Finding]:
    """Report a connection string that cannot be read or is none, and secrets for all."""
    from brownfield.data.sources import connection_parts  # brings Arrow with it

    try:
        connection_parts(read_reference(options.connection_string, folder))
    except DeclarationError as error:
        yield at.error("warning", (*path, "connection_string"), error)
    if options.password is not None:
        yield from secret_findings(options.password, (*path, "password"), folder, at)


def secret_findings(reference: Reference, path: KeyPath, folder: Path, at: At) -> Iterator[Finding]:
    """Report a secret that cannot be read here, or that others can read too."""
    try:
        read_reference(reference, folder)
    except DeclarationError as error:
        yield at.error("warning", path, error)
        return
    if reference.file and (folder / reference.file).stat().st_mode & _OTHERS:
        yield at("warning", path, "other users of this machine can read the file", f"chmod 600 {reference.file}")
