"""Whether what a workspace declares fits the machine: cores and memory of all models together, said with the numbers.

Comes in: the declaration and the host as it was measured, a container's limits and quota included. Refused is what can
never fit; models that are loaded on demand count as the largest of them, for they make room for each other.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from brownfield.host import HostFacts
    from brownfield.integration import WorkspaceSpec

__all__ = ["GATEWAY_MIB", "OWN_MIB", "Want", "check_budgets", "wants"]

OWN_MIB = 64
"""Memory of supervisor and manager together, rounded up from what was measured (docs/explanation/scaling.md)."""

GATEWAY_MIB = 32
"""Memory of each gateway beside them, likewise."""


class Want(NamedTuple):
    """What one integration declares for its model.

    Parameters
    ----------
    integration
        Whose model, and whether it is that of the version before.
    cpu_cores, memory_mib
        As declared; None where nothing is.
    keep_loaded
        Whether it is there all the time.
    """

    integration: str
    cpu_cores: float | None
    memory_mib: int | None
    keep_loaded: bool


def wants(spec: "WorkspaceSpec") -> list[Want]:
    """Give what each integration with a model declares for it, and for the version before where a chain asks for it.

    That one answers instead of the model, so it needs no core of its own; but its process is there beside the other.
    """
    found = []
    for name, one in spec.integrations.items():
        if one.model is None:
            continue
        declared = one.document.data.get("constraints") or {}
        cores = one.constraints.cpu_cores if "cpu_cores" in declared else None
        memory_mib, keep = one.constraints.memory_mib, one.model.keep_loaded
        found.append(Want(name, cores, memory_mib, keep))
        if any(step.previous_version for step in one.fallback.chain):
            found.append(Want(f"{name} (previous version)", None, memory_mib, keep))
    return found


def check_budgets(spec: "WorkspaceSpec", host: "HostFacts") -> None:
    """Refuse a workspace whose models can never fit this machine.

    Parameters
    ----------
    spec
        The declaration.
    host
        The machine, within the limits of its container.

    Raises
    ------
    DeclarationError
        With who wants how much, and what there is.
    """
    serving, wanted = spec.serving, wants(spec)
    granted = host.affinity_cores if host.quota_cores is None else min(host.affinity_cores, host.quota_cores)
    cores = min(granted, serving.cpu_cores or granted)
    memory = min(host.memory_mib, serving.memory_mib or host.memory_mib)
    own = OWN_MIB + GATEWAY_MIB * serving.gateways
    there = f"there are {cores:g}" + (" (serving.cpu_cores)" if cores < granted else "")
    _hold(
        [(each.integration, each.cpu_cores or 0, each.keep_loaded) for each in wanted],
        limit=cores,
        path="constraints.cpu_cores",
        unit="cores",
        there=there,
    )
    _hold(
        [(each.integration, each.memory_mib or 0, each.keep_loaded) for each in wanted],
        limit=memory - own,
        path="constraints.memory_mib",
        unit="MiB",
        there=f"there are {memory} ({own} of them for the {serving.gateways} gateway(s) and their supervisor)",
    )


def _hold(wanted: Iterable[tuple[str, float, bool]], *, limit: float, path: str, unit: str, there: str) -> None:
    kept = [(name, amount) for name, amount, keep in wanted if keep and amount]
    passing = [(name, amount) for name, amount, keep in wanted if not keep and amount]
    largest = max(passing, key=lambda each: each[1], default=None)
    counted = [*kept, largest] if largest is not None else kept
    total = math.fsum(amount for _, amount in counted)  # 1.1, 1.8 and 0.1 are 3, and no more
    if total <= limit or math.isclose(total, limit):
        return
    by_size = sorted(counted, key=lambda each: -each[1])
    named = ", ".join(f"{name} {amount:g}" for name, amount in by_size[:10]) + (", ..." if len(by_size) > 10 else "")  # noqa: PLR2004 (enough to see)
    raise DeclarationError(
        where="brownfield.yaml",
        path=path,
        expected=f"models that fit this machine: {there} {unit}",
        got=f"{total:g} {unit} together ({named})",
        next_step="Declare less, load some on demand (model.keep_loaded: false), or take a larger machine.",
    )
