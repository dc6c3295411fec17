"""Counters of the prediction path, and the Prometheus text made from them when somebody asks.

On the path there are only list and dict increments; names, labels and text exist at scrape time alone. Labels hold
integrations, versions and closed lists of reasons, never a worker, a caller or a value, so the number of series is
bounded by the declaration. Own names come first; names that other servers' dashboards know follow, where they mean
the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from brownfield.serving.gateway.latency import BOUNDS_S, STAGE_NAMES, Histogram, Stage
from brownfield.serving.gateway.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brownfield.serving.gateway.served import Kept, Served

__all__ = ["CONTENT_TYPE", "HttpMeter", "Meter", "exposition", "family", "labelled"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meter:
    """What one integration answered: counts by who and why, rows, durations by stage."""

    __slots__ = (
        "answers",
        "cache_hits",
        "cache_misses",
        "cached_rows",
        "counted_before",
        "duration",
        "executions",
        "failed_ns",
        "failed_stages_ns",
        "fallback_rows",
        "last_ns",
        "lates",
        "model_rows",
        "refused",
        "sheds",
        "stages_ns",
        "version",
    )

    def __init__(self) -> None:
        self.version = ""  # that the statistics are of
        self.counted_before: dict[str, Any] = {}  # of them, when it began to answer
        self.answers: dict[tuple[str, str, str, str], int] = {}
        self.refused: dict[str, int] = {}
        self.lates: dict[str, int] = dict.fromkeys(("enqueue", "dequeue", "completion"), 0)
        self.sheds = [0] * len(Priority)
        self.model_rows = 0  # of answers by the model, given again or not
        self.cached_rows = 0  # of these, those that were given again
        self.fallback_rows = 0
        self.executions = 0.0  # of the champion; a call that its process joined with others is a part of one
        self.cache_hits = 0
        self.cache_misses = 0
        self.failed_ns = 0  # of the durations, those of answers that the model did not give
        self.last_ns = 0  # monotonic time at which the last request began
        self.duration = Histogram()
        self.stages_ns = [0] * len(STAGE_NAMES)
        self.failed_stages_ns = [0] * len(STAGE_NAMES)  # of these, likewise

    def observe(self, decided: "Sequence[Kept]") -> None:
        """Count the decisions of one turn of the loop, at least one."""
        answers = self.answers
        for decision, split, rows, _ in decided:
            key = (decision.version, decision.source, decision.reason, decision.cause)
            answers[key] = answers.get(key, 0) + 1
            duration_ns = split.last_ns - split.started_ns
            self.duration.observe(duration_ns)
            if not decision.degraded:
                self.model_rows += rows
                continue
            self.failed_ns += duration_ns
            failed_stages_ns = self.failed_stages_ns
            for stage, part_ns in enumerate(split.parts_ns):
                failed_stages_ns[stage] += part_ns
            if decision.source != "none":  # a refusal answers no record
                self.fallback_rows += rows
        self.last_ns = max(self.last_ns, decided[-1][1].started_ns)
        stages_ns = self.stages_ns
        for _, split, _, _ in decided:
            for stage, part_ns in enumerate(split.parts_ns):
                stages_ns[stage] += part_ns

    def executed(self, rows: int, call_rows: int) -> None:
        """Count a call of the model for ``rows`` records, that one of ours which travels along not among them."""
        self.executions += rows / call_rows if call_rows > rows + 1 else 1.0

    @property
    def rows(self) -> int:
        """Records answered, by whomever."""
        return self.model_rows + self.fallback_rows

    @property
    def computed_rows(self) -> int:
        """Records that the model answered, without those whose answer was given again."""
        return self.model_rows - self.cached_rows

    def answered_ns(self, *stages: Stage) -> int:
        """Give the time that answers of the model spent in these stages."""
        return sum(self.stages_ns[stage] - self.failed_stages_ns[stage] for stage in stages)

    def late(self, at: str) -> None:
        """Count a deadline that passed: before its request could wait, while it waited, or while a worker had it."""
        self.lates[at] += 1

    def shed(self, priority: Priority) -> None:
        """Count a request that was not let wait, because it would have waited too long."""
        self.sheds[priority] += 1

    def refuse(self, codes: Iterable[str]) -> None:
        """Count a request that broke the contract, once per distinct code."""
        for code in set(codes):
            self.refused[code] = self.refused.get(code, 0) + 1


class HttpMeter:
    """Responses by status, whatever the route."""

    __slots__ = ("by_status",)

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}

    def observe(self, status: int) -> None:
        """Count one response."""
        self.by_status[status] = self.by_status.get(status, 0) + 1


def exposition(integrations: Mapping[str, "Served"], http: HttpMeter, further: Iterable[str] = ()) -> str:
    """Every metric in Prometheus' text format 0.0.4.

    Parameters
    ----------
    integrations
        What is served, by name.
    http
        The door's own counter.
    further
        Lines of what runs beside the prediction path.

    Examples
    --------
    >>> meter = HttpMeter()
    >>> meter.observe(200)
    >>> print(exposition({}, meter).splitlines()[2])
    brownfield_http_responses_total{status="200"} 1
    """
    lines = list(family("brownfield_http_responses_total", "counter", "HTTP responses by status."))
    lines += [
        f'brownfield_http_responses_total{{status="{status}"}} {n}' for status, n in sorted(http.by_status.items())
    ]
    served = [integrations[name] for name in sorted(integrations)]
    for made in (_answers, _refused, _shed, _rows, _caches, _lookups, _states, _durations, _stages, _compatible):
        lines.extend(made(served))
    lines.extend(further)
    return "\n".join(lines) + "\n"


def family(name: str, kind: str, meaning: str) -> Iterator[str]:
    """Give the two lines that begin a metric."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def labelled(**values: str) -> str:
    """Spell labels as they stand between braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _answers(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_answers_total"
    yield from family(name, "counter", "Answers by version, source, reason and cause; source none is a refusal.")
    for one in served:
        for (version, source, reason, cause), n in sorted(one.meter.answers.items()):
            values = labelled(integration=one.name, version=version, source=source, reason=reason, cause=cause)
            yield f"{name}{{{values}}} {n}"


def _refused(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_refused_requests_total"
    yield from family(name, "counter", "Requests that broke the contract, by code; one request may count for several.")
    for one in served:
        for code, n in sorted(one.meter.refused.items()):
            yield f"{name}{{{labelled(integration=one.name, code=code)}}} {n}"


def _shed(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_deadlines_passed_total"
    yield from family(name, "counter", "Deadlines that passed before waiting, while waiting, or at a worker.")
    for one in served:
        for at, n in one.meter.lates.items():
            yield f"{name}{{{labelled(integration=one.name, at=at)}}} {n}"
    name = "brownfield_shed_requests_total"
    yield from family(name, "counter", "Requests that the queue was too long for, by priority.")
    for one in served:
        for priority in Priority:
            labels = labelled(integration=one.name, priority=priority.name.lower())
            yield f"{name}{{{labels}}} {one.meter.sheds[priority]}"


def _rows(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_rows_total"
    yield from family(name, "counter", "Records answered.")
    for one in served:
        yield f"{name}{{{labelled(integration=one.name)}}} {one.meter.rows}"


def _caches(served: list["Served"]) -> Iterator[str]:
    for name, kind, meaning, read in (
        ("brownfield_cache_hits_total", "counter", "Answers given again.", lambda one: one.meter.cache_hits),
        ("brownfield_cache_misses_total", "counter", "Answers that were not kept.", lambda one: one.meter.cache_misses),
        ("brownfield_cache_entries", "gauge", "Answers kept now.", lambda one: len(one.champion.cache)),
    ):
        yield from family(name, kind, meaning)
        for one in served:
            if one.champion is not None and one.champion.cache is not None:
                yield f"{name}{{{labelled(integration=one.name)}}} {read(one)}"


def _lookups(served: list["Served"]) -> Iterator[str]:
    joined = [(one.name, one.enrichment) for one in served if one.enrichment is not None]
    name = "brownfield_lookup_requests_total"
    yield from family(name, "counter", "Requests by lookup and by what it was read from.")
    for integration, enrichment in joined:
        for (source, state), n in sorted(enrichment.states.items()):
            yield f"{name}{{{labelled(integration=integration, source=source, state=state)}}} {n}"
    name = "brownfield_lookup_missing_total"
    yield from family(name, "counter", "Requests in which a field of a lookup was missing, by reason.")
    for integration, enrichment in joined:
        for (source, field, reason), n in sorted(enrichment.missing.items()):
            labels = labelled(integration=integration, source=source, field=field, reason=reason)
            yield f"{name}{{{labels}}} {n}"


def _states(served: list["Served"]) -> Iterator[str]:
    states: tuple[tuple[str, str, Callable[[Served], float]], ...] = (
        ("brownfield_model_ready", "1 while the model itself can answer.", lambda one: int(one.model_ready)),
        ("brownfield_ready", "1 while the model or its fallback can answer.", lambda one: int(one.ready)),
        (
            "brownfield_waiting_rows",
            "Records that wait for the model.",
            lambda one: one.champion.admission.waiting_rows if one.champion else 0,
        ),
    )
    for name, meaning, read in states:
        yield from family(name, "gauge", meaning)
        for one in served:
            yield f"{name}{{{labelled(integration=one.name)}}} {read(one)}"
    name = "brownfield_breaker_openings_total"
    yield from family(name, "counter", "How often the breaker of a model version opened.")
    for one in served:
        if one.champion:
            labels = labelled(integration=one.name, version=one.champion.name)
            yield f"{name}{{{labels}}} {one.champion.breaker.openings}"


def _durations(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_request_duration_seconds"
    yield from family(name, "histogram", "From the first byte known to us to the encoded answer.")
    for one in served:
        labels, histogram, total = labelled(integration=one.name), one.meter.duration, 0
        for bound_s, n in zip((*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"), histogram.counts, strict=True):
            total += n
            yield f'{name}_bucket{{{labels},le="{bound_s}"}} {total}'
        yield f"{name}_sum{{{labels}}} {histogram.sum_ns / 1e9!r}"
        yield f"{name}_count{{{labels}}} {total}"


def _stages(served: list["Served"]) -> Iterator[str]:
    name = "brownfield_stage_seconds_total"
    yield from family(name, "counter", "Time by stage; the stages of an integration sum to its request durations.")
    for one in served:
        for stage, part_ns in zip(STAGE_NAMES, one.meter.stages_ns, strict=True):
            yield f"{name}{{{labelled(integration=one.name, stage=stage)}}} {part_ns / 1e9!r}"


def _compatible(served: list["Served"]) -> Iterator[str]:
    """Give the same numbers under the names that Triton's and Seldon's dashboards ask for."""
    ok = {one.name: sum(n for (_, source, _, _), n in one.meter.answers.items() if source == "model") for one in served}
    failed = {one.name: sum(one.meter.answers.values()) - ok[one.name] for one in served}

    def stage_us(one: "Served", *stages: Stage) -> int:
        return one.meter.answered_ns(*stages) // 1000

    views = (
        ("nv_inference_request_success", "Answers by the model.", lambda one: ok[one.name]),
        ("nv_inference_request_failure", "Answers not by the model.", lambda one: failed[one.name]),
        ("nv_inference_count", "Records that the model answered.", lambda one: one.meter.computed_rows),
        ("nv_inference_request_duration_us", "Whole duration.", lambda one: one.meter.duration.sum_ns // 1000),
        (
            "nv_inference_queue_duration_us",
            "Wait for a worker.",
            lambda one: stage_us(one, Stage.ADMISSION, Stage.QUEUE),
        ),
        ("nv_inference_compute_input_duration_us", "Records to tensors.", lambda one: stage_us(one, Stage.FEATURES)),
        ("nv_inference_compute_infer_duration_us", "The engine itself.", lambda one: stage_us(one, Stage.INFER)),
        (
            "nv_inference_compute_output_duration_us",
            "Tensors to records.",
            lambda one: stage_us(one, Stage.OUTPUT_CHECK),
        ),
        ("nv_cache_num_hits_per_model", "Answers given again.", lambda one: one.meter.cache_hits),
        ("nv_cache_num_misses_per_model", "Answers that were not kept.", lambda one: one.meter.cache_misses),
        ("seldon_model_infer_total", "Answers of every kind.", lambda one: ok[one.name] + failed[one.name]),
    )
    for name, meaning, read in views:
        yield from family(name, "counter", meaning)
        label = "model_name" if name.startswith("seldon") else "model"
        for one in served:
            yield f"{name}{{{labelled(**{label: one.name})}}} {read(one)}"
