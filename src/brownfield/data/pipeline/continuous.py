"""A pipeline in a process of its own: run after run in the declared rhythm, until it is told to end.

Usage: ``python -m brownfield.data.pipeline.continuous WORKSPACE INTEGRATION``, started by the supervisor. Each line on
standard output is one JSON object: how the last run went, and within which time the next line will come. SIGTERM ends
the process behind the run that is under way, SIGHUP begins the next run now, and the end of standard input (the
supervisor is gone) ends it at once: a run that is killed anywhere is made good by the next.
"""

import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from brownfield.clock import SystemClock
from brownfield.data.pipeline.custody import custody_of
from brownfield.data.pipeline.run import run_pipeline
from brownfield.errors import BrownfieldError, RunPaused, SourceChanged, Unavailable
from brownfield.host import give_way
from brownfield.integration import load_workspace
from brownfield.logs import configure_logs
from brownfield.store import open_store

__all__ = ["main", "next_pause_s"]

_IDLE_LINE_S = 10.0
_IDLE_WITHIN_S = 60.0
_RUN_WITHIN_S = 4_000.0  # the longest statement time-out, and some
_LONGEST_PAUSE_S = 900.0


class _Loop:
    """One integration, pulled again and again."""

    def __init__(self, workspace: Path, name: str) -> None:
        self._folder = workspace
        self._name = name
        spec = load_workspace(workspace)
        self._integration = spec.integrations[name]
        self._connections = spec.connections
        self._custody = custody_of(spec)
        assert self._integration.pipeline is not None  # noqa: S101 (the supervisor starts those that have one)
        self._every_s = self._integration.pipeline.every_s
        self._wake = threading.Event()
        self._ending = False
        self._failures = 0
        self._told_ns = 0
        self._clock = SystemClock()

    def stop(self, *_signal: Any) -> None:
        """End behind the run that is under way."""
        self._ending = True
        self._wake.set()

    def hurry(self, *_signal: Any) -> None:
        """Begin the next run now."""
        self._wake.set()

    def run(self) -> None:
        """Run until told to end."""
        while not self._ending:
            self._wake.clear()
            self._tell({"state": "running"}, _RUN_WITHIN_S)
            outcome = self._one_run()
            self._failures = self._failures + 1 if outcome["state"] == "failed" else 0
            pause_s = next_pause_s(self._every_s, self._failures)
            self._tell(outcome | {"next_run_s": round(pause_s, 1)}, _IDLE_WITHIN_S)
            self._wait(pause_s)

    def _wait(self, pause_s: float) -> None:
        until_ns = self._clock.monotonic_ns() + round(pause_s * 1e9)
        while not self._ending:
            left_s = (until_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0 or self._wake.wait(min(left_s, _IDLE_LINE_S)):
                return
            self._tell({}, _IDLE_WITHIN_S)

    def _one_run(self) -> dict[str, Any]:
        """Pull and deliver once; what went wrong is told, and tried again later."""
        try:
            with open_store(self._folder / "var" / "brownfield.db") as store:
                report = run_pipeline(
                    self._integration,
                    self._connections,
                    store,
                    self._folder / "var" / "data" / self._name,
                    lambda *_: self._tell_alive(),
                    actor="pipeline",
                    patient=True,
                    custody=self._custody,
                )
        except BrownfieldError as error:
            state = "paused" if isinstance(error, RunPaused | SourceChanged) else "failed"
            if isinstance(error, Unavailable) and error.where == str(self._folder / "var" / "data" / self._name):
                state = "waiting"
            return {"state": state, "code": error.code, "reason": str(error)}
        paused = {name: each.unavailable for name, each in report.sources.items() if each.unavailable}
        return {
            "state": "paused" if paused else "done",
            "code": "",
            "reason": "; ".join(f"{name}: {why}" for name, why in paused.items()),
            "at_utc": self._clock.now_utc().isoformat(),
            "seconds": round(report.seconds, 3),
            "rows": sum(each.rows_in for each in report.sources.values()),
            "refused": sum(each.quarantined for each in (*report.sources.values(), *report.tables.values())),
            "write_back": {
                name: {"rows": each.rows, "pending_rows": each.pending_rows, "waiting": each.waiting}
                for name, each in report.write_back.items()
            },
        }

    def _tell_alive(self) -> None:
        if self._clock.monotonic_ns() - self._told_ns > _IDLE_LINE_S * 1e9:
            self._tell({}, _RUN_WITHIN_S)

    def _tell(self, what: dict[str, Any], within_s: float) -> None:
        self._told_ns = self._clock.monotonic_ns()
        sys.stdout.buffer.write(msgspec.json.encode({**what, "within_s": within_s}) + b"\n")
        sys.stdout.buffer.flush()


def next_pause_s(every_s: float, failures: int) -> float:
    """How long to wait for the next run: the rhythm, and behind failures longer and longer, with jitter.

    Examples
    --------
    >>> next_pause_s(60.0, 0)
    60.0
    >>> 60 <= next_pause_s(60.0, 2) <= 240
    True
    >>> next_pause_s(86_400.0, 3)
    86400.0
    """
    if not failures:
        return every_s
    longest_s = max(every_s, min(every_s * 2 ** min(failures, 16), _LONGEST_PAUSE_S))
    return random.uniform(every_s, longest_s)  # noqa: S311 (jitter)


def _end_with_the_supervisor() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not by the buffered reader: its lock would outlive the main thread
        pass
    os._exit(1)


def main() -> None:
    """Run the integration that the arguments name."""
    configure_logs(waits=False)
    give_way()
    loop = _Loop(Path(sys.argv[1]), sys.argv[2])
    signal.signal(signal.SIGTERM, loop.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells when
    signal.signal(signal.SIGHUP, loop.hurry)
    threading.Thread(target=_end_with_the_supervisor, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
