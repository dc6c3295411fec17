"""A workspace served by a process of its own, for as long as a ``with`` block lasts."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from brownfield.errors import Unavailable

__all__ = ["RunningWorkspace", "served"]

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class RunningWorkspace:
    """Where a served workspace answers, and which processes it consists of.

    Parameters
    ----------
    host, port
        Address of the prediction door.
    pid
        Of ``brownfield serve``.
    """

    host: str
    port: int
    pid: int

    def model_pids(self) -> list[int]:
        """Process ids of the model processes, read from ``/proc``."""
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):
                found += [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]
        return [pid for pid in found if _is_model(pid)]


def _is_model(pid: int) -> bool:
    try:
        return b"model/process/child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def served(folder: Path, *, port: int) -> Iterator[RunningWorkspace]:
    """Run ``brownfield serve`` on a workspace until the block ends; what it logs is shown only when it fails.

    Parameters
    ----------
    folder
        The workspace.
    port
        Port on loopback.

    Yields
    ------
    RunningWorkspace
        Once every integration is ready.

    Raises
    ------
    Unavailable
        When it ends or is not ready within a minute.
    """
    command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 (our own command)
        try:
            _wait_ready(process, port, log.fileno())
            yield RunningWorkspace("127.0.0.1", port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, log: int) -> None:
    until = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        connection.close()
        time.sleep(0.05)
    said = os.pread(log, 4000, max(0, os.fstat(log).st_size - 4000)).decode(errors="replace")
    raise Unavailable(
        "the workspace did not become ready",
        got=f"exit status {process.poll()}" if process.poll() is not None else "no answer",
        next_step=f"Its last log lines: {said.strip() or '(none)'}",
    )
