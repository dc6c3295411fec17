"""The pipelines of a served workspace: one process for each integration that declares a rhythm, kept running.

The gateway's process never reads a silo: it starts these processes, reads what they tell, ends one that falls silent,
starts again what has ended, and drains them all at the end.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import msgspec

from brownfield.clock import Clock, SystemClock
from brownfield.integration import IntegrationSpec, WorkspaceSpec
from brownfield.serving.gateway import PipelineStatus

__all__ = ["Pipelines"]

_log = logging.getLogger(__name__)

_PROGRAM = "brownfield.data.pipeline.continuous"
_START_WITHIN_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_LONGEST_LINE = 2**20


class _Pipeline:
    """One process, and the task that keeps it."""

    def __init__(self, folder: Path, spec: IntegrationSpec, digest: str, status: PipelineStatus, clock: Clock) -> None:
        self.digest = digest
        self.status = status
        self._folder = folder
        self._name = spec.name
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    def hurry(self) -> None:
        """Begin the next run now: references are read anew."""
        self._signal(signal.SIGHUP)

    async def end(self, drain_s: float) -> None:
        """Let the run under way end, for so long at most."""
        self._ending.set()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), drain_s)
        self._signal(signal.SIGKILL)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep(self) -> None:
        """Start the process again whenever it ends, later and later while it ends quickly."""
        failures = 0
        while not self._ending.is_set():
            begun_ns = self._clock.monotonic_ns()
            try:
                code = await self._one_life()
            except (OSError, ValueError) as error:  # it was not started, or said what is none of its lines
                code = -1
                self.status.reason = str(error)
            if self._ending.is_set():
                break
            lived_s = (self._clock.monotonic_ns() - begun_ns) / 1e9
            failures = 0 if lived_s > _LONGEST_PAUSE_S else failures + 1
            self.status.state, self.status.restarts = "down", self.status.restarts + 1
            _log.error(
                "a pipeline's process ended",
                extra={"event": "BF-SRV-PIPELINE-ENDED", "integration": self._name, "exit_code": code},
            )
            pause_s = min(_FIRST_PAUSE_S * 2 ** min(failures, 16), _LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause_s)
        self.status.state = "down"

    async def _one_life(self) -> int:
        self.status.state = "starting"
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # no file of the current folder is a module; PYTHONPATH is heeded
            "-m",
            _PROGRAM,
            str(self._folder),
            self._name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        try:
            await self._listen(process)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return await process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Read lines until the process ends or falls silent."""
        assert process.stdout is not None  # noqa: S101 (it is a pipe)
        within_s = _START_WITHIN_S
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), within_s)
            except TimeoutError:
                _log.error(
                    "a pipeline's process fell silent and is ended",
                    extra={"event": "BF-SRV-PIPELINE-SILENT", "integration": self._name},
                )
                return
            if not line:
                return
            told = msgspec.json.decode(line)
            within_s = told["within_s"]
            before = (self.status.state, self.status.reason)
            self.status.note(told)
            if self.status.state not in {"running", "done"} and (self.status.state, self.status.reason) != before:
                _log.warning(
                    "a pipeline does not go on",
                    extra={
                        "event": "BF-SRV-PIPELINE-PAUSED",
                        "integration": self._name,
                        "state": self.status.state,
                        "reason": self.status.reason,
                    },
                )


class Pipelines:
    """The pipelines of one workspace.

    Parameters
    ----------
    clock
        The system's unless given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.status: dict[str, PipelineStatus] = {}
        self._running: dict[str, _Pipeline] = {}
        self._clock = clock or SystemClock()

    async def follow(self, spec: WorkspaceSpec, drain_s: float) -> None:
        """Run what a workspace declares now: what changed is started anew, and what did not begins its next run."""
        wanted = {name: one for name, one in spec.integrations.items() if one.pipeline is not None}
        digests = {name: spec.digest + one.digest for name, one in wanted.items()}
        old = [name for name, one in self._running.items() if digests.get(name) != one.digest]
        await asyncio.gather(*(self._running.pop(name).end(drain_s) for name in old))
        for name in [name for name in self.status if name not in wanted]:
            del self.status[name]
        for name, one in wanted.items():
            if name in self._running:
                self._running[name].hurry()
                continue
            status = self.status.setdefault(name, PipelineStatus())
            self._running[name] = _Pipeline(spec.folder, one, digests[name], status, self._clock)

    async def end(self, drain_s: float) -> None:
        """Let the runs under way end, for so long at most."""
        await asyncio.gather(*(one.end(drain_s) for one in self._running.values()))
        self._running.clear()
