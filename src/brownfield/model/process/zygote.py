"""Model processes forked from one that has the engine imported: that memory is held once, and a start is quick.

Comes in: the options of a model's process. Goes out: a handle such as that of :class:`subprocess.Popen`. The forked
process is confined before it opens the model, as one that was started by itself. Raised where none can be had:
:class:`OSError`; then a process is started from nothing.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Self

from brownfield.host import readable_within

__all__ = ["Forked", "Zygote", "process_environment"]

_WARM = Path(__file__).parent / "child" / "__warm__.py"
_ROOM = " " * 255  # in the list of processes, for the folder of the model that a forked one serves
_FIRST_S = 30.0  # for the imports of a zygote that was just started
_STATUS_S = 5.0  # for the zygote to tell how a child ended that has ended


class Forked:
    """A process that another one forked for us: known by a descriptor, so that no other can be meant.

    Parameters
    ----------
    pid
        Process identifier.
    descriptor
        Its pidfd, taken over.
    status
        Reading end of a pipe on which the zygote tells how it ended.
    stdin, stdout, stderr
        Our ends of its streams.

    Attributes
    ----------
    returncode
        Exit status, or minus the signal; None while it is not known to have ended.
    """

    def __init__(
        self,
        pid: int,
        descriptor: int,
        status: int,
        *,
        stdin: IO[bytes],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._descriptor, self._status = descriptor, status
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Say how it ended; None while it lives."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises :class:`subprocess.TimeoutExpired`."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(_WARM), timeout or 0)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self.returncode is None:
                signal.pidfd_send_signal(self._descriptor, number)

    def _ended(self, timeout_s: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        readable = readable_within(self._descriptor, timeout_s)
        with self._lock:
            if readable and self.returncode is None:
                told = os.read(self._status, 16) if readable_within(self._status, _STATUS_S) else b""
                self.returncode = int(told) if told else -signal.SIGKILL  # nobody is left who knows
                os.close(self._descriptor)
                os.close(self._status)
        return self.returncode


class Zygote:
    """The process that model processes are forked from; started at the first fork, and anew when it is gone.

    Examples
    --------
    >>> with Zygote() as zygote:
    ...     zygote.pid
    0
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int:
        """Its process identifier; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def fork(self, options: str) -> Forked:
        """Fork a model's process that runs with these options.

        Raises
        ------
        OSError
            When there is no zygote, or it cannot fork.
        """
        with self._lock:
            try:
                return self._fork(options)
            except OSError:
                self._end()  # it may have died: once more from the beginning
                return self._fork(options)

    def close(self) -> None:
        """End it; what it forked lives on."""
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fork(self, options: str) -> Forked:
        control = self._control or self._start()
        theirs: list[int] = []
        ours: list[int] = []
        try:
            for reading in (True, False, False, False):  # stdin, stdout, stderr, and how it ended
                ends = os.pipe()
                theirs.append(ends[not reading])
                ours.append(ends[reading])
            socket.send_fds(control, [options.encode()], theirs)
            pid, descriptor = _reply(control)
        except BaseException:
            for each in ours:
                os.close(each)
            raise
        finally:
            for each in theirs:
                os.close(each)
        stdin, stdout, stderr, status = ours
        return Forked(
            pid,
            descriptor,
            status,
            stdin=os.fdopen(stdin, "wb", 0),
            stdout=os.fdopen(stdout, "rb", 0),
            stderr=os.fdopen(stderr, "rb", 0),
        )

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.settimeout(_FIRST_S)
            self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
                [sys.executable, "-I", "-X", "faulthandler", str(_WARM), str(theirs.fileno()), _ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=process_environment(1),
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control = ours
        return ours

    def _end(self) -> None:
        control, self._control = self._control, None
        process, self._process = self._process, None
        if control is not None:
            control.close()  # by which it ends
        if process is not None:
            process.kill()
            process.wait()


def _reply(control: socket.socket) -> tuple[int, int]:
    data, descriptors, _, _ = socket.recv_fds(control, 64, 1)
    if not data or not descriptors:
        raise ConnectionResetError("the process that model processes are forked from is gone, or cannot fork")
    return int(data), descriptors[0]


def process_environment(threads: int) -> dict[str, str]:
    """All that the child inherits: numbers of threads, few heaps so that memory comes back, and no telemetry.

    ONNX Runtime's Linux builds since 1.31 send events to their maker unless told not to (measured: a cache in the home
    folder and a name look-up within seconds); the sandbox would stop it as well, after a thread has been spent on it.
    """
    count = str(threads)
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    fixed = {"MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8", "ORT_DISABLE_TELEMETRY": "1"}
    return {**dict.fromkeys(libraries, count), **fixed}
