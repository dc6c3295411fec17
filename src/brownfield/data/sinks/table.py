"""What the sinks for SQL tables share: the declared target, the checks of a batch against it, the ledger's DDL.

The table belongs to the legacy system: only the declared columns of rows with the declared key are written, and no
DDL is ever run. The ledger's two tables are created by their owner, from the text that :func:`ledger_ddl` gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.sinks.base import Batch
from brownfield.errors import DeclarationError, Fenced, InputRefused, RejectionCode, SinkRefused, Violation, there_are

__all__ = ["EFFECTS", "STREAMS", "TableTarget", "backquoted", "ledger_ddl", "quoted"]

EFFECTS = "brownfield_effect"
"""Table of the effects that were made, one row each."""
STREAMS = "brownfield_stream"
"""Table of who writes and how far, one row for each stream of effects."""

_LONGEST_STREAM = 200


@dataclass(frozen=True)
class TableTarget:
    """The part of a table that is written.

    Parameters
    ----------
    table
        Its name, as the catalogue spells it.
    columns
        The columns that are written, the key among them; nothing else is touched.
    key
        Columns that name a row: a primary key or unique constraint of exactly these.
    insert_only
        Whether a row whose key is there is left as it is, and not updated.

    Raises
    ------
    DeclarationError
        When the columns contradict each other.

    Examples
    --------
    >>> TableTarget("scores", ("basket_id", "score"), ("basket_id",)).values
    ('score',)
    """

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    insert_only: bool = False

    def __post_init__(self) -> None:
        if not self.key or len(set(self.key)) < len(self.key):
            raise DeclarationError(path="key", expected="one or more columns, each once", got=repr(self.key))
        if len(set(self.columns)) < len(self.columns):
            raise DeclarationError(path="columns", expected="each column once", got=repr(self.columns))
        if missing := [name for name in self.key if name not in self.columns]:
            raise DeclarationError(path="key", expected="columns among those written", got=repr(missing[0]))

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that are updated where the key is there."""
        return () if self.insert_only else tuple(name for name in self.columns if name not in self.key)

    def check(self, batch: Batch) -> pa.Table:
        """Give the batch as a table in the order of the columns.

        Raises
        ------
        SinkRefused
            When its columns are not the declared ones.
        InputRefused
            When a column of the key holds null.
        """
        if sorted(batch.schema.names) != sorted(self.columns):
            raise SinkRefused(
                where=f"table {self.table}",
                expected=f"the columns {', '.join(self.columns)}",
                got=", ".join(batch.schema.names),
            )
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        table = table.select(list(self.columns))
        keyless = [
            Violation(name, f"{name}.key", RejectionCode.FIELD_NULL, int(row), "a value, for it is part of the key")
            for name in self.key
            if table.column(name).null_count
            for row in np.flatnonzero(pc.is_null(table.column(name)).to_numpy())
        ]
        if keyless:
            raise InputRefused(keyless, next_step="Reject records without a key before they come here.")
        return table

    def collide(self) -> SinkRefused:
        """Give the error for a batch in which two records have one key."""
        return SinkRefused(
            where=f"table {self.table}",
            expected="each key once in a batch",
            got="two records with one key in the eyes of the database (case, blanks and zeros count as it says)",
            next_step="Declare the key unique in the contract, normalised as the database compares it.",
        )

    def fenced(self, stream: str) -> Fenced:
        """Give the error for an owner that is none any more."""
        return Fenced(
            "another owner has taken over",
            where=f"table {self.table}, stream {stream}",
            next_step="End this process; the new owner goes on from the ledger.",
        )

    def find_columns(self, known: Sequence[str], where: str) -> None:
        """Refuse columns that the catalogue does not hold.

        Raises
        ------
        DeclarationError
            With the nearest names.
        """
        for name in self.columns:
            if name not in known:
                raise unknown("column", name, known, where)


def unknown(what: str, name: str, known: Sequence[str], where: str) -> DeclarationError:
    """Give the error for a name that the catalogue does not hold."""
    near = get_close_matches(name, known, 3, 0.5)
    return DeclarationError(
        where=where,
        expected=f"a {what} of the database",
        got=repr(name),
        next_step=there_are(near, "The nearest") if near else there_are(known or ["none that we may see"]),
    )


def no_ledger(where: str, dialect: str) -> DeclarationError:
    """Give the error for a database whose owner has not created the ledger."""
    return DeclarationError(
        where=where,
        expected=f"the tables {EFFECTS} and {STREAMS}",
        got="none of these names",
        next_step="Have the owner of the database run what brownfield score --pull --dry-run prints "
        f"(in Python: ledger_ddl({dialect!r})).",
    )


def no_key(where: str, key: Sequence[str]) -> DeclarationError:
    """Give the error for a key that the database does not keep unique."""
    return DeclarationError(
        where=where,
        path="key",
        expected=f"a primary key or unique constraint of exactly {', '.join(key)}",
        got="none",
        next_step="Without it the database cannot tell whether a row is there.",
    )


def check_stream(stream: str) -> None:
    """Refuse a name of a stream that does not fit the ledger."""
    if not 0 < len(stream) <= _LONGEST_STREAM or "\0" in stream:
        raise DeclarationError(path="stream", expected=f"1 to {_LONGEST_STREAM} characters", got=f"{len(stream)}")


def encode_position(position: Mapping[str, Any] | None) -> str | None:
    """Spell a position for the ledger."""
    return None if position is None else msgspec.json.encode(dict(position)).decode()


def decode_position(text: str | None) -> dict[str, Any] | None:
    """Read a position of the ledger."""
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def quoted(name: str) -> str:
    """Quote an identifier in the manner of the standard, which SQLite and PostgreSQL share."""
    return '"' + name.replace('"', '""') + '"'


def backquoted(name: str) -> str:
    """Quote an identifier as MariaDB and MySQL do."""
    return "`" + name.replace("`", "``") + "`"


_DDL = """\
CREATE TABLE {schema}{effects} (
  effect_id varchar(64){plain} NOT NULL PRIMARY KEY,
  stream varchar({longest}){text} NOT NULL,
  row_count bigint NOT NULL,
  applied_at {instant} NOT NULL DEFAULT CURRENT_TIMESTAMP
){engine};
CREATE TABLE {schema}{streams} (
  stream varchar({longest}){text} NOT NULL PRIMARY KEY,
  epoch bigint NOT NULL,
  position {long}
){engine};
"""
_KINDS = {
    "sqlite": {"plain": "", "text": "", "instant": "timestamp", "long": "text", "engine": ""},
    "postgres": {"plain": "", "text": "", "instant": "timestamptz", "long": "text", "engine": ""},
    "mysql": {
        "plain": " CHARACTER SET ascii COLLATE ascii_bin",
        "text": " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "instant": "timestamp",
        "long": "mediumtext",
        "engine": " ENGINE = InnoDB",
    },
}
_GRANTS = {
    "postgres": """\
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT ON {dot}{effects} TO {role};
GRANT SELECT, INSERT, UPDATE ON {dot}{streams} TO {role};
GRANT SELECT ({columns}), INSERT ({columns}) ON {dot}{table} TO {role};
""",
    "mysql": """\
GRANT CREATE TEMPORARY TABLES ON {dot}* TO {role};
GRANT SELECT, INSERT ON {dot}{effects} TO {role};
GRANT SELECT, INSERT, UPDATE ON {dot}{streams} TO {role};
GRANT SELECT ({columns}), INSERT ({columns}) ON {dot}{table} TO {role};
""",
}


def ledger_ddl(
    dialect: Literal["sqlite", "postgres", "mysql"],
    *,
    schema: str | None = None,
    target: TableTarget | None = None,
    role: str | None = None,
) -> str:
    """Give the DDL of the ledger, for the owner of the database to run; Brownfield never runs it.

    Parameters
    ----------
    dialect
        Kind of the database.
    schema
        Schema of the target table, ``public`` unless given; for MariaDB and MySQL the database, the one in use unless
        given.
    target, role
        Give both for the grants as well, by which the server itself keeps our role to the declared columns. SQLite has
        no roles; a role of MariaDB or MySQL is the user of that name from any host.

    Examples
    --------
    >>> print(ledger_ddl("sqlite").splitlines()[0])
    CREATE TABLE "brownfield_effect" (
    >>> target = TableTarget("scores", ("basket_id", "score"), ("basket_id",))
    >>> print(ledger_ddl("postgres", target=target, role="scorer").splitlines()[-1])
    GRANT UPDATE ("score") ON "public"."scores" TO "scorer";
    >>> print(ledger_ddl("mysql", target=target, role="scorer").splitlines()[-1])
    GRANT UPDATE (`basket_id`, `score`) ON `scores` TO `scorer`@'%';
    """
    quote = backquoted if dialect == "mysql" else quoted
    if dialect == "postgres":
        schema = schema or "public"
    names = {
        "schema": quote(schema or ""),
        "dot": f"{quote(schema)}." if schema and dialect != "sqlite" else "",
        "effects": quote(EFFECTS),
        "streams": quote(STREAMS),
    }
    text = _DDL.format(**{**names, "schema": names["dot"]}, longest=_LONGEST_STREAM, **_KINDS[dialect])
    if target is None or role is None or dialect not in _GRANTS:
        return text
    names |= {
        "table": quote(target.table),
        "role": quote(role) + "@'%'" * (dialect == "mysql"),
        "columns": ", ".join(map(quote, target.columns)),
    }
    text += _GRANTS[dialect].format(**names)
    changed = target.columns if dialect == "mysql" else target.values  # MariaDB asks for the key's columns as well
    if changed:
        values = ", ".join(map(quote, changed))
        text += f"GRANT UPDATE ({values}) ON {names['dot']}{names['table']} TO {names['role']};\n"
    return text
