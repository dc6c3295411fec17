"""``sources``: where the records lie.

A *lookup* is reference data, found by key; its chain is tried in order (primary, replica, last good snapshot).
A *feed* is records to be read once, in order; it pauses and resumes and is never served from a snapshot.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from brownfield.integration.brokers import MessagesSpec, QueueName
from brownfield.integration.changes import ChangesSpec
from brownfield.integration.endpoints import EndpointSpec
from brownfield.integration.intake import IntakeSpec
from brownfield.integration.kinds import FieldName, FieldNames, Identifier, RelativePath, names
from brownfield.integration.lookups import FailoverSpec, SnapshotsSpec
from brownfield.integration.reader import BAD, Contradiction, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath, describe, key_names, listed

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["Cursor", "Location", "ParkSpec", "SourceSpec"]


def is_pattern(path: str | None) -> bool:
    """Tell whether a path stands for any number of files."""
    return path is not None and not {"*", "?", "["}.isdisjoint(path)


class Cursor(Spec, frozen=True, kw_only=True):
    """How a feed knows what it has read."""

    column: Annotated[FieldName, Meta(description="Column that only grows: the position in the feed.")]
    key: Annotated[FieldNames, Meta(description="Column, or columns, that name a record once and for all.")]
    lag_s: Annotated[
        int, Meta(ge=0, le=604_800, description="Seconds to stay behind the newest record, for late commits.")
    ] = 0


class ParkSpec(Spec, frozen=True, kw_only=True):
    """Order kept within a key: later records wait while one of their key is in quarantine."""

    key: Annotated[FieldNames, Meta(description="Field, or fields, of which records keep their order.")]
    max_age_h: Annotated[
        float, Meta(gt=0, le=8_784, description="Hours that records may wait; then runs stop until a person looked.")
    ] = 24
    max_records: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Records that may wait; with more, runs stop.")
    ] = 10_000

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields."""
        return names(self.key)


class Location(Spec, frozen=True, kw_only=True):
    """One place of a source: a table, a file or a queue of a connection, or the last good snapshot."""

    connection: Annotated[Identifier, Meta(description="Name of a connection of the workspace.")] | None = None
    table: Annotated[FieldName, Meta(description="Table or view, in a connection to a database.")] | None = None
    path: (
        Annotated[
            RelativePath,
            Meta(description="File, in a connection that holds files; of a feed also a pattern with * ? [ ]."),
        ]
        | None
    ) = None
    queue: Annotated[QueueName, Meta(description="Queue, in a connection to a broker.")] | None = None
    messages: Annotated[MessagesSpec, Meta(description="How the messages of a queue are taken.")] | None = None
    endpoint: Annotated[EndpointSpec, Meta(description="Request, in a connection to a service.")] | None = None
    format: Annotated[str, Meta(description="Format of file, message or answer; its options stand beside it.")] | (
        None
    ) = None
    intake: Annotated[IntakeSpec, Meta(description="How the files of a feed are taken.")] | None = None
    snapshot: (
        Annotated[str, Meta(pattern="^last_good$", description="last_good: the last copy that passed the contract.")]
        | None
    ) = None
    max_age_h: (
        Annotated[float, Meta(gt=0, le=8_784, description="Hours after which the snapshot is no longer used.")] | None
    ) = None
    mapping: (
        Annotated[RelativePath, Meta(description="Mapping file: how its columns become the contract's fields.")] | None
    ) = None
    constant: (
        Annotated[Mapping[FieldName, Any], Meta(description="Stands for every record of a lookup that is gone.")] | None
    ) = None
    missing: Annotated[bool, Meta(description="True: what a lookup that is gone would say is missing.")] = False
    deadline_ms: (
        Annotated[int, Meta(ge=1, le=3_600_000, description="Longest time for reading or probing this place.")] | None
    ) = None
    lag_s: (
        Annotated[int, Meta(ge=0, le=604_800, description="Seconds by which a copy may be behind what it copies.")]
        | None
    ) = None
    options: Annotated[Any, Meta(description="The options of the format.")] = None

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read the place; keys that are not its own are the options of its format."""
        return cls.beside(reader, value, path, ())

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:
        """Return one branch without a format and one for each installed format."""
        own = schemas[cls.__name__]
        plain = {key: schema for key, schema in own["properties"].items() if key not in {"format", "options"}}
        branches = [{**own, "properties": plain}]
        for name, options in sorted(registry.formats.items()):
            schema = schemas[options.__name__]
            properties = {**plain, "format": {"const": name, "description": schema["description"]}}
            required = ["connection", "format", *schema["required"]]
            branch = {**own, "properties": {**properties, **schema["properties"]}, "required": required}
            branches.append({**branch, "anyOf": [{"required": [key]} for key in ("path", "queue", "endpoint")]})
        return {"oneOf": branches}

    @classmethod
    def beside(cls, reader: Reader, value: Any, path: KeyPath, others: tuple[str, ...]) -> Any:
        """Read a place that stands flat beside the keys ``others`` of something else."""
        own = tuple(key for key in key_names(cls) if key != "options")
        if not isinstance(value, dict):
            return reader.note(path, f"a mapping with the keys {listed(own)}", describe(value))
        options: Any = None
        further: tuple[str, ...] = ()
        if "format" in value:
            options_class = reader.installed("formats", value["format"], (*path, "format"))
            if options_class is BAD:
                return BAD
            further = key_names(options_class)
            chosen = {key: item for key, item in value.items() if key in further}
            options = options_class.from_declared(reader, chosen, path)
        known = reader.known_keys(value, (*own, *further, *others), path)
        arguments = reader.arguments(cls, {key: item for key, item in value.items() if key in own}, path)
        if not known or arguments is BAD or options is BAD:
            return BAD
        return reader.checked(cls(**arguments, options=options), path)

    def contradictions(self) -> Iterator[Contradiction]:  # noqa: C901 (one clause for each kind of place)
        """Refuse what is not one of a table, a file with its format, a queue, an endpoint, and an aged snapshot."""
        if self.constant is not None or self.missing:
            yield from self._alone("missing" if self.constant is None else "constant")
            return
        if self.snapshot is not None:
            yield from self._of_snapshot()
            return
        if self.max_age_h is not None:
            yield Contradiction(("max_age_h",), "max_age_h beside snapshot only", "no snapshot")
        if self.connection is None:
            yield Contradiction((), "a connection, or a snapshot", "neither")
        elif self.endpoint is not None:
            yield from self._endpoint_contradictions()
            return
        elif (places := sum(each is not None for each in (self.table, self.path, self.queue))) != 1:
            yield Contradiction((), "either table or path or queue", "several" if places else "none of them")
        if self.path is not None and self.format is None:
            yield Contradiction((), "format beside path", "none", "Formats are declared, never guessed.")
        if self.intake is not None and self.path is None:
            yield Contradiction(("intake",), "intake beside path only", "no path")
        if self.format is not None and self.path is None and self.queue is None:
            yield Contradiction(("format",), "format beside path or queue only", "neither")
        if self.messages is not None and self.queue is None:
            yield Contradiction(("messages",), "messages beside queue only", "no queue")

    def _of_snapshot(self) -> Iterator[Contradiction]:
        if self.connection is not None:
            yield Contradiction(("connection",), "no connection beside snapshot", str(self.connection))
        if self.mapping is not None:
            yield Contradiction(("mapping",), "no mapping beside snapshot, which holds the fields", "one")
        if self.max_age_h is None:
            yield Contradiction((), "max_age_h beside snapshot", "none", "Say how old an answer may be.")

    def _endpoint_contradictions(self) -> Iterator[Contradiction]:
        for other in ("table", "path"):
            if getattr(self, other) is not None:
                yield Contradiction((other,), f"either endpoint or {other}", "both")
        if self.format not in {"json", "xml"}:
            yield Contradiction(("format",), "format: json or format: xml beside endpoint", self.format or "nothing")
        if self.endpoint is not None and self.endpoint.soap is not None and self.format == "json":
            yield Contradiction(("format",), "format: xml beside soap", "json")

    def _alone(self, key: str) -> Iterator[Contradiction]:
        """Refuse what stands beside a way out that reads nothing."""
        for other in (
            "connection",
            "table",
            "path",
            "endpoint",
            "format",
            "snapshot",
            "max_age_h",
            "deadline_ms",
            "lag_s",
        ):
            if getattr(self, other) is not None:
                yield Contradiction((other,), f"nothing beside {key}", other)
        if self.constant is not None and self.missing:
            yield Contradiction(("missing",), "either constant or missing", "both")

    @property
    def is_last_resort(self) -> bool:
        """Whether it stands for records instead of holding them."""
        return self.constant is not None or self.missing


class SourceSpec(Spec, frozen=True, kw_only=True):
    """One source: a lookup with its chain, or a feed with its cursor."""

    lookup: Annotated[FieldNames, Meta(description="Field, or fields, by which a record is found.")] | None = None
    feed: Annotated[bool, Meta(description="True where the records are read once, in order.")] = False
    chain: Annotated[
        tuple[Location, ...],
        Meta(min_length=1, max_length=8, description="Places, tried in order; one place may stand flat instead."),
    ] = ()
    cursor: Annotated[Cursor, Meta(description="How a feed knows what it has read.")] | None = None
    changes: (
        Annotated[ChangesSpec, Meta(description="Read what happened to the table, from a change table.")] | None
    ) = None
    tolerance: Annotated[
        Literal["none", "data", "all"],
        Meta(
            description="What a run puts up with: none: no refused record; data: refused records; all: also a feed "
            "that is out of reach, which the next run reads."
        ),
    ] = "data"
    max_refused_percent: (
        Annotated[float, Meta(ge=0, le=100, description="Share of refused records above which a run stops.")] | None
    ) = None
    refused_window_rows: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="Records over which that share is taken, again and again.")
    ] = 10_000
    max_new_code_percent: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=100,
                description="Share of records refused with one code that was never seen before, above "
                "which a run stops: the source changed.",
            ),
        ]
        | None
    ) = None
    on_breach: Annotated[
        Literal["pause", "shadow", "fallback"],
        Meta(
            description="What happens above max_refused_percent. pause: the run stops; shadow: all records that a feed "
            "gave go to quarantine; fallback: a lookup counts as out of reach."
        ),
    ] = "pause"
    park: Annotated[ParkSpec, Meta(description="Order kept within a key.")] | None = None
    max_drop_percent: (
        Annotated[
            float, Meta(ge=0, le=100, description="Share by which a pull or file may have fewer records than the last.")
        ]
        | None
    ) = None
    max_lost_keys_percent: (
        Annotated[float, Meta(ge=0, le=100, description="Share of the last copy's keys that a pull may lack.")] | None
    ) = None
    max_null_jump_percent: (
        Annotated[float, Meta(ge=0, le=100, description="Points by which a field may be missing more often.")] | None
    ) = None
    failover: Annotated[FailoverSpec, Meta(description="When a lookup changes its place.")] = FailoverSpec()
    snapshots: Annotated[SnapshotsSpec, Meta(description="The copies that a lookup keeps.")] = SnapshotsSpec()

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read the source; a place that stands flat becomes a chain of one."""
        if not isinstance(value, dict) or "chain" in value:
            return reader.struct(cls, value, path)
        place = Location.beside(reader, value, path, key_names(cls))
        arguments = reader.arguments(cls, value, path)
        if place is BAD or arguments is BAD:
            return BAD
        return reader.checked(cls(**arguments, chain=(place,)), path)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:
        """Return the branch with a chain, and one for each place that may stand flat."""
        own = schemas[cls.__name__]
        beside = {key: schema for key, schema in own["properties"].items() if key != "chain"}
        flat = [
            {**branch, "properties": {**beside, **branch["properties"]}, "description": own["description"]}
            for branch in Location.published(schemas, registry)["oneOf"]
        ]
        return {"oneOf": [{**own, "required": ["chain"]}, *flat]}

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what is not one of a lookup, which may have ways out, and a feed, which may have a cursor."""
        if self.feed == (self.lookup is not None):
            got = "both" if self.feed else "neither"
            yield Contradiction(
                (), "either lookup or feed: true", got, "A lookup is found by key, a feed is read once."
            )
        if self.feed and len(self.chain) > 1:
            yield Contradiction(("chain",), "one place for a feed", str(len(self.chain)), "A feed pauses and resumes.")
        if self.feed and any(place.snapshot is not None or place.is_last_resort for place in self.chain):
            yield Contradiction(("chain",), "no snapshot for a feed", "one", "Records are never scored from a copy.")
        if self.feed and (self.failover, self.snapshots) != (FailoverSpec(), SnapshotsSpec()):
            yield Contradiction((), "failover and snapshots on a lookup only", "a feed")
        yield from self._unheld()
        yield from self._misplaced_changes()
        for index, place in enumerate(self.chain):
            if self.is_asked_by_key and place.mapping is not None:
                yield Contradiction(("chain", index, "mapping"), "no mapping where records are asked key by key", "one")
        if self.cursor is not None and not self.feed:
            yield Contradiction(("cursor",), "a cursor on a feed only", "a lookup")
        yield from self._queue_contradictions()
        if self.tolerance == "all" and not self.feed:
            yield Contradiction(("tolerance",), "none or data", "all", "A lookup's ways out are its chain.")
        if self.feed and self.max_drop_percent is not None and any(place.path is None for place in self.chain):
            yield Contradiction(("max_drop_percent",), "a lookup, or a feed of files", "another feed")
        yield from self._of_files()
        yield from self._order()

    def _order(self) -> Iterator[Contradiction]:
        """Refuse a chain in another order than: places that are read, the snapshot, the last resort."""
        ranks = [2 if place.is_last_resort else 1 if place.snapshot is not None else 0 for place in self.chain]
        for index, (rank, following) in enumerate(pairwise(ranks)):
            if rank and following <= rank:
                what = "the snapshot" if rank == 1 else "constant or missing"
                yield Contradiction(("chain", index), f"{what} as the last place", "places after it")
        if not self.feed and ranks and ranks[0]:
            yield Contradiction(
                ("chain", 0),
                "a connection before the snapshot" if ranks[0] == 1 else "a connection before the last resort",
                "none",
            )
        by_key = [place.endpoint is not None and bool(place.endpoint.keys) for place in self.chain]
        if any(by_key) and not all(by_key[: ranks.index(2) if 2 in ranks else len(ranks)]):  # noqa: PLR2004 (the rank of a last resort)
            yield Contradiction(("chain",), "places that are all asked key by key, or none", "some")
        if any(by_key) and self.feed:
            yield Contradiction(("chain",), "a lookup, to ask key by key", "a feed")
        if not self.keeps_copies:
            for key in ("max_lost_keys_percent", "max_null_jump_percent"):
                if getattr(self, key) is not None:
                    yield Contradiction((key,), "a snapshot in the chain, to compare with", "none")

    @property
    def is_asked_by_key(self) -> bool:
        """Whether single records are asked for, when they are needed, instead of reading all of them."""
        return bool(self.chain) and self.chain[0].endpoint is not None and bool(self.chain[0].endpoint.keys)

    @property
    def keeps_copies(self) -> bool:
        """Whether whole pulls are kept: the chain names the last good copy."""
        return any(place.snapshot is not None for place in self.chain)

    def _unheld(self) -> Iterator[Contradiction]:
        """Refuse what a feed alone, or a lookup alone, does with refused records."""
        if self.park is not None and not self.feed:
            yield Contradiction(("park",), "park on a feed only", "a lookup")
        if self.on_breach == ("fallback" if self.feed else "shadow"):
            allowed = "pause or shadow for a feed" if self.feed else "pause or fallback for a lookup"
            yield Contradiction(("on_breach",), allowed, self.on_breach)
        if self.on_breach == "shadow" and any(place.table is None and place.path is None for place in self.chain):
            yield Contradiction(("on_breach",), "pause for a feed that is read only once", "shadow")

    def _of_files(self) -> Iterator[Contradiction]:
        if not self.feed and any(place.intake is not None for place in self.chain):
            yield Contradiction(("intake",), "intake on a feed only", "a lookup")
        if not self.feed and any(is_pattern(place.path) for place in self.chain):
            yield Contradiction(("path",), "one file for a lookup", "a pattern")
        if self.max_drop_percent is not None and self.feed and any(is_pattern(place.path) for place in self.chain):
            yield Contradiction(("max_drop_percent",), "a lookup, or a feed of one file", "a feed of many files")

    def _queue_contradictions(self) -> Iterator[Contradiction]:
        if all(place.queue is None for place in self.chain):
            return
        if not self.feed:
            yield Contradiction((), "feed: true beside a queue", "a lookup", "A message is read once.")
        if self.cursor is not None:
            yield Contradiction(("cursor",), "no cursor on a queue", "one", "The broker keeps what was not read.")

    def _misplaced_changes(self) -> Iterator[Contradiction]:
        if self.changes is None:
            return
        if not self.feed or any(place.table is None for place in self.chain):
            yield Contradiction(("changes",), "changes of a feed of a table", "another source")
        if self.cursor is not None:
            yield Contradiction(("cursor",), "no cursor beside changes", "one", "A change table has one of its own.")

    @property
    def keys(self) -> tuple[str, ...]:
        """Fields by which a lookup finds a record; empty for a feed."""
        return () if self.lookup is None else names(self.lookup)

    @property
    def read_by(self) -> tuple[str, ...]:
        """Fields by whose columns the silo is read: a lookup's keys, a feed's cursor."""
        return self.keys if self.cursor is None else (self.cursor.column, *names(self.cursor.key))
