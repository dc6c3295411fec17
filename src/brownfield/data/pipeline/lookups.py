"""A lookup with a chain: which of its places is read, and the last good copy that is kept of it.

A place is read whole before any of its records is used, so a source that goes away half-way leaves nothing behind.
Where the lookup stands is kept in the store, for the next run and for people; one process at a time probes the way
back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec
import pyarrow as pa

from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.chain import Bind, Chain, lookup_folder
from brownfield.data.pipeline.custody import is_classified
from brownfield.data.pipeline.failover import State
from brownfield.data.pipeline.guards import Shaped
from brownfield.data.pipeline.mapping import silo_of
from brownfield.data.pipeline.snapshots import Seal, Snapshots, age_s, describe, lost_keys
from brownfield.data.sources import Position, Probe, Pulled, Source
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.security import decrypt, encrypt

if TYPE_CHECKING:
    from brownfield.clock import Clock
    from brownfield.data.pipeline.streams import SourceStream
    from brownfield.integration import IntegrationSpec, Location
    from brownfield.security import Keyring
    from brownfield.store import Store

__all__ = ["STAMP", "Held", "as_held", "bind_lookup", "keep_copy", "snapshots_of"]

STAMP = b"brownfield.lookups"
"""Key of a part's metadata under which it says what its lookups were read from."""

_SKEW_S = 5.0
"""By how much the clock of a source may run ahead of ours and be believed."""


@runtime_checkable
class Dated(Protocol):
    """A source that knows which moment its records show."""

    def as_of(self) -> datetime | None:
        """Give that moment, by the source's own clock; None where it is now, ``UNKNOWN`` where nobody can tell."""
        ...


@dataclass(frozen=True)
class Held:
    """What a lookup was read from.

    Parameters
    ----------
    state
        Which place of the chain.
    as_of_utc
        The moment that its records show; None where it is unknown.
    pulled
        The records, read to their end; None while the source itself is read.
    source
        Where they came from; None for what is kept with us.
    resort
        What stands for every record in the last resort; None elsewhere.
    chain
        Where the lookup stands; None for a chain of one place.
    """

    state: State
    as_of_utc: datetime | None
    pulled: tuple[Pulled, ...] | None = None
    source: Source | None = None
    resort: Mapping[str, Any] | None = None
    chain: Chain | None = None

    def give_up(self, reason: str) -> bool:
        """Leave the place that was read, for what it gave cannot be used; whether there is another."""
        if self.chain is None or self.is_copy:
            return False
        self.chain.leave(reason)
        return True

    @property
    def is_copy(self) -> bool:
        """Whether the records are not the source's own of now."""
        return self.state in {State.SNAPSHOT, State.FALLBACK}

    @property
    def as_of(self) -> str:
        """The moment as RFC 3339, or ``unknown``."""
        return "unknown" if self.as_of_utc is None else self.as_of_utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def probe(self) -> Probe:
        """Say how many records there are (:class:`Source`)."""
        return Probe(sum(each.decoded.records for each in self.pulled or ()), None)

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:  # noqa: ARG002 (Source)
        """Give the records that were read (:class:`Source`)."""
        yield from self.pulled or ()

    def ack(self, position: Position) -> None:
        """Tell the source (:class:`Source`)."""
        if self.source is not None:
            self.source.ack(position)


@dataclass(frozen=True)
class _ShapedHeld(Held):
    """Read from the primary, whose fields are compared with those of the run before."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def shape(self) -> Mapping[str, str]:
        """Give each field's description."""
        return self.fields


def as_held(source: Source, began_utc: datetime) -> Held:
    """Say of any lookup what it is read from: a chain of one place is its primary."""
    return source if isinstance(source, Held) else Held(State.PRIMARY, moment(source, began_utc, None), source=source)


def moment(source: Source, began_utc: datetime, lag_s: int | None) -> datetime | None:
    """Say which moment the records of a source show.

    A source whose clock runs ahead of ours cannot be believed: its moment is unknown, and never counts as fresh.
    """
    silo = silo_of(source)
    told = silo.as_of() if isinstance(silo, Dated) else None
    if told is not None and told > began_utc + timedelta(seconds=_SKEW_S):
        return None
    return min(began_utc if told is None else told, began_utc) - timedelta(seconds=lag_s or 0)


def snapshots_of(integration: "IntegrationSpec", name: str, keys: "Keyring | None") -> Snapshots:
    """Find the copies of a lookup; they are encrypted where the contract classifies a field."""
    declared = integration.sources[name].snapshots
    return Snapshots(
        lookup_folder(integration, name),
        keep=declared.keep,
        max_mib=declared.max_mib,
        seal=seal_of(integration, name, keys),
    )


def seal_of(integration: "IntegrationSpec", name: str, keys: "Keyring | None") -> Seal | None:
    """Give what encrypts the copies of a lookup; None where the contract classifies none of its fields.

    Raises
    ------
    DeclarationError
        When it classifies one, and no key is declared.
    """
    if not is_classified([integration.contract.schema(name)]):
        return None
    if keys is None:
        raise DeclarationError(
            where=f"{integration.name}.{name}",
            path="security.encryption_key",
            expected="a key, for copies of it hold fields that the contract classifies",
            got="none",
            next_step="Declare security: {encryption_key: ...} in brownfield.yaml, or leave the snapshot out.",
        )
    context = f"lookups/{integration.name}/{name}"
    return Seal(
        lambda content, file: encrypt(content, keys.active, f"{context}/{file}"),
        lambda content, file: decrypt(content, keys, f"{context}/{file}"),
    )


def keep_copy(
    integration: "IntegrationSpec",
    held: Held,
    rows: pa.Table,
    stream: "SourceStream",
    clock: "Clock",
    encryption: "Keyring | None",
) -> None:
    """Keep a whole pull as the last good copy, when the guards hold against the one before.

    What a replica shows of an earlier moment than the copy does not take the copy's place.

    Raises
    ------
    RunPaused
        When a guard does not hold; the copy before stays.
    StoreError
        When it cannot be written; the copy before stays.
    """
    name = stream.check.name
    snapshots = snapshots_of(integration, name, encryption)
    keys = integration.sources[name].keys
    facts = describe(rows, stream.check.schema, keys)
    try:
        before, old = snapshots.last_good()
    except SourceUnavailable:
        pass
    else:
        common = {key: (before.null_percent[key], now) for key, now in facts["null_percent"].items()
                  if key in before.null_percent}  # fmt: skip
        same = set(keys) <= set(old.column_names)
        lost = lost_keys(old, rows, keys) if same and before.keys_sha256 != facts["keys_sha256"] else 0
        stream.guards.copied((before.rows, rows.num_rows), lost, common)
        if held.state is not State.PRIMARY and _shows_less(held.as_of_utc, before.as_of_utc):
            return
    snapshots.write(
        rows,
        {
            **facts,
            "contract": integration.contract.reference,
            "contract_digest": integration.contract.digest,
            "as_of_utc": held.as_of_utc,
            "taken_utc": clock.now_utc(),
            "state": str(held.state),
            "position": stream.position,
        },
    )


def _shows_less(as_of_utc: datetime | None, before_utc: datetime | None) -> bool:
    """Say whether a moment is earlier than another, or unknown beside one that is known."""
    return before_utc is not None and (as_of_utc is None or as_of_utc < before_utc)


def bind_lookup(
    integration: "IntegrationSpec",
    name: str,
    bind: Bind,
    store: "Store",
    clock: "Clock",
    encryption: "Keyring | None" = None,
) -> Held:
    """Read a lookup whole, from the place of its chain where its fail-over stands.

    Parameters
    ----------
    integration, name
        Whose lookup.
    bind
        Makes a source of a place.
    store
        Keeps where it stands, and each change.
    clock
        Whose time counts.
    encryption
        Keys of the copies.

    Raises
    ------
    SourceUnavailable
        When no place is left; with the last place's reason.
    """
    chain = Chain(integration, name, bind, store, clock)
    held = chain.use(lambda place: _read_place(chain, place, encryption))
    chain.enter(chain.standing, as_of_utc=held.as_of_utc)
    return held


def _read_place(chain: Chain, place: "Location", encryption: "Keyring | None") -> Held:
    state, index, now_utc = chain.state, chain.standing.place, chain.clock.now_utc()
    if place.is_last_resort:
        _check_not_referred_to(chain)
        return Held(state, None, (), resort=place.constant or {})
    if place.snapshot is not None:
        return _read_copy(chain, place, now_utc, encryption)
    source = chain.bind(place, index)
    as_of_utc = moment(source, now_utc, place.lag_s)
    pulled = tuple(source.read(chain.integration.contract.schema(chain.name).arrow))
    if index == 0 and isinstance(source, Shaped):
        return _ShapedHeld(state, as_of_utc, pulled, source, chain=chain, fields=source.shape())
    return Held(state, as_of_utc, pulled, source, chain=chain)


def _read_copy(chain: Chain, place: "Location", now_utc: datetime, encryption: "Keyring | None") -> Held:
    manifest, rows = snapshots_of(chain.integration, chain.name, encryption).last_good()
    age_h = age_s(manifest.as_of_utc, now_utc) / 3_600
    if place.max_age_h is not None and age_h > place.max_age_h:
        raise SourceUnavailable(
            f"its last good copy is {age_h:.1f} h old; at most {place.max_age_h:g} h are admitted",
            where=chain.where,
        )
    wanted = chain.integration.contract.schema(chain.name).arrow
    try:
        rows = rows.select(wanted.names).cast(wanted)
    except (KeyError, pa.ArrowException) as error:
        raise SourceUnavailable(
            f"its last good copy was taken under the contract {manifest.contract}, with other fields",
            where=chain.where,
        ) from error
    pulled, row = [], 0
    for batch in rows.combine_chunks().to_batches(max_chunksize=65_536):
        pulled.append(Pulled(f"snapshot#{manifest.sha256}", _decoded(batch, row), {}))
        row += batch.num_rows
    return Held(State.SNAPSHOT, manifest.as_of_utc, tuple(pulled))


def _check_not_referred_to(chain: Chain) -> None:
    """Refuse the last resort where rules need the lookup's keys: nobody may guess which there are."""
    for schema in chain.integration.contract.schemas.values():
        for target in schema.batches.references:
            if target.partition(".")[0] == chain.name:
                raise SourceUnavailable(
                    f"{schema.name} refers to its keys, which its last resort does not have", where=chain.where
                )


def _decoded(batch: pa.RecordBatch, first: int) -> Decoded:
    """Give rows of a copy as records; their bytes are what a row of a table is kept as."""
    return Decoded(
        batch,
        lambda row: f"row {first + row + 1}",
        lambda row: msgspec.json.encode(batch.slice(row, 1).to_pylist()[0]),
    )
