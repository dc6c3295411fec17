"""How connections to legacy systems are encrypted."""

import ssl

import pytest

from brownfield.data.tls import client_context


@pytest.mark.parametrize("tls", ["verify", "encrypt"])
def test_f69_no_client_speaks_less_than_tls_1_2(monkeypatch, tls):
    """F-69: also where the Python itself insists on no version, as Debian's does."""

    def lax(cafile=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        return context

    monkeypatch.setattr(ssl, "create_default_context", lax)
    assert client_context(tls, None).minimum_version == ssl.TLSVersion.TLSv1_2


def test_encryption_alone_trusts_whoever_answers():
    """As it is declared; else host and certificate must be right."""
    assert client_context("encrypt", None).verify_mode is ssl.CERT_NONE
    strict = client_context("verify", None)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert client_context("off", None) is None
