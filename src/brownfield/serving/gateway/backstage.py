"""What a gateway asks of the process behind it: figures of all gateways together, and models loaded and unloaded."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Backstage"]


class Backstage(Protocol):
    """The manager of a workspace, seen from one of its gateways.

    Every method raises :class:`~brownfield.errors.Unavailable` while the manager cannot be asked.
    """

    @property
    def gateways(self) -> int:
        """How many answer behind one address."""
        ...

    async def metrics(self) -> str:
        """Every metric of all gateways together, as Prometheus text."""
        ...

    async def statistics(self) -> Sequence[Mapping[str, Any]]:
        """Statistics of every model over all gateways, as the V2 statistics extension spells them."""
        ...

    async def pipeline(self, integration: str) -> Mapping[str, Any]:
        """State of the pipeline of an integration."""
        ...

    async def index(self) -> Sequence[Mapping[str, str]]:
        """Every model with its state, as the V2 repository extension spells them."""
        ...

    async def load(self, integration: str, who: str) -> None:
        """Load a model by hand."""
        ...

    async def unload(self, integration: str, who: str) -> None:
        """Unload a model by hand."""
        ...
