"""What a model's process says beside its answers."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from brownfield.model.process import hearing
from brownfield.model.process.hearing import Complaints


@pytest.fixture
def prints():
    """Start a process that runs this, and give it with what is heard of it."""
    started = []

    def start(program):
        started.append(subprocess.Popen([sys.executable, "-c", f"import os\n{program}"], stderr=subprocess.PIPE))
        return started[-1], Complaints(started[-1])

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("size", [1000, 5000, 50_000, 400_000])
def test_of_what_a_process_prints_the_end_is_kept(prints, size):
    """Up to 16 KiB, whatever it writes at a time."""
    process, complaints = prints(f"text = b''.join(b'%08d' % n for n in range({size // 8}))\nos.write(2, text)")
    process.wait()
    complaints.finish()
    assert complaints.text == "".join(f"{n:08d}" for n in range(size // 8))[-16 * 1024 :]


@pytest.mark.parametrize("lines", [1, 2000], ids=["a line at a time", "more than a pipe holds"])
def test_who_prints_without_end_is_looked_at_now_and_then(prints, monkeypatch, lines):
    """It waits for its reader; read as fast as it writes, it took one core of two from the server."""
    looks = []

    def read(descriptor, size):
        looks.append(time.monotonic())
        return os.read(descriptor, size)

    monkeypatch.setattr(hearing, "os", SimpleNamespace(read=read))
    process, complaints = prints(
        f"line = b'over and over again, without end\\n' * {lines}\nwhile True: os.write(2, line)"
    )
    time.sleep(0.3)
    process.kill()
    process.wait()
    complaints.finish()
    assert 2 <= len(looks) <= 2 + (looks[-1] - looks[0]) / hearing._PAUSE_S
    assert complaints.text.endswith("end\n") or len(complaints.text) == 16 * 1024
