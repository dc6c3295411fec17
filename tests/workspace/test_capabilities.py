"""What a library does to its process on this host is a finding, and never the end of the tool."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from brownfield.workspace import capabilities
from brownfield.workspace.capabilities import EXTRAS, Capability, try_import
from brownfield.workspace.doctor import examine

ROOT = Path(__file__).parents[2]
ILLEGAL = """\
import ctypes, mmap, platform
code = b"\\x0f\\x0b" if platform.machine() == "x86_64" else bytes(4)
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""


@pytest.mark.parametrize(
    ("program", "state", "detail"),
    [
        (ILLEGAL, "dies", "SIGILL: it uses an instruction that this processor lacks"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "dies", "SIGSEGV"),
        ("raise ImportError('libfoo.so.3: no such file')", "fails", "ImportError: libfoo.so.3: no such file"),
        ("__version__ = '7.1'", "works", "7.1"),
    ],
    ids=["illegal-instruction", "crash", "missing-library", "sound"],
)
def test_what_an_import_does_is_reported(tmp_path, program, state, detail) -> None:
    """A real illegal instruction in the library ends the child by SIGILL, and the tool goes on and says so."""
    (tmp_path / "planted.py").write_text(program)
    tried = try_import("planted", "torch", paths=[str(tmp_path)])
    assert (tried.state, tried.detail) == (state, detail)
    assert tried.finding == (state != "works")


def test_a_library_that_does_not_end_is_reported(tmp_path, monkeypatch) -> None:
    """After the time limit it is called hanging."""
    monkeypatch.setattr(capabilities, "_TIMEOUT_S", 0.3)
    (tmp_path / "planted.py").write_text("import time; time.sleep(60)")
    assert try_import("planted", paths=[str(tmp_path)]).state == "hangs"


def test_an_extra_that_is_not_installed_is_no_finding() -> None:
    """What every installation needs is one."""
    assert not try_import("no_such_module_here", "oracle").finding
    assert try_import("no_such_module_here").finding


def test_an_examination_says_what_was_tried(tmp_path) -> None:
    """Wheels, capabilities and what of them is a finding stand in the text."""
    dead = Capability("torch", "dies", "SIGILL", "torch")
    found = examine(tmp_path, capabilities=(dead, Capability("numpy", "works", "2.0")))
    assert found.findings == ("torch (extra torch): dies, SIGILL",)
    text = str(found)
    assert "numpy: works, 2.0" in text
    assert f"wheels: cp{sys.version_info.major}{sys.version_info.minor}-" in text
    assert "finding: torch (extra torch): dies, SIGILL" in text


def test_an_examination_says_how_requests_run(tmp_path) -> None:
    """As Python where it is its source that is installed, and compiled where `make test-compiled` runs this."""
    wanted = os.environ.get("BROWNFIELD_REQUEST_PATH", "interpreted")
    assert f"request path: {wanted}" in str(examine(tmp_path))
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    listed = hooks["mypyc"]["include"]
    assert len(listed) > 20
    for path in listed:
        assert (ROOT / path).is_file(), path  # the build passes over what it does not find
        module = importlib.import_module(path.removeprefix("src/").removesuffix(".py").replace("/", "."))
        assert module.__file__.endswith(".so" if wanted == "compiled" else ".py"), path


@pytest.mark.full
def test_the_command_tries_this_host(tmp_path) -> None:
    """Everything the core needs runs here, int8 arithmetic too, and the exit code tells whether all is well."""
    done = subprocess.run(
        [sys.executable, "-m", "brownfield", "doctor", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    states = {each["name"]: each["state"] for each in told["capabilities"]}
    assert states["onnxruntime"] == states["numpy"] == states["int8"] == states["cpu wake"] == "works"
    [wake] = [each["detail"] for each in told["capabilities"] if each["name"] == "cpu wake"]
    assert float(wake.split(" us ")[0]) >= 0
    assert done.returncode == (1 if told["findings"] else 0)
    assert set(states) >= {name for names in EXTRAS.values() for name in names}
