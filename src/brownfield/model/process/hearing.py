"""What a model's process says beside its answers: the end of its stderr, and what a Python model tried in vain.

Comes in: a started process. Goes out: the last 16 KiB of its complaints, and words of a closed list; each word is
logged once. What a model writes by itself is never logged: it may hold values of records.
"""

import contextlib
import logging
import os
import subprocess
import threading
import time
from typing import Final

from brownfield.model.process.frames import Decoder, Frame, FrameError
from brownfield.model.process.zygote import Forked

__all__ = ["ATTEMPTS", "Attempts", "Complaints"]

_log = logging.getLogger(__name__)

_STDERR_BYTES = 16 * 1024
_PIPE_BYTES = 64 * 1024
_PAUSE_S = 0.005  # between two looks: who writes without end waits for its reader, and takes no core from the server
_MAX_ATTEMPT_BYTES = 64 * 1024

ATTEMPTS: Final = {
    "network": "open a socket",
    "process": "start a process or program",
    "read": "read a file outside its own",
    "signal": "send a signal to another process",
    "trace": "trace or read another process",
    "write": "write, change or remove a file",
}
"""Kind to meaning of what a model's process tells of itself; it is refused by the kernel whether it is told or not."""


class Complaints:
    """Reads a process's stderr for as long as it lives, and keeps the end of it."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self._stream = process.stderr
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name=f"stderr-{process.pid}", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """What was kept."""
        return self._kept.decode(errors="replace")

    def finish(self) -> None:
        """Wait until all is read, when the process has ended."""
        self._thread.join(1.0)

    def _read(self) -> None:
        if self._stream is None:  # pragma: no cover (it is a pipe)
            return
        with self._stream:
            while data := os.read(self._stream.fileno(), _PIPE_BYTES):
                self._kept = (
                    (self._kept + data)[-_STDERR_BYTES:] if len(data) < _STDERR_BYTES else data[-_STDERR_BYTES:]
                )
                time.sleep(_PAUSE_S)


class Attempts:
    """Hears, after the greeting, what a model tries that its process may not do; what it may say is a closed list."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self.seen: tuple[str, ...] = ()
        self._process = process
        self._thread: threading.Thread | None = None

    def listen(self, model: str, decoder: Decoder, heard: list[Frame]) -> None:
        """Go on where the greeting ended: with the same decoder, and what came along with it."""
        with contextlib.suppress(FrameError, RecursionError):  # what is none of our words is nobody's error
            self._note(heard, model)
        self._thread = threading.Thread(
            target=self._read, args=(model, decoder), name=f"attempts-{self._process.pid}", daemon=True
        )
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is heard, when the process has ended."""
        if self._thread is not None:
            self._thread.join(1.0)

    def _read(self, model: str, decoder: Decoder) -> None:
        stdout, heard_bytes = self._process.stdout, 0
        with contextlib.suppress(RecursionError, ValueError):  # a pipe that is closed, or that others wrote into
            while stdout is not None and heard_bytes < _MAX_ATTEMPT_BYTES:
                data = os.read(stdout.fileno(), 4096)
                if not data:
                    break
                heard_bytes += len(data)
                self._note(decoder.feed(data), model)

    def _note(self, heard: list[Frame], model: str) -> None:
        for frame in heard:
            told = frame.message()
            kind, when = str(told.get("attempt")), "loading" if told.get("loading") else "answering"
            attempt = f"{kind} while {when}"
            if kind in ATTEMPTS and attempt not in self.seen:
                self.seen = (*self.seen, attempt)
                extra = {"event": "BF-WRK-ATTEMPT", "model": model, "pid": self._process.pid, "attempt": attempt}
                _log.warning("a model tried what its process may not do: %s", ATTEMPTS[kind], extra=extra)
