"""Encryption as declared under ``serving.tls``."""

import os
import signal
import ssl

import httpx
import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import ServingTlsSpec, load_workspace
from brownfield.serving import Supervisor
from brownfield.serving.tls import server_context
from harness.certificates import make_certificate
from harness.waiting import until

TLS = "serving: {tls: {certificate_file: certificate.pem, key_file: key.pem}}\n"


def declare(risk, folder):
    """A workspace whose listener is encrypted, without a model."""
    risk.declare(folder, model_path=None)
    with (folder / "brownfield.yaml").open("a") as file:
        file.write(TLS)


def status(url, certificate):
    """Status of a health check by a client who trusts this certificate alone."""
    return httpx.get(url + "/v2/health/ready", verify=ssl.create_default_context(cafile=certificate)).status_code


@pytest.mark.full
def test_a_listener_is_encrypted_and_takes_a_new_certificate_on_reload(risk, serving, tmp_path):
    """New connections see the renewed certificate; the old one is trusted no more, and nothing restarts."""
    certificate = make_certificate(tmp_path)
    declare(risk, tmp_path)
    running = serving(tmp_path)
    assert running.url.startswith("https://")
    assert status(running.url, certificate) == 200
    old = certificate.read_bytes()
    make_certificate(tmp_path)
    before = tmp_path / "before.pem"
    before.write_bytes(old)
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: "BF-SRV-RELOADED" in running.log)
    assert status(running.url, certificate) == 200
    with pytest.raises(httpx.ConnectError):
        status(running.url, before)


@pytest.mark.parametrize("broken", ["no key", "another key", "no PEM"], ids=["F-64 no key", "another key", "no PEM"])
def test_a_certificate_that_does_not_fit_ends_the_start_with_a_clear_error(risk, tmp_path, broken):
    """Before any model is loaded; the key is never shown."""
    make_certificate(tmp_path)
    if broken == "no key":
        (tmp_path / "key.pem").unlink()
    elif broken == "another key":
        other = tmp_path / "other"
        other.mkdir()
        make_certificate(other)
        (other / "key.pem").rename(tmp_path / "key.pem")
    else:
        (tmp_path / "certificate.pem").write_text("not a certificate", encoding="utf-8")
    declare(risk, tmp_path)
    with pytest.raises(DeclarationError, match=r"serving\.tls"):
        Supervisor(load_workspace(tmp_path), port=0).run()


def test_without_tls_there_is_no_context_and_with_it_none_below_1_2(tmp_path):
    """Plain text unless declared."""
    make_certificate(tmp_path)
    spec = ServingTlsSpec(certificate_file="certificate.pem", key_file="key.pem")
    assert server_context(spec, tmp_path).minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_context(None, tmp_path) is None
