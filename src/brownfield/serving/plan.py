"""What the manager tells every gateway: which bundle answers for an integration, where its workers are, or why not."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Placement", "Plan", "State"]

State: TypeAlias = Literal["none", "loading", "ready", "restarting", "unloaded", "failed", "quarantined"]
"""Where the model of an integration stands; ``none`` where none is declared."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The model of one integration.

    Parameters
    ----------
    integration
        Its name.
    state, reason
        Where it stands, and why it cannot be asked; empty while it can.
    fingerprint
        Equal for equal bundles under equal limits; empty where no bundle could be opened.
    bundle, digest, version
        Folder, digest and version of the bundle.
    shares_batches
        Whether requests of different callers may share one call.
    cost_curve_us
        Microseconds in the engine by the rows of a call, measured when it was tried; empty where that was not.
    sockets
        Where its processes listen, by the name of the socket.
    on_demand
        Whether a request may have it loaded.
    load_s
        How long its process took to become ready when it was last started, or tried.
    """

    integration: str
    state: State = "none"
    reason: str = ""
    fingerprint: str = ""
    bundle: str = ""
    digest: str = ""
    version: str = ""
    shares_batches: bool = False
    cost_curve_us: Mapping[int, float] = {}
    sockets: tuple[str, ...] = ()
    on_demand: bool = False
    load_s: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Every integration of the declaration in force.

    Parameters
    ----------
    declaration
        Digest of the declaration that it belongs to.
    started
        Whether every model has been tried once: until then the workspace is not ready.
    placements
        One for each integration.
    """

    declaration: str
    started: bool
    placements: tuple[Placement, ...]
