"""What began to answer, and when: entered in the store by the supervisor, never read on the request path.

An admission says which bundle answers from now on; an audit entry says under which declaration and contract.
A store that cannot be written is told in the log and does not keep the workspace from answering (F-59, F-63).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.clock import Clock
from brownfield.errors import StoreError
from brownfield.serving.loading import Loaded
from brownfield.store import Store, open_store

if TYPE_CHECKING:
    from brownfield.integration import WorkspaceSpec

__all__ = ["enter_clock", "enter_history", "enter_move"]

_log = logging.getLogger(__name__)

_ACTOR = "brownfield serve"


def enter_history(path: Path, action: str, spec: "WorkspaceSpec", loaded: Mapping[str, Loaded], clock: Clock) -> None:
    """Enter what answers from now on.

    Parameters
    ----------
    path
        The store.
    action
        ``workspace.served`` or ``workspace.reloaded``.
    spec
        The declaration in force.
    loaded
        What was loaded of it, by integration.
    clock
        Stamps the entries.
    """
    try:
        with open_store(path, clock=clock) as store:
            for name, one in loaded.items():
                if name in spec.integrations:  # a previous version was admitted before
                    _enter(store, action, spec, name, one)
    except (StoreError, OSError) as error:
        _log.error(
            "the store cannot be written: what answers now is not entered",
            extra={"event": "BF-SRV-HISTORY-LOST", "reason": str(error)},
        )


def enter_move(path: Path, action: str, integration: str, who: str, clock: Clock) -> None:
    """Enter that a model was loaded or unloaded by hand.

    Parameters
    ----------
    path
        The store.
    action
        ``model.loaded`` or ``model.unloaded``.
    integration
        Whose model.
    who
        Name of the principal; empty where nobody needs a token.
    clock
        Stamps the entry.
    """
    _append(path, clock, actor=who or "anonymous", action=action, subject=integration, detail={})


def enter_clock(path: Path, set_s: float, clock: Clock) -> None:
    """Enter that the machine's clock was set, by so many seconds: stamps before and after it are not one scale."""
    _append(path, clock, actor=_ACTOR, action="clock.set", subject="workspace", detail={"seconds": round(set_s)})


def _append(path: Path, clock: Clock, **entry: Any) -> None:
    try:
        with open_store(path, clock=clock) as store:
            store.audit.append(**entry)
    except (StoreError, OSError) as error:
        _log.error(
            "the store cannot be written: what was done is not entered",
            extra={"event": "BF-SRV-HISTORY-LOST", "reason": str(error)},
        )


def _enter(store: Store, action: str, spec: "WorkspaceSpec", name: str, one: Loaded) -> None:
    declared = spec.integrations[name]
    digest = one.bundle.digest if one.bundle else ""
    admissions = store.registry.admissions(name)
    if one.bundle and one.probe and (not admissions or admissions[-1].digest != digest):
        store.registry.admit(
            integration=name,
            name=one.bundle.name,
            version=one.bundle.version,
            digest=digest,
            probe={
                "load_s": one.probe.load_s,
                "answer_s": one.probe.answer_s,
                "peak_mib": one.probe.peak_mib,
                "largest_difference": one.probe.largest_difference,
            },
        )
    store.audit.append(
        actor=_ACTOR,
        action=action,
        subject=name,
        detail={"declaration": declared.digest, "contract": declared.contract.reference, "bundle": digest},
    )
