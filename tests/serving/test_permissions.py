"""F-64: what this user may not read is named before anything is served in its place."""

import contextlib
import os
import subprocess
import sys

import pytest

from harness.certificates import make_certificate

pytestmark = pytest.mark.full

# Modes of files count, also where the tests run as root: it gives up the rights (1, 2) to read whatever it likes.
AS_ANYBODY = """
import ctypes, os, sys
for right in (1, 2):
    ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "brownfield", "serve", sys.argv[1], "--port", "0"])
"""


@contextlib.contextmanager
def closed(path):
    """Nobody may read it meanwhile."""
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(0o700)


@contextlib.contextmanager
def serve(folder):
    """The process that serves a folder, its output in a pipe."""
    command = [sys.executable, "-c", AS_ANYBODY, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ("key.pem", "serving.tls.key_file"),
        ("certificate.pem", "serving.tls.certificate_file"),
        ("brownfield.yaml", "brownfield.yaml"),
        ("integrations/risk/contract.odcs.yaml", "contract.odcs.yaml"),
    ],
    ids=["F-64 key", "F-64 certificate", "F-64 workspace", "F-64 contract"],
)
def test_f64_a_start_without_what_it_needs_is_refused(risk, tmp_path, item, named):
    """F-64: with the item and the reason, without a traceback; nothing listens."""
    make_certificate(tmp_path)
    risk.declare(tmp_path, model_path=None)
    with (tmp_path / "brownfield.yaml").open("a") as file:
        file.write("serving: {tls: {certificate_file: certificate.pem, key_file: key.pem}}\n")
    with closed(tmp_path / item), serve(tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert named in said
    assert "Permission denied" in said
    assert "Traceback" not in said
    assert "BF-SRV-LISTENING" not in said


@pytest.mark.parametrize(
    "item", ["model.onnx", "manifest.json", ""], ids=["F-64 model", "F-64 manifest", "F-64 bundle"]
)
def test_f64_a_start_with_a_bundle_that_may_not_be_read_is_refused(risk, tmp_path, item):
    """F-64: the message names the file or folder; nothing listens, and there is no traceback."""
    folder = risk.workspace(tmp_path)
    path = folder / "integrations" / "risk" / "bundles" / "one" / item
    with closed(path), serve(folder) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"{path}: risk: model.path" in said
    assert "Permission denied" in said
    assert "Traceback" not in said
    assert "BF-SRV-LISTENING" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder takes root to make")
def test_f64_a_folder_for_sockets_that_is_another_users_is_named(risk, tmp_path):
    """F-64: no process listens where another user could have put something."""
    folder = risk.workspace(tmp_path)
    run = folder / "var" / "run"
    run.mkdir(parents=True)
    os.chown(run, 65534, 65534)
    with serve(folder) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert str(run) in said
    assert "Traceback" not in said
