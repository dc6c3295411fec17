"""The certificate of the listener: read when serving begins, and again on every reload."""

import ssl
from pathlib import Path

from brownfield.errors import DeclarationError
from brownfield.integration import Reference, ServingTlsSpec, read_reference

__all__ = ["check_certificate", "load_certificate", "server_context"]


def server_context(spec: ServingTlsSpec | None, folder: Path) -> ssl.SSLContext | None:
    """Make the context of a listener: TLS 1.2 and 1.3; None where plain text is declared.

    Raises
    ------
    DeclarationError
        When certificate and key cannot be read, or do not belong together.
    """
    if spec is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, spec, folder)
    return context


def load_certificate(context: ssl.SSLContext, spec: ServingTlsSpec, folder: Path) -> None:
    """Give new connections of a context the certificate that the files hold now; open ones keep theirs.

    Raises
    ------
    DeclarationError
        As :func:`server_context`; the context keeps what it had.
    """
    check_certificate(spec, folder)
    _load(context, spec, folder)


def check_certificate(spec: ServingTlsSpec, folder: Path) -> None:
    """Look whether :func:`load_certificate` can take what the files hold now, and take nothing.

    Raises
    ------
    DeclarationError
        As :func:`server_context`.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), spec, folder)


def _load(context: ssl.SSLContext, spec: ServingTlsSpec, folder: Path) -> None:
    certificate, key = (_path(each, folder) for each in (spec.certificate_file, spec.key_file))
    _check_readable("certificate_file", certificate)
    _check_readable("key_file", key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise DeclarationError(
            where="brownfield.yaml",
            path="serving.tls",
            expected="a certificate chain and its key in PEM, without a password",
            got=getattr(error, "reason", None) or type(error).__name__,
            next_step="Look whether both files can be read by this user and belong together.",
        ) from error


def _path(declared: str | Reference, folder: Path) -> Path:
    return folder / (read_reference(declared, folder) if isinstance(declared, Reference) else declared)


def _check_readable(name: str, path: Path) -> None:
    """Say which of the two files it is that cannot be read: OpenSSL would not."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise DeclarationError(
            where="brownfield.yaml",
            path=f"serving.tls.{name}",
            expected="a file that this user may read",
            got=error.strerror or type(error).__name__,
            next_step="Look at its owner and mode.",
        ) from error


def _no_password() -> str:
    raise ValueError("the key asks for a password")
