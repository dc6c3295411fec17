import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from brownfield import confinement as sandbox
from brownfield.confinement import SandboxPolicy, landlock_abi

HOSTILE = Path(__file__).parent / "model/process/hostile.py"


FILES = {
    "read a key file",
    "read the password file",
    "read the parent's environment",
    "list a foreign folder",
    "remove a file",
}


def _attack(tmp_path: Path, *, enabled: str = "yes") -> dict:
    key_file = tmp_path / "signing.key"
    key_file.write_text("a secret")
    arguments = [sandbox.__file__, enabled, str(key_file), str(tmp_path), str(os.getpid())]
    done = subprocess.run(
        [sys.executable, "-I", str(HOSTILE), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_s10_a_hostile_model_gets_nowhere(tmp_path) -> None:
    """S-10: reading keys, writing, TCP, UDP, Unix sockets, signals, tracing, new processes and privileges all fail."""
    if landlock_abi() < 6:
        pytest.skip("this kernel lacks Landlock's file rules or signal scope: its facts say so")
    told = _attack(tmp_path)
    assert told["facts"]["warnings"] == []
    assert [name for name, answer in told["answers"].items() if answer == "done"] == []
    assert len(told["answers"]) == 29


def test_s10_seccomp_alone_stops_all_but_files(tmp_path, monkeypatch) -> None:
    """S-10: on a kernel without Landlock only files stay open, and the facts say that Landlock is missing."""
    without_landlock = tmp_path / "sandbox.py"
    text = Path(sandbox.__file__).read_text()
    assert text.count("_LANDLOCK_CREATE_RULESET: Final = 444") == 1
    without_landlock.write_text(text.replace("_RULESET: Final = 444", "_RULESET: Final = 9999"))
    monkeypatch.setattr(sandbox, "__file__", str(without_landlock))
    told = _attack(tmp_path)
    assert told["facts"]["layers"]["landlock"] == "missing"
    assert told["facts"]["warnings"] == ["landlock: not enforced on this host (ENOSYS)"]
    done = {name for name, answer in told["answers"].items() if answer == "done"}
    assert done <= FILES


BOMB = """
import importlib.util, sys, threading
spec = importlib.util.spec_from_file_location("sandbox", sys.argv[1])
sandbox = importlib.util.module_from_spec(spec)
sys.modules["sandbox"] = sandbox
spec.loader.exec_module(sandbox)
sandbox.apply(sandbox.SandboxPolicy(), sandbox.readable_by_default(), 200)
never = threading.Event()
started = 0
try:
    for started in range(5000):
        threading.Thread(target=never.wait, daemon=True).start()
except RuntimeError:
    print(started)
"""


def test_f13_a_thread_bomb_ends_at_the_memory_limit() -> None:
    """F-13: the stacks of threads count as memory, so that a process of 200 MiB gets no more than some dozens."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BOMB, sandbox.__file__], capture_output=True, text=True, timeout=30, check=True
    )
    assert 0 < int(done.stdout) < 100


def test_a_sandbox_that_is_switched_off_says_so(tmp_path) -> None:
    """Without the sandbox only the limits are set, and a warning stands in the facts."""
    told = _attack(tmp_path, enabled="no")
    assert set(told["facts"]["layers"]) == {"limits"}
    assert told["facts"]["warnings"] == ["the sandbox is switched off by the declaration"]


def test_a_strict_policy_refuses_a_host_that_lacks_a_layer(monkeypatch) -> None:
    """A strict policy ends in an error when a layer cannot be enforced (nothing is applied to this process here)."""

    def missing(*_: object) -> str:
        raise OSError(errno.ENOSYS, "missing")

    for layer in ("_restrict_files", "_filter_calls", "_drop_capabilities"):
        monkeypatch.setattr(sandbox, layer, missing)
    monkeypatch.setattr(sandbox, "_limit", lambda _: "none")
    monkeypatch.setattr(sandbox, "_prctl", lambda *_: None)
    with pytest.raises(PermissionError, match="landlock: not enforced on this host"):
        sandbox.apply(SandboxPolicy(strict=True), [], None)
    facts = sandbox.apply(SandboxPolicy(), [], None)
    assert len(facts["warnings"]) == 3


def test_the_filter_has_a_table_for_both_machines() -> None:
    """The program for x86-64 and arm64 is well formed: whole, within the kernel's bound, all jumps inside."""
    for column, architecture, _ in sandbox._MACHINES.values():
        program = sandbox._program(column, architecture)
        count, rest = divmod(len(program), 8)
        assert rest == 0
        assert count < 4096
        for at, (code, if_true, if_false, _) in enumerate(struct.iter_unpack("<HBBI", program)):
            if code in {0x15, 0x35, 0x45}:
                assert at + 1 + max(if_true, if_false) < count
