"""The certificate of the listener: read when serving begins, and again on every reload.

In: what ``serving.tls`` declares. Out: a context for TLS 1.2 and 1.3.
Refused, each with its file: what cannot be read, is no PEM, asks for a password or does not belong together.
"""

import ssl
import stat
from datetime import datetime, timedelta
from pathlib import Path

from brownfield.errors import DeclarationError
from brownfield.integration import Reference, ServingTlsSpec, read_reference

__all__ = ["certificate_worry", "check_certificate", "key_path", "load_certificate", "server_context"]

_SOON = timedelta(days=14)
_NO_MATCH = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


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


def certificate_worry(spec: ServingTlsSpec, folder: Path, now_utc: datetime) -> str | None:
    """Say why callers refuse the certificate at that time, or soon will; None where its time is no reason.

    Parameters
    ----------
    spec, folder
        One that :func:`check_certificate` takes.
    now_utc
        Aware time.
    """
    from cryptography import x509  # takes 30 ms, which a start does without

    text = _file("certificate_file", spec.certificate_file, folder).read_bytes()
    try:
        first = x509.load_pem_x509_certificates(text)[0]
    except ValueError:  # OpenSSL takes spellings that this reader does not
        return None
    if now_utc < first.not_valid_before_utc:
        return f"it is valid from {first.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ} on, and callers refuse it before"
    if now_utc > first.not_valid_after_utc:
        return f"it ended at {first.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, and callers refuse it"
    if now_utc > first.not_valid_after_utc - _SOON:
        return f"it ends at {first.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, and callers refuse it from then on"
    return None


def key_path(spec: ServingTlsSpec, folder: Path) -> Path:
    """Find the file of the private key.

    Raises
    ------
    DeclarationError
        When it cannot be read.
    """
    return _file("key_file", spec.key_file, folder)


def _load(context: ssl.SSLContext, spec: ServingTlsSpec, folder: Path) -> None:
    certificate = _file("certificate_file", spec.certificate_file, folder)
    key = key_path(spec, folder)
    _check_holds("certificate_file", certificate, "CERTIFICATE", "a certificate and its chain in PEM", "x509")
    _check_holds("key_file", key, "PRIVATE KEY", "a private key in PEM", "pkey")
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise _refused(error) from error
    except ValueError as error:  # of _no_password
        raise _wrong(
            "key_file",
            "a private key without a password",
            "one with a password",
            "Write it without one (openssl pkey -in KEY -out NEW), readable by this user alone.",
        ) from error


def _refused(error: ssl.SSLError) -> DeclarationError:
    """Say in words what OpenSSL has against the two."""
    if error.reason in _NO_MATCH:
        return _wrong(
            "key_file",
            "the key of the certificate in certificate_file",
            "the key of another one",
            "Look whether both are of the same renewal, and whether the certificate stands first in its chain.",
        )
    return _wrong(
        None,
        "a certificate and a key that this machine's OpenSSL takes",
        error.reason or "text that it cannot read",
        "Look at them with `openssl x509 -noout -text -in FILE` and `openssl pkey -noout -check -in FILE`.",
    )


def _file(name: str, declared: str | Reference, folder: Path) -> Path:
    """Find the file and open it once: OpenSSL would not say which of the two it cannot read."""
    value = read_reference(declared, folder) if isinstance(declared, Reference) else declared
    if "-----BEGIN" in value:
        raise _wrong(
            name,
            f"the path of a file in the {declared}",
            "what should stand in that file",
            "Declare the path itself, or for a file outside the workspace {env: NAME} with the path in NAME.",
        )
    shown = f"at the path in the {declared}" if isinstance(declared, Reference) else f"at {declared}"
    path = folder / value
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _wrong(name, f"a file {shown}", "no file", "Name the file itself.")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise _wrong(name, f"a file {shown}", "no such file", "Name a file that is there.") from error
    except (OSError, ValueError) as error:  # the second of what can be no path
        got = getattr(error, "strerror", None) or "no path"
        raise _wrong(name, f"a file {shown} that this user may read", got, "Look at its owner and mode.") from error
    return path


def _check_holds(name: str, path: Path, mark: str, expected: str, program: str) -> None:
    if f"{mark}-----".encode() not in path.read_bytes():
        step = f"From DER it is made by `openssl {program} -inform der -in FILE -out NEW`."
        raise _wrong(name, expected, "a file without one", step)


def _wrong(name: str | None, expected: str, got: str, next_step: str) -> DeclarationError:
    path = "serving.tls" if name is None else f"serving.tls.{name}"
    return DeclarationError(where="brownfield.yaml", path=path, expected=expected, got=got, next_step=next_step)


def _no_password() -> str:
    raise ValueError("the key asks for a password")
