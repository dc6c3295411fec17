"""A workspace served by a process of its own, for as long as a block lasts: for tests, demonstrations and drills."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brownfield.errors import WorkerUnavailable

__all__ = ["Background", "serve_workspace"]

_PROGRAM = """
import sys
from pathlib import Path
from brownfield.integration import load_workspace
from brownfield.logs import configure_logs
from brownfield.serving import Supervisor
configure_logs(waits=False)
spec = load_workspace(Path(sys.argv[1]))
sys.exit(Supervisor(spec, port=int(sys.argv[2]), on_ready=lambda url: print(url, flush=True)).run())
"""


@dataclass(frozen=True, slots=True)
class Background:
    """A served workspace.

    Parameters
    ----------
    url
        Such as ``http://127.0.0.1:40123``.
    process
        The supervisor's process; its end is the end of all model processes.
    """

    url: str
    process: "subprocess.Popen[bytes]"


@contextlib.contextmanager
def serve_workspace(folder: Path, port: int = 0, *, ready_timeout_s: float = 60.0) -> Iterator[Background]:
    """Serve a workspace in a process of its own and drain it at the end of the block.

    Parameters
    ----------
    folder
        The workspace; its log goes to ``var/serve.log``.
    port
        Where to listen; a free port by default.
    ready_timeout_s
        How long it may take until requests are answered.

    Raises
    ------
    WorkerUnavailable
        It ended, or was not ready in time.
    """
    log = folder / "var" / "serve.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-P", "-c", _PROGRAM, str(folder), str(port)], stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield Background(_first_line(process, ready_timeout_s), process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _first_line(process: "subprocess.Popen[bytes]", timeout_s: float) -> str:
    if process.stdout is None:  # pragma: no cover (it is a pipe)
        raise AssertionError
    line = b""
    until = time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
        part = os.read(process.stdout.fileno(), 4096) if readable else b""
        if not part:
            raise WorkerUnavailable("the workspace is not served", next_step="The file var/serve.log says why.")
        line += part
    return line.decode().strip()
