"""A lookup that is asked key by key: the records that a batch of rows needs, each asked for once in a run.

A record counts as the answer only when it carries the key that was asked for, or no key at all. While the service is
gone, the last resort stands for the keys that could not be asked.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from brownfield.data.pipeline.chain import Bind, Chain
from brownfield.data.pipeline.endpoints import Endpoint
from brownfield.data.pipeline.joining import Matcher
from brownfield.data.sources import Position, Probe, Pulled
from brownfield.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from brownfield.clock import Clock
    from brownfield.data.decoded import Decoded
    from brownfield.data.pipeline.streams import SourceStream
    from brownfield.integration import IntegrationSpec, Join, Location
    from brownfield.store import Store

__all__ = ["KeyedLookup", "KeyedMatcher", "of_key"]

Key = tuple[Any, ...]
_ASKING = 4
"""Requests at one time; the budget of the service may allow fewer."""


class KeyedLookup:
    """A lookup that is never read whole.

    Parameters
    ----------
    integration, name, bind, store, clock
        As :func:`brownfield.data.pipeline.lookups.bind_lookup` takes them.
    """

    def __init__(self, integration: "IntegrationSpec", name: str, bind: Bind, store: "Store", clock: "Clock") -> None:
        self.chain = Chain(integration, name, bind, store, clock)
        self.keys = integration.sources[name].keys
        self.wanted = integration.contract.schema(name).arrow
        self._sources: dict[int, Endpoint] = {}

    def probe(self) -> Probe:
        """Do nothing: the first key tells (:class:`Source`)."""
        return Probe(None, None)

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:  # noqa: ARG002 (Source)
        """Read nothing: records are asked for when they are needed (:class:`Source`)."""
        yield from ()

    def ack(self, position: Position) -> None:
        """Do nothing (:class:`Source`)."""

    def ask(self, key: Key) -> "list[Decoded] | None":
        """Ask for one key; no record where there is none, None in the last resort.

        Raises
        ------
        SourceUnavailable
            When no place of the chain is left.
        """
        return self.chain.use(lambda place: self._ask(place, key))

    def close(self) -> None:
        """End the connections that were kept open, and give their places in the budget back."""
        for source in self._sources.values():
            source.client.close()

    @property
    def resort(self) -> Mapping[str, Any]:
        """What stands for a record in the last resort."""
        place = self.chain.places[-1]
        return (place.constant or {}) if place.is_last_resort else {}

    def _ask(self, place: "Location", key: Key) -> "list[Decoded] | None":
        if place.is_last_resort:
            return None
        number = self.chain.standing.place
        if number not in self._sources:
            source = self.chain.bind(place, number)
            if not isinstance(source, Endpoint):
                raise AssertionError("places that are asked key by key are endpoints")
            source.client.keep_open = True
            self._sources[number] = source
        named = dict(zip(self.keys, key, strict=True))
        return [of_key(each, named, self.chain.where) for each in self._sources[number].ask(named, self.wanted)]


def of_key(decoded: "Decoded", key: Mapping[str, Any], where: str) -> "Decoded":
    """Give the records the key that was asked for, where they carry none.

    Raises
    ------
    SourceUnavailable
        When a record carries another key: the service answers something else than was asked.
    """
    batch = decoded.batch
    for name, value in key.items():
        column = batch.column(name)
        number = batch.schema.get_field_index(name)
        if column.null_count == len(column):
            filled = pa.repeat(pa.scalar(value, column.type), len(column))
            batch = batch.set_column(number, batch.schema.field(number), filled)
        elif any(each != value for each in column.to_pylist()):
            raise SourceUnavailable("it answers with another record than it was asked for", where=where)
    return replace(decoded, batch=batch)


class KeyedMatcher:
    """One join with a lookup that is asked key by key; used as :class:`Matcher` is.

    Parameters
    ----------
    join
        As declared; on the whole key of the lookup.
    lookup
        Is asked.
    stream
        Where the lookup's records are counted and kept.
    take
        Checks records of the stream, and keeps them.
    where
        Place of the declaration, for messages.
    """

    def __init__(
        self,
        join: "Join",
        lookup: KeyedLookup,
        stream: "SourceStream",
        take: "Callable[[SourceStream, str, Decoded], None]",
        where: str,
    ) -> None:
        self.join = join
        self.where = where
        self._lookup = lookup
        self._stream = stream
        self._take = take
        self._asked: set[Key] = set()
        self._failed: set[Key] = set()

    def apply(self, rows: pa.Table) -> pa.Table:
        """Ask for the keys that are new, and add the declared fields to each row."""
        if rows.num_rows:
            columns = [rows[name].to_pylist() for name in self._lookup.keys]
            keys = list(zip(*columns, strict=True))
            self._fetch([key for key in dict.fromkeys(keys) if key not in self._asked and None not in key])
        joined = Matcher(self.join, pa.concat_tables(self._stream.kept), self.where).apply(rows)
        if rows.num_rows and self._failed:
            joined = self._with_resort(joined, [key in self._failed for key in keys])
        return joined

    def _fetch(self, keys: list[Key]) -> None:
        with ThreadPoolExecutor(_ASKING) as asking:
            for key, found in zip(keys, asking.map(self._lookup.ask, keys), strict=True):
                self._asked.add(key)
                if found is None:
                    self._failed.add(key)
                for decoded in found or ():
                    self._take(self._stream, f"{self._lookup.chain.where}#{len(self._asked)}", decoded)

    def _with_resort(self, joined: pa.Table, failed: list[bool]) -> pa.Table:
        """Put what stands for a record in place of those that could not be asked for."""
        import pyarrow.compute as pc

        for name in (*self.join.take, *([self.join.exists] if self.join.exists else [])):
            number = joined.schema.get_field_index(name)
            constant = pa.scalar(self._lookup.resort.get(name), joined.schema.field(number).type)
            joined = joined.set_column(number, name, pc.if_else(pa.array(failed), constant, joined[name]))
        return joined
