"""How a run begins: it is entered, those that were killed are closed, and the tables are what the store lists."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.data.pipeline.parts import settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.integration import IntegrationSpec
    from brownfield.store import Part, SourceState, Store


__all__ = ["Begun", "begin", "settle_all"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was entered, and what the store knew at that moment."""

    run_id: str
    listed: "Mapping[str, list[Part]]"
    positions: "Mapping[str, Any]"
    states: "Mapping[str, SourceState | None]"


def begin(integration: "IntegrationSpec", store: "Store", kind: str | None) -> Begun:
    """Enter a run, close those that were killed, and look at one moment of the store; without a kind only look."""
    name = integration.name
    with store.commit() as tx:
        run_id = "0" * 32
        if kind is not None:
            tx.ledger.close_abandoned(name, kind)
            run_id = tx.ledger.begin_run(
                integration=name,
                kind=kind,
                contract=integration.contract.reference,
                contract_digest=integration.contract.digest,
            )
        return Begun(
            run_id,
            tx.parts.listed(name),
            {source: tx.ledger.position(name, source) for source in integration.sources},
            {source: tx.ledger.state(name, source) for source in integration.sources},
        )


def settle_all(output: Path, listed: "Mapping[str, list[Part]]") -> None:
    """Make every table's folder what the store lists."""
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    for name in folders | set(listed):
        settle(output / name, [each.file for each in listed.get(name, [])])
