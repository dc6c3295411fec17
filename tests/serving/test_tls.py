"""Encryption as declared under ``serving.tls``."""

import os
import signal
import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import ServingTlsSpec, load_workspace
from brownfield.serving import Supervisor
from brownfield.serving.tls import certificate_worry, server_context
from brownfield.workspace.check import check
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


@pytest.mark.full
def test_what_takes_a_restart_is_named_and_compared_with_the_start(risk, serving, tmp_path):
    """Encryption that is taken out stays until a restart; put back, nothing waits for one any more."""
    make_certificate(tmp_path)
    declare(risk, tmp_path)
    running = serving(tmp_path)
    declared = (tmp_path / "brownfield.yaml").read_text()
    for times, text in enumerate((declared.replace(TLS, ""), declared), start=1):
        (tmp_path / "brownfield.yaml").write_text(text)
        os.kill(running.pid, signal.SIGHUP)
        until(lambda times=times: running.log.count("BF-SRV-RELOADED") == times)
    [told] = [line for line in running.log.splitlines() if "BF-SRV-RESTART-NEEDED" in line]
    assert '"keys":"serving.tls"' in told


def _no_key(folder):
    (folder / "key.pem").unlink()


def _another_key(folder):
    before = (folder / "certificate.pem").read_bytes()
    make_certificate(folder)
    (folder / "certificate.pem").write_bytes(before)


def _key_with_a_password(folder):
    subprocess.run(
        [*("openssl", "pkey", "-in", "key.pem", "-aes256", "-passout", "pass:geheim"), *("-out", "locked.pem")],
        cwd=folder,
        check=True,
    )
    (folder / "locked.pem").rename(folder / "key.pem")


def _no_pem(folder):
    (folder / "certificate.pem").write_text("not a certificate", encoding="utf-8")


def _torn(folder):
    text = (folder / "certificate.pem").read_text(encoding="utf-8")
    (folder / "certificate.pem").write_text(text.replace("\nMII", "\n!!!"), encoding="utf-8")


def _pipe(folder):
    (folder / "certificate.pem").unlink()
    os.mkfifo(folder / "certificate.pem")


@pytest.mark.parametrize(
    ("spoil", "key", "got"),
    [
        (_no_key, "serving.tls.key_file", "at key.pem, got no such file"),
        (_another_key, "serving.tls.key_file", "got the key of another one"),
        (_key_with_a_password, "serving.tls.key_file", "got one with a password"),
        (_no_pem, "serving.tls.certificate_file", "got a file without one"),
        (_torn, "serving.tls", "got text that it cannot read"),
        (_pipe, "serving.tls.certificate_file", "at certificate.pem, got no file"),
    ],
    ids=["F-64 no key", "another key", "a password", "no PEM", "torn", "a pipe"],
)
def test_a_certificate_that_does_not_fit_ends_the_start_and_does_not_pass_check(risk, tmp_path, spoil, key, got):
    """Before any model is loaded, with the file at fault; `check` says the same with its line, and no key is shown."""
    make_certificate(tmp_path)
    declare(risk, tmp_path)
    spoil(tmp_path)
    with pytest.raises(DeclarationError) as refused:
        Supervisor(load_workspace(tmp_path), port=0).run()
    assert str(refused.value).startswith(f"brownfield.yaml: {key}: expected")
    assert got in str(refused.value)
    report = check(tmp_path)
    assert not report.passed
    [finding] = [each for each in report.findings if each.path.startswith("serving")]
    assert str(finding).endswith(str(refused.value).removeprefix(f"brownfield.yaml: {key}: "))
    assert finding.where.endswith("brownfield.yaml:2")
    assert finding.path == key


def test_a_reference_holds_the_path_and_not_the_key_itself(risk, tmp_path):
    """Who takes `file:` for the key's own file is told so, and the key is not repeated."""
    make_certificate(tmp_path)
    declare(risk, tmp_path)
    text = (tmp_path / "brownfield.yaml").read_text().replace("key_file: key.pem", "key_file: {file: key.pem}")
    (tmp_path / "brownfield.yaml").write_text(text)
    [finding] = [each for each in check(tmp_path).findings if each.path.startswith("serving")]
    assert "expected the path of a file in the file key.pem" in str(finding)
    assert "PRIVATE" not in str(finding)


def test_check_warns_of_a_key_that_others_can_read_and_of_a_reference_without_a_value(risk, tmp_path):
    """S-37: of both as of every secret; this machine may not be the one that serves."""
    make_certificate(tmp_path)
    declare(risk, tmp_path)
    (tmp_path / "key.pem").chmod(0o644)
    report = check(tmp_path)
    assert report.passed
    assert any(each.path == "serving.tls.key_file" and "mode 0644" in each.message for each in report.findings)
    text = (tmp_path / "brownfield.yaml").read_text().replace("key_file: key.pem", "key_file: {env: BF_TEST_NO_KEY}")
    (tmp_path / "brownfield.yaml").write_text(text)
    report = check(tmp_path)
    assert report.passed
    assert any("BF_TEST_NO_KEY" in str(each) and each.level == "warning" for each in report.findings)


@pytest.mark.parametrize(
    ("after", "worry"),
    [
        (timedelta(days=-1), "on, and callers refuse it before"),
        (timedelta(hours=1), "and callers refuse it from then on"),
        (timedelta(days=3), "it ended at"),
    ],
    ids=["not yet", "soon", "ended"],
)
def test_callers_refuse_a_certificate_outside_its_time(risk, tmp_path, after, worry):
    """One of two days: the check of a certificate that serving takes says when callers do not."""
    make_certificate(tmp_path)
    spec = ServingTlsSpec(certificate_file="certificate.pem", key_file="key.pem")
    assert worry in certificate_worry(spec, tmp_path, datetime.now(UTC) + after)
    declare(risk, tmp_path)
    report = check(tmp_path)
    assert report.passed
    [ends] = [each for each in report.findings if each.path == "serving.tls.certificate_file"]
    assert (ends.level, ends.where.rpartition("/")[2]) == ("warning", "brownfield.yaml:2")


def test_without_tls_there_is_no_context_and_with_it_none_below_1_2(tmp_path):
    """Plain text unless declared."""
    make_certificate(tmp_path)
    spec = ServingTlsSpec(certificate_file="certificate.pem", key_file="key.pem")
    assert server_context(spec, tmp_path).minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_context(None, tmp_path) is None
