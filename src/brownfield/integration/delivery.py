"""What a kind of connection can promise as a source and as a sink, and what follows for each pair of them.

Every kind's options class says it in flags (``gives``, ``takes``); nothing here knows the name of a kind.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from brownfield.integration.connections import ConnectionSpec
    from brownfield.integration.integration import IntegrationSpec

__all__ = ["Delivery", "SinkFlags", "SourceFlags", "deliveries", "delivery_claim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFlags:
    """What a kind of connection promises as a source.

    Parameters
    ----------
    replayable
        What was read and not acknowledged comes again.
    """

    replayable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFlags:
    """What a kind of connection promises as a sink.

    Parameters
    ----------
    transactional
        Rows and the note that they are written commit together in the sink itself.
    atomic_publish
        What is written is seen whole or not at all, and publishing it leaves a proof.
    dedupes_by_id
        The sink drops what comes twice under one identifier, within a window of time.
    """

    transactional: bool = False
    atomic_publish: bool = False
    dedupes_by_id: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What holds between one source and one sink.

    Parameters
    ----------
    source, source_kind
        The source and the kind of its connection.
    sink, sink_kind
        The write-back and the kind of its connection.
    mechanism
        How the records get there.
    claim
        What is promised when anything is killed at any moment.
    """

    source: str
    source_kind: str
    sink: str
    sink_kind: str
    mechanism: str
    claim: str

    def __str__(self) -> str:
        return (
            f"{self.source} ({self.source_kind}) -> {self.sink} ({self.sink_kind}): {self.claim}, by {self.mechanism}"
        )


def delivery_claim(gives: SourceFlags, takes: SinkFlags) -> tuple[str, str]:
    """Say by which mechanism records get from a source to a sink, and what is promised.

    Returns
    -------
    tuple of str
        Mechanism and claim.

    Examples
    --------
    >>> delivery_claim(SourceFlags(), SinkFlags(transactional=True))
    ('outbox; rows and effect ledger in one transaction of the sink', 'exactly-once effect')
    >>> delivery_claim(SourceFlags(replayable=False), SinkFlags())[1]
    'at least once, with the message id as key; from the commit on'
    """
    if takes.transactional:
        mechanism, claim = "rows and effect ledger in one transaction of the sink", "exactly-once effect"
    elif takes.atomic_publish:
        mechanism, claim = "stage, rename, mark", "exactly-once appearance"
    elif takes.dedupes_by_id:
        mechanism = "message id that the broker knows again, confirm"
        claim = "exactly once within the broker's window; beyond it at least once, with the message id as key"
    else:
        mechanism, claim = "message id, confirm", "at least once, with the message id as key"
    if not gives.replayable:
        claim += "; from the commit on"
    return f"outbox; {mechanism}", claim


def deliveries(integration: "IntegrationSpec", connections: "Mapping[str, ConnectionSpec]") -> "Iterator[Delivery]":
    """Give what holds for each declared pair of a feed and a sink of one integration."""
    for name, spec in integration.write_back.items():
        source = integration.unified[spec.from_].from_
        reading = connections[integration.sources[source].chain[0].connection or ""]
        writing = connections[spec.to.connection or ""]
        mechanism, claim = delivery_claim(reading.options.gives, writing.options.takes)
        yield Delivery(
            source=source,
            source_kind=reading.kind,
            sink=name,
            sink_kind=writing.kind,
            mechanism=mechanism,
            claim=claim,
        )
