"""What one kind of database server has of its own: how to connect, how to ask the catalogue, how to quote.

Every statement that reads goes through :func:`only_reading` first, and then to a session whose transactions the
server itself holds to reading: nothing is written, twice over.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol, TypeAlias

from brownfield.errors import DeclarationError

__all__ = [
    "Address",
    "Column",
    "ConnectionLost",
    "Dialect",
    "Family",
    "Refused",
    "Row",
    "Session",
    "only_reading",
    "unanswered",
    "with_marks",
]

Row: TypeAlias = tuple[Any, ...]


class Family(Enum):
    """What a column holds, whatever the server calls it; None in its place means that it is not read."""

    WHOLE = "whole numbers"
    DECIMAL = "decimal numbers"
    FLOAT = "numbers"
    TRUTH = "truth values"
    TEXT = "text"
    DATE = "dates"
    LOCAL = "timestamps without a zone"
    INSTANT = "timestamps with a zone"


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the catalogue knows it.

    Parameters
    ----------
    name, declared
        Name and type, as the server spells them.
    family
        What it holds; None for what is not read: bytes, lists, shapes.
    nullable
        Whether it may lack a value.
    numbered
        Whether the server gives its values out itself, one after the other.
    padded
        Whether blanks at the end of its texts mean nothing.
    as_text
        Whether it is read as the server spells it.
    """

    name: str
    declared: str
    family: Family | None
    nullable: bool
    numbered: bool = False
    padded: bool = False
    as_text: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is now and who we are there; resolved anew for every connection.

    Parameters
    ----------
    host, port
        As declared; ``host`` is what its certificate must name.
    addresses
        What the host's name stands for, each of them admitted.
    tls, ca_file
        As declared.
    schema
        Of the tables; empty where the kind has none.
    statement_timeout_s
        After which the server ends a statement.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    database: str
    user: str
    password: str = ""
    tls: str = "verify"
    ca_file: str | None = None
    schema: str = ""
    statement_timeout_s: int = 30

    def __repr__(self) -> str:
        return f"{self.database} at {self.host}:{self.port}"


class ConnectionLost(Exception):
    """The server went away, or ended the statement: the page is worth another try."""


class Refused(Exception):
    """The server does not let us in or does not do what was asked; asking again is of no use.

    Parameters
    ----------
    said
        What it said, or what keeps us from it.
    next_step
        What a person can do.
    """

    def __init__(self, said: str, next_step: str = "Ask the owner of the server.") -> None:
        super().__init__(said)
        self.next_step = next_step


def unanswered(said: str) -> "ConnectionLost | Refused":
    """Give the error for a server that was not reached: where its encryption is not the declared one, say so."""
    if "certificate" in said.lower():
        return Refused(
            said, "Name the host as its certificate does, and its issuer's certificates: tls: {ca_file: ...}."
        )
    if "ssl" in said.lower() and "support" in said.lower():
        return Refused(said, "Declare tls: {mode: off} if the server does not encrypt, and only then.")
    return ConnectionLost(said)


class Session(Protocol):
    """One connection, in which nothing can be written."""

    def select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one reading statement in a short transaction of its own; all of its rows, or an error.

        Raises
        ------
        ConnectionLost, Refused
            As they say.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Dialect(Protocol):
    """One kind of server."""

    name: str

    def connect(self, address: Address) -> Session:
        """Open a session; raises ConnectionLost or Refused."""
        ...

    def quoted(self, name: str) -> str:
        """Quote an identifier that the catalogue has."""
        ...

    def tables(self, session: Session, address: Address) -> list[str]:
        """Names of the tables and views."""
        ...

    def columns(self, session: Session, address: Address, table: str) -> tuple[list[Column], list[str]]:
        """Columns of a table, and its primary key."""
        ...

    def selected(self, column: Column) -> str:
        """Give the expression that reads a column."""
        ...

    def qualified(self, address: Address, table: str) -> str:
        """Name a table in full, quoted."""
        ...

    def limited(self, rows: int) -> str:
        """Give the end of an ordered statement that admits so many rows and no more."""
        ...

    def as_of(self, session: Session) -> datetime | None:
        """Say which moment a standby shows, by the server's clock.

        None where it is now, as on a primary, and where the server does not tell; ``UNKNOWN`` on a standby that
        follows nobody.
        """
        ...

    @property
    def now(self) -> str:
        """Statement that gives the server's own time, in UTC and without a zone.

        Raises
        ------
        DeclarationError
            Where the kind of server has no such statement, so that a cursor would not be safe.
        """
        ...


_WORDS = frozenset(
    re.findall(
        "[a-z0-9_]+",
        """
        select from where and or not is null in any as on join left order by limit count max cast char double text
        float8 information_schema tables columns statistics table_schema table_name column_name column_type data_type
        is_nullable extra ordinal_position index_name seq_in_index pg_catalog pg_class pg_namespace pg_attribute
        pg_type pg_index pg_attrdef oid relname relnamespace relkind nspname attnum attname attrelid atttypid atttypmod
        attnotnull attidentity attisdropped typname typtype typbasetype indrelid indkey indisprimary adbin adrelid adnum
        format_type pg_get_expr clock_timestamp at time zone utc_timestamp offset rows fetch next first only integer
        sysutcdatetime sys_extract_utc systimestamp dual current timestamp timezone sysibm sysdummy1 all_objects
        pg_is_in_recovery pg_last_xact_replay_timestamp
        all_tab_columns all_constraints all_cons_columns owner object_name object_type data_precision
        nullable data_scale identity_column column_id constraint_name constraint_type position
        """,
    )
)
"""Every word, quoted identifiers apart, that a statement of ours may have."""
_PARTS = re.compile(
    r"(?P<quoted>\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`)|(?P<text>'[^'\\]*')|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<mark>%s)|(?P<number>[0-9]+)|(?P<sign>::|[,.()=<>*\s]|-(?!-))|(?P<other>.)",
    re.DOTALL,
)


def only_reading(statement: str) -> str:
    """Give the statement back if it is one SELECT made of known words; everything else is refused.

    Parameters
    ----------
    statement
        Identifiers quoted, values as ``%s``.

    Raises
    ------
    DeclarationError
        For anything else: other verbs, functions, comments, a second statement.

    Examples
    --------
    >>> only_reading('SELECT "price" FROM "sales" WHERE "id" > %s')
    'SELECT "price" FROM "sales" WHERE "id" > %s'
    >>> only_reading("SELECT nextval('tickets')")
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: expected a statement that only reads, got the word nextval
    """
    words = []
    for part in _PARTS.finditer(statement):
        if part["other"]:
            raise _writes(f"the character {part['other']!r}")
        if part["word"]:
            words.append(part["word"].lower())
    if not words or words[0] != "select" or words.count("select") > 1:
        raise _writes("another")
    for word in words:
        if word not in _WORDS:
            raise _writes(f"the word {word}")
    return statement


def with_marks(statement: str, mark: str) -> str:
    """Spell the marks of parameters as another driver has them.

    Parameters
    ----------
    statement
        Values as ``%s``, percent signs of names doubled.
    mark
        The driver's own; ``{}`` in it becomes the parameter's number, from 1.

    Examples
    --------
    >>> with_marks('SELECT "100%%s" FROM "t" WHERE "k" > %s OR "k" = %s', ":{}")
    'SELECT "100%s" FROM "t" WHERE "k" > :1 OR "k" = :2'
    """
    number = itertools.count(1)
    return re.sub("%(.)", lambda found: mark.format(next(number)) if found[1] == "s" else found[1], statement)


def _writes(got: str) -> DeclarationError:
    return DeclarationError(expected="a statement that only reads", got=got)
