"""What the gateway knows of the pipelines beside it: a state for each integration, and the Prometheus text of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from brownfield.serving.gateway.metrics import family, labelled

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PipelineStatus", "pipeline_lines"]


@dataclass(slots=True)
class PipelineStatus:
    """What is known of one pipeline.

    Parameters
    ----------
    state
        ``starting``, ``running``, ``done`` (until its next run), ``paused`` (a guard, or a feed that is left alone),
        ``waiting`` (another process writes the tables), ``failed``, ``down``, or ``none`` where none is declared.
    code, reason
        Error code and words of the last run that did not end well; empty behind one that did.
    runs
        Runs by how they ended: ``done``, ``paused``, ``waiting`` or ``failed``.
    rows, refused
        Records read and refused since this process was started.
    delivered, pending
        Rows written back since then, and rows that wait, by sink.
    waiting
        Why rows wait, by sink; empty where none does.
    last_run_utc, last_run_s
        When a run last ended well, empty before the first, and how long it took.
    restarts
        How often its process was started again.
    """

    state: str = "starting"
    code: str = ""
    reason: str = ""
    runs: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    refused: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    last_run_utc: str = ""
    last_run_s: float = 0.0
    restarts: int = 0

    @property
    def is_up(self) -> bool:
        """Whether the process runs."""
        return self.state not in {"starting", "down"}

    def note(self, line: Mapping[str, Any]) -> None:
        """Take in what the process told."""
        if "state" not in line:
            return
        self.state = line["state"]
        if self.state == "running":
            return
        self.code, self.reason = line["code"], line["reason"]
        self.runs[self.state] = self.runs.get(self.state, 0) + 1
        if "at_utc" not in line:
            return
        self.last_run_utc, self.last_run_s = line["at_utc"], line["seconds"]
        self.rows += line["rows"]
        self.refused += line["refused"]
        for name, sink in line["write_back"].items():
            self.delivered[name] = self.delivered.get(name, 0) + sink["rows"]
            self.pending[name] = sink["pending_rows"]
            self.waiting[name] = sink["waiting"]


def pipeline_lines(pipelines: Mapping[str, PipelineStatus]) -> Iterator[str]:
    """Give the Prometheus text of every pipeline.

    Examples
    --------
    >>> list(pipeline_lines({"shop": PipelineStatus(state="done", runs={"done": 3})}))[2]
    'brownfield_pipeline_up{integration="shop"} 1'
    """
    if not pipelines:
        return
    gauges: tuple[tuple[str, str, Callable[[PipelineStatus], float]], ...] = (
        ("brownfield_pipeline_up", "1 while the process that pulls and writes back runs.", lambda one: int(one.is_up)),
        ("brownfield_pipeline_paused", "1 while the last run did not end well.", lambda one: int(bool(one.code))),
        (
            "brownfield_pipeline_last_run_timestamp_seconds",
            "When a run last ended well; 0 before the first.",
            lambda one: datetime.fromisoformat(one.last_run_utc).timestamp() if one.last_run_utc else 0,
        ),
    )
    for name, meaning, read in gauges:
        yield from family(name, "gauge", meaning)
        for integration, one in sorted(pipelines.items()):
            yield f"{name}{{{labelled(integration=integration)}}} {read(one)}"
    yield from _counted(
        "brownfield_pipeline_rows_total",
        "Records read from the silos.",
        {(("integration", name),): one.rows for name, one in pipelines.items()},
    )
    yield from _counted(
        "brownfield_pipeline_refused_rows_total",
        "Records that went to quarantine.",
        {(("integration", name),): one.refused for name, one in pipelines.items()},
    )
    yield from _counted(
        "brownfield_pipeline_restarts_total",
        "How often a process was started again.",
        {(("integration", name),): one.restarts for name, one in pipelines.items()},
    )
    yield from _counted(
        "brownfield_pipeline_runs_total",
        "Runs by how they ended.",
        {
            (("integration", name), ("state", state)): n
            for name, one in pipelines.items()
            for state, n in one.runs.items()
        },
    )
    yield from _counted(
        "brownfield_write_back_rows_total",
        "Rows written back.",
        {
            (("integration", name), ("sink", sink)): n
            for name, one in pipelines.items()
            for sink, n in one.delivered.items()
        },
    )
    yield from _counted(
        "brownfield_write_back_pending_rows",
        "Rows that wait to be written back.",
        {
            (("integration", name), ("sink", sink)): n
            for name, one in pipelines.items()
            for sink, n in one.pending.items()
        },
        "gauge",
    )


def _counted(
    name: str, meaning: str, values: Mapping[tuple[tuple[str, str], ...], int], kind: str = "counter"
) -> Iterator[str]:
    yield from family(name, kind, meaning)
    for which, n in sorted(values.items()):
        yield f"{name}{{{labelled(**dict(which))}}} {n}"
