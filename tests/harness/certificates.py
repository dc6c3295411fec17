"""Certificates that last as long as a test."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Write ``certificate.pem`` and ``key.pem`` for localhost, signed by itself; the certificate's path."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "certificate.pem"
