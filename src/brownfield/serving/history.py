"""What began to answer, and when: entered in the store by the manager's clerk, never read on the request path.

An admission says which bundle answers from now on; an audit entry says under which declaration and contract.
A store that cannot be written is told in the log and does not keep the workspace from answering (F-59, F-63).
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from brownfield.errors import StoreError
from brownfield.serving.clerk import Answering, Clerk
from brownfield.serving.loading import Loaded

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec, WorkspaceSpec

__all__ = ["enter_clock", "enter_history", "enter_move"]

_log = logging.getLogger(__name__)

_ACTOR = "brownfield serve"


def enter_history(clerk: Clerk, action: str, spec: "WorkspaceSpec", loaded: Mapping[str, Loaded]) -> None:
    """Enter what answers from now on.

    Parameters
    ----------
    clerk
        Writes the store.
    action
        ``workspace.served`` or ``workspace.reloaded``.
    spec
        The declaration in force.
    loaded
        What was loaded of it, by integration; a previous version among it was admitted before.
    """
    declared = spec.integrations
    with _told_when_lost("what answers now"):
        clerk.enter(_ACTOR, action, tuple(_answering(declared[n], one) for n, one in loaded.items() if n in declared))


def enter_move(clerk: Clerk, action: str, integration: str, who: str) -> None:
    """Enter that a model was loaded or unloaded by hand.

    Parameters
    ----------
    clerk
        Writes the store.
    action
        ``model.loaded`` or ``model.unloaded``.
    integration
        Whose model.
    who
        Name of the principal; empty where nobody needs a token.
    """
    with _told_when_lost("what was done"):
        clerk.append(actor=who or "anonymous", action=action, subject=integration, detail={})


def enter_clock(clerk: Clerk, set_s: float) -> None:
    """Enter that the machine's clock was set, by so many seconds: stamps before and after it are not one scale."""
    with _told_when_lost("what was done"):
        clerk.append(actor=_ACTOR, action="clock.set", subject="workspace", detail={"seconds": round(set_s)})


@contextmanager
def _told_when_lost(what: str) -> Iterator[None]:
    try:
        yield
    except (StoreError, OSError) as error:
        _log.error(
            f"the store cannot be written: {what} is not entered",
            extra={"event": "BF-SRV-HISTORY-LOST", "reason": str(error)},
        )


def _answering(spec: "IntegrationSpec", one: Loaded) -> Answering:
    probe = one.probe
    bundle = one.bundle if probe is not None else None  # what its probe refused answers nobody
    found = None
    if probe is not None:
        found = {
            "load_s": probe.load_s,
            "answer_s": probe.answer_s,
            "peak_mib": probe.peak_mib,
            "largest_difference": probe.largest_difference,
        }
    return Answering(
        integration=spec.name,
        declaration=spec.digest,
        contract=spec.contract.reference,
        digest=bundle.digest if bundle is not None else "",
        name=bundle.name if bundle is not None else "",
        version=bundle.version if bundle is not None else "",
        probe=found,
    )
