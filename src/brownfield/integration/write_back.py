"""``write_back``: unified rows that are written back into the legacy system, by a credential of their own.

Nothing is written that is not declared here, column by column, and approved by a person under the declaration's digest.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import rfc8785
from msgspec import Meta, field

from brownfield.contract import UniqueRule
from brownfield.integration.kinds import FieldName, FieldNames, Identifier, names
from brownfield.integration.reader import BAD, Contradiction, Reader, Schemas, Spec
from brownfield.integration.sources import Location
from brownfield.integration.words import KeyPath, key_names, nearest, show

if TYPE_CHECKING:
    from brownfield.contract import Contract, Schema
    from brownfield.integration.connections import ConnectionSpec
    from brownfield.integration.integration import IntegrationDeclaration
    from brownfield.integration.registry import Registry

__all__ = ["WriteBackSpec", "check_write_back", "write_back_digest"]

_OWN_CREDENTIAL = "Writing takes a connection and a user of its own, which may write these columns and nothing else."


class WriteBackSpec(Spec, frozen=True, kw_only=True):
    """Where the rows of one unified table are written."""

    from_: Annotated[Identifier, Meta(description="Unified table, made from a feed, whose rows are written.")] = field(
        name="from"
    )
    to: Annotated[Location, Meta(description="The place; its keys stand beside the others.")] = Location()
    columns: Annotated[
        tuple[FieldName, ...], Meta(min_length=1, description="The columns that are written, the key among them.")
    ]
    key: Annotated[FieldNames, Meta(description="Column, or columns, that name a row of the table written.")] | None = (
        None
    )
    mode: Annotated[
        Literal["upsert", "insert_only"],
        Meta(description="upsert: a row whose key is there is updated; insert_only: it is left as it is."),
    ] = "upsert"
    totals: Annotated[
        tuple[FieldName, ...], Meta(description="Columns of numbers whose sums stand in the marker of each file.")
    ] = ()
    batch_rows: Annotated[int, Meta(ge=1, le=1_000_000, description="Rows of one effect: a transaction, a file.")] = (
        10_000
    )
    max_pending_rows: Annotated[
        int, Meta(ge=1, le=1_000_000_000, description="Rows that may wait for the sink before the feed pauses.")
    ] = 1_000_000

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read the place, which stands flat beside the other keys."""
        own = tuple(key for key in key_names(cls) if key != "to")
        place = Location.beside(reader, value, path, own)
        if place is BAD:
            return BAD
        arguments = reader.arguments(cls, {key: item for key, item in value.items() if key in own}, path)
        return BAD if arguments is BAD else reader.checked(cls(**arguments, to=place), path)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:
        """Return one branch for each kind of place."""
        own = schemas[cls.__name__]
        beside = {key: schema for key, schema in own["properties"].items() if key != "to"}
        return {
            "oneOf": [
                {
                    **branch,
                    "properties": {**beside, **branch["properties"]},
                    "required": [*own["required"], *branch.get("required", ())],
                    "description": own["description"],
                }
                for branch in Location.published(schemas, registry)["oneOf"]
            ]
        }

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what is no place to write, and a key that is missing or means nothing."""
        if self.to.mapping is not None:
            yield Contradiction(
                ("mapping",), "no mapping where rows are written: they leave as the contract has them", "one"
            )
        if self.to.snapshot is not None:
            yield Contradiction(("snapshot",), "a table, a file or a queue", "a snapshot")
        if self.to.table is not None and self.key is None:
            yield Contradiction((), "the key of the table", "none", "Without it a row cannot be found again.")
        if self.to.table is None and self.mode == "insert_only":
            yield Contradiction(("mode",), "insert_only beside a table only", "no table")
        if self.to.path is None and self.totals:
            yield Contradiction(("totals",), "totals beside path only", "no path")
        for part, wanted in (("key", self.keys), ("totals", self.totals)):
            for name in wanted:
                if name not in self.columns:
                    yield Contradiction((part,), "columns among those written", show(name))
        if len(set(self.columns)) < len(self.columns):
            yield Contradiction(("columns",), "each column once", "one of them twice")

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that name a row; none where no table is written."""
        return () if self.key is None else names(self.key)


def check_write_back(
    declared: "IntegrationDeclaration",
    contract: "Contract | None",
    connections: "Mapping[str, ConnectionSpec] | None",
    reader: Reader,
) -> None:
    """Note where write-backs disagree with tables, contract and connections; None for what is not known."""
    for name, spec in declared.write_back.items():
        path: KeyPath = ("write_back", name)
        table = declared.unified.get(spec.from_)
        if table is None:
            known = ", ".join(declared.unified) or "none is declared"
            reader.note((*path, "from"), f"a unified table ({known})", show(spec.from_))
        elif table.from_ in declared.sources and not declared.sources[table.from_].feed:
            whole = "A lookup is pulled whole again and again: its rows have no end that could be written once."
            reader.note((*path, "from"), "a table that is made from a feed", f"the lookup {table.from_}", whole)
        schema = None if contract is None else contract.schemas.get(spec.from_)
        if schema is not None:
            _check_columns(spec, schema, path, reader)
        if connections is not None:
            _check_connection(declared, spec, path, connections, reader)


def _check_columns(spec: WriteBackSpec, schema: "Schema", path: KeyPath, reader: Reader) -> None:
    for name in spec.columns:
        if name not in schema.names:
            reader.note((*path, "columns"), f"fields of {spec.from_}", show(name), nearest(name, schema.names))
    unique = [set(rule.fields) for rule in schema.set_rules if isinstance(rule, UniqueRule)]
    if spec.to.table is not None and not any(fields <= set(spec.keys) for fields in unique):
        two = "Two rows of one key would be written over each other."
        reader.note(
            (*path, "key"), f"a key that the contract calls unique in {spec.from_}", show(", ".join(spec.keys)), two
        )


def _check_connection(
    declared: "IntegrationDeclaration",
    spec: WriteBackSpec,
    path: KeyPath,
    connections: "Mapping[str, ConnectionSpec]",
    reader: Reader,
) -> None:
    """Note a connection that cannot be written, or is one that reads (S-17)."""
    here = (*path, "connection")
    name = spec.to.connection or ""
    connection = connections.get(name)
    if connection is None:
        known = ", ".join(connections) or "none is declared"
        reader.note(here, f"a connection of the workspace ({known})", show(name), nearest(name, connections))
        return
    if getattr(connection.options, "takes", None) is None:
        reader.note(here, "a connection of a kind that can be written", f"the kind {connection.kind}")
        return
    wanted = connection.options.holds
    if getattr(spec.to, wanted) is None:
        reader.note(path, f"{wanted} beside a connection of the kind {connection.kind}", "none")
    if any(place.connection == name for source in declared.sources.values() for place in source.chain):
        reader.note(here, "a connection that no source reads", show(name), _OWN_CREDENTIAL)
    for other, candidate in connections.items():
        if other != name and _same_user(connection.options, candidate.options):
            reader.note(here, "a user that reads nothing", f"the user of the connection {other}", _OWN_CREDENTIAL)


def _same_user(one: Any, other: Any) -> bool:
    """Tell whether two connections are declared to come to one server as one user."""
    named = [(getattr(each, "host", None), getattr(each, "user", None)) for each in (one, other)]
    return type(one) is type(other) and None not in named[0] and named[0] == named[1]


def write_back_digest(spec: WriteBackSpec, connection: "ConnectionSpec", schema: "Schema") -> str:
    """Digest of all that decides what is written where: the declaration, its connection, and the columns' types.

    Returns
    -------
    str
        SHA-256 in hexadecimal; no value of a reference goes into it.
    """
    types = {name: str(schema.arrow.field(name).type) for name in spec.columns}
    named = [msgspec.to_builtins(spec), msgspec.to_builtins(connection), types]
    return hashlib.sha256(rfc8785.dumps(named)).hexdigest()
