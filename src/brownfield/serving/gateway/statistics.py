"""The V2 statistics extension: what each model answered and how long its parts took, in Triton's words."""

import time
from typing import TYPE_CHECKING, Any

from brownfield.serving.gateway.latency import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.serving.gateway.served import Served

__all__ = ["begin_statistics", "model_statistics"]


def model_statistics(integrations: "Iterable[Served]") -> list[dict[str, Any]]:
    """Statistics of every model that is served: one entry for each integration, of the version that answers now.

    ``inference_count`` are records that it answered, without those whose answers were given again;
    ``execution_count`` are the calls that computed them, each for as many requests as shared it; ``success`` are
    answers of the model (given again ones as well), ``fail`` those of the fallback and refusals; ``memory_usage`` is
    added by the manager, which measures the processes.
    """
    return [_of(served) for served in integrations if served.champion is not None]


def begin_statistics(served: "Served") -> None:
    """Count for the version that answers now: what another one did is not its own."""
    meter = served.meter
    version = served.champion.name if served.champion is not None else meter.version
    if meter.version not in {"", version}:
        meter.counted_before = _counted(served)
    meter.version = version


def _of(served: "Served") -> dict[str, Any]:
    counted, before = _counted(served), served.meter.counted_before
    return {
        "name": served.name,
        "version": served.champion.name if served.champion is not None else "",
        "last_inference": _epoch_ms(served.meter.last_ns),
        **(_without(counted, before) if before else counted),
        "batch_stats": [],
        "memory_usage": [],
    }


def _without(counted: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without(value, before[name]) if isinstance(value, dict) else value - before[name]
        for name, value in counted.items()
    }


def _counted(served: "Served") -> dict[str, Any]:
    meter = served.meter
    ok = sum(n for (_, source, _, _), n in meter.answers.items() if source == "model")
    failed = sum(meter.answers.values()) - ok
    computed = ok - meter.cache_hits

    def part(count: int, *stages: Stage) -> dict[str, int]:
        return {"count": count, "ns": meter.answered_ns(*stages)}

    return {
        "inference_count": meter.computed_rows,
        "execution_count": round(meter.executions),
        "inference_stats": {
            "success": {"count": ok, "ns": meter.duration.sum_ns - meter.failed_ns},
            "fail": {"count": failed, "ns": meter.failed_ns},
            "queue": part(computed, Stage.ADMISSION, Stage.QUEUE),
            "compute_input": part(computed, Stage.FEATURES),
            "compute_infer": part(computed, Stage.INFER),
            "compute_output": part(computed, Stage.OUTPUT_CHECK),
            "cache_hit": {"count": meter.cache_hits, "ns": 0},
            "cache_miss": {"count": meter.cache_misses, "ns": 0},
        },
    }


def _epoch_ms(monotonic_ns: int) -> int:
    return round(time.time() * 1e3 - (time.monotonic_ns() - monotonic_ns) / 1e6) if monotonic_ns else 0
