"""What the manager knows in figures: models loaded and evicted, their processes' memory and threads, the gateways."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.serving.gateway.metrics import family, labelled
from brownfield.serving.plan import Placement, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from brownfield.serving.residence import Residence
    from brownfield.serving.resident import Resident

__all__ = ["index_row", "manager_lines"]

_INDEX_STATES = {"ready": "READY", "loading": "LOADING", "restarting": "LOADING"}
_STATES: tuple[State, ...] = ("loading", "ready", "restarting", "unloaded", "failed", "quarantined")


def manager_lines(residence: "Residence", memory_mib: Mapping[str, float], gateways: int) -> Iterator[str]:
    """Give the Prometheus text of what the manager knows.

    Parameters
    ----------
    residence
        The models.
    memory_mib
        Proportional memory of the other processes, by kind.
    gateways
        How many answered.
    """
    models = [(name, one) for name, one in sorted(residence.models.items()) if one.loaded.bundle is not None]
    name = "brownfield_process_memory_bytes"
    yield from family(name, "gauge", "Proportional memory (PSS) of our own processes, by kind.")
    for kind, mib in sorted(memory_mib.items()):
        yield f"{name}{{{labelled(process=kind)}}} {round(mib * 2**20)}"
    for name, kind, meaning, read in _OF_MODELS:
        yield from family(name, kind, meaning)
        for integration, one in models:
            yield f"{name}{{{labelled(integration=integration)}}} {read(one)}"
    name = "brownfield_model_pool_threads"
    yield from family(name, "gauge", "Threads of the engine and of the BLAS and OpenMP libraries, as they say.")
    for integration, one in models:
        for pool, n in sorted(_pools(one).items()):
            yield f"{name}{{{labelled(integration=integration, pool=pool)}}} {n}"
    name = "brownfield_model_state"
    yield from family(name, "gauge", "1 for the state in which a model is.")
    for integration, one in models:
        now = one.placement.state
        for state in _STATES:
            yield f"{name}{{{labelled(integration=integration, state=state)}}} {int(state == now)}"
    yield from _alone("brownfield_gateways", "gauge", "Gateways that answer.", gateways)
    yield from _alone(
        "brownfield_model_reloads_total",
        "counter",
        "How often a model was loaded again within a minute of its eviction.",
        residence.reloads,
    )
    yield from _alone(
        "brownfield_thrashing", "gauge", "1 while models evict each other again and again.", int(residence.thrashing)
    )


def index_row(placement: Placement) -> dict[str, str]:
    """Give what V2's index says of a model."""
    return {
        "name": placement.integration,
        "version": placement.version,
        "state": _INDEX_STATES.get(placement.state, "UNAVAILABLE"),
        "reason": placement.reason,
    }


def _alone(name: str, kind: str, meaning: str, value: float) -> Iterator[str]:
    yield from family(name, kind, meaning)
    yield f"{name} {value}"


def _pools(one: "Resident") -> dict[str, int]:
    """Threads that the libraries of a process were left with, by what its greeting said."""
    process = one.loaded.keeper.process if one.loaded.keeper else None
    if process is None or not one.is_up:
        return {}
    return {process.hello.engine: process.hello.threads, **process.hello.pools}


def _threads(one: "Resident") -> int:
    """Threads of a process that the kernel knows of, whatever its libraries were told."""
    process = one.loaded.keeper.process if one.loaded.keeper else None
    if process is None:
        return 0
    try:
        return sum(1 for _ in Path(f"/proc/{process.pid}/task").iterdir())
    except OSError:
        return 0


_OF_MODELS: "tuple[tuple[str, str, str, Callable[[Resident], float]], ...]" = (
    (
        "brownfield_model_memory_bytes",
        "gauge",
        "Proportional memory (PSS) of a model's process.",
        lambda one: round(one.pss_mib * 2**20) if one.is_up else 0,
    ),
    (
        "brownfield_model_threads",
        "gauge",
        "Threads of a model's process, as the kernel counts them.",
        lambda one: _threads(one) if one.is_up else 0,
    ),
    (
        "brownfield_model_load_seconds",
        "gauge",
        "How long the last start of a model's process took.",
        lambda one: one.loaded.keeper.load_s if one.loaded.keeper else 0,
    ),
    (
        "brownfield_model_restarts_total",
        "counter",
        "How often a model's process was replaced after its end.",
        lambda one: one.restarts,
    ),
    (
        "brownfield_model_recycles_total",
        "counter",
        "How often a model's process was replaced because it kept taking memory.",
        lambda one: one.recycles,
    ),
    ("brownfield_model_loads_total", "counter", "How often a model was loaded.", lambda one: one.loads),
    (
        "brownfield_model_evictions_total",
        "counter",
        "How often a model was evicted to make room for another.",
        lambda one: one.evictions,
    ),
)
