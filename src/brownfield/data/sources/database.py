"""One table or view of a database server, read-only, page by page in the order of a key.

Each page is a statement and a short read-only transaction of its own, within the budget of the system; a page that is
cut off is discarded as a whole and read again. The address is resolved anew for every connection. Identifiers are
looked up in the catalogue before they are quoted into a statement, and only the wanted columns are read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.sources.base import Position, Probe, Pulled
from brownfield.data.sources.budget import Budget
from brownfield.data.sources.dialect import (
    Address,
    Column,
    ConnectionLost,
    Dialect,
    Family,
    Refused,
    Row,
    Session,
)
from brownfield.data.sources.typed import check_type, typed_column
from brownfield.data.sources.window import Cursor, Window, check_cursor
from brownfield.errors import DeclarationError, RejectionCode, SourceUnavailable, there_are

__all__ = ["DatabaseTable"]

PAGE_ROWS = 20_000
_Answer = TypeVar("_Answer")
_TRIES = 3
_CALENDAR = (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))  # noqa: DTZ001 (of any zone)
_DAYS = (date.min, date.max)
_KEY_FAMILIES = {Family.WHOLE, Family.DECIMAL, Family.TEXT, Family.DATE, Family.LOCAL, Family.INSTANT}


@dataclass(frozen=True)
class DatabaseTable:
    """One table or view.

    Parameters
    ----------
    dialect
        What kind of server it is on.
    resolve
        Gives the server's present address and our name there.
    table
        Name of the table or view, as the catalogue spells it.
    budget
        What the system can bear.
    key
        Columns that name a row once and for all; when empty, the primary key. Not used beside a cursor.
    cursor
        How a feed knows what it has read; None for a table that is always read whole.
    page_rows
        Most rows that one statement reads; the budget may allow less.
    """

    dialect: Dialect
    resolve: Callable[[], Address]
    table: str
    budget: Budget
    key: tuple[str, ...] = ()
    cursor: Cursor | None = None
    page_rows: int = PAGE_ROWS

    def probe(self) -> Probe:
        """Look whether the table is there and its cursor is safe (:class:`Source`); its rows are not counted."""
        with self.line() as line:
            line.look_up()
        return Probe(None, None)

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:
        """Read the rows behind a position, or all (:class:`Source`); rows without a key are rejects."""
        if after is not None and self.cursor is None:
            raise DeclarationError(
                where=self.table, path="cursor", expected="a cursor, to read on where the last read ended", got="none"
            )
        with self.line() as line:
            pages = _Pages(line, line.look_up(), wanted)
            if after is None and (keyless := pages.without_key()) is not None:
                yield keyless
            yield from pages.by_key(after)

    def shape(self) -> dict[str, str]:
        """Describe each column as the catalogue does: its declared type, and whether it may be empty."""
        with self.line() as line:
            return {
                name: f"{column.declared}{'' if column.nullable else ' NOT NULL'}"
                for name, column in line.look_up().columns.items()
            }

    def as_of(self) -> datetime | None:
        """Say which moment the table shows: on a standby that of its last replayed transaction (:class:`Dialect`)."""
        with self.line() as line:
            return line.asked(self.dialect.as_of)

    def ack(self, position: Position) -> None:
        """Do nothing: a table is not told (:class:`Source`)."""

    @contextmanager
    def line(self) -> "Iterator[Line]":
        """Hold one of the budget's connections; it is opened when something is asked."""
        with self.budget.connection(), closing(Line(self)) as line:
            yield line


class Line:
    """The connection to the server: opened when it is needed, and again when it was lost."""

    def __init__(self, source: DatabaseTable) -> None:
        self.source = source
        self.address = source.resolve()
        self.where = f"{self.address!r}: table {source.table}"
        self.session: Session | None = None
        self.reached = False

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None

    def look_up(self) -> "_Shape":
        """Find the table and its columns in the catalogue."""
        source = self.source
        return self.asked(lambda session: _look_up(source, session, self.address, self.where))

    def select(self, statement: str, parameters: Sequence[Any], rows: int) -> list[Row]:
        """Read at most so many rows of tables, within the budget; all of them or none."""

        def page(session: Session) -> list[Row]:
            with self.source.budget.rows(rows):
                return session.select(statement, parameters)

        return self.asked(page)

    def asked(self, ask: Callable[[Session], _Answer]) -> _Answer:
        """Ask, over a new connection where the old one is lost; a server that never answered is asked once."""
        for left in reversed(range(_TRIES)):
            try:
                return ask(self._connected())
            except ConnectionLost as lost:
                self.close()
                if not left or not self.reached:
                    raise SourceUnavailable(
                        f"the server is out of reach ({lost})",
                        where=self.where,
                        next_step="Look whether it runs, and whether its address is still the declared one.",
                    ) from lost
            except Refused as refused:
                self.close()
                raise SourceUnavailable(str(refused), where=self.where, next_step=refused.next_step) from refused
        raise AssertionError("a try returns or raises")

    def _connected(self) -> Session:
        if self.session is None:
            self.address = self.source.resolve()
            with self.source.budget.attempt():
                self.session = self.source.dialect.connect(self.address)
            self.reached = True
        return self.session


@dataclass(frozen=True, slots=True)
class _Shape:
    """A table as the catalogue knows it."""

    qualified: str
    columns: dict[str, Column]
    key: tuple[str, ...]


def _look_up(source: DatabaseTable, session: Session, address: Address, where: str) -> _Shape:
    tables = source.dialect.tables(session, address)
    if source.table not in tables:
        raise _unknown("table", source.table, tables, repr(address))
    found, primary = source.dialect.columns(session, address, source.table)
    columns = {column.name: column for column in found}
    key = source.cursor.columns if source.cursor is not None else (source.key or tuple(primary))
    if not key:
        raise DeclarationError(
            where=where,
            expected="columns that name a row, for the table has no primary key",
            got="none",
            next_step="Declare cursor: {column: ..., key: ...} on a feed, or lookup: [...] on a lookup.",
        )
    for name in key:
        if name not in columns:
            raise _unknown("column", name, list(columns), where)
        if columns[name].family not in _KEY_FAMILIES:
            raise DeclarationError(
                where=where, path=name, expected="a key of whole numbers, decimals, texts or dates",
                got=columns[name].declared,
            )  # fmt: skip
    if source.cursor is not None:
        check_cursor(source.cursor, columns[source.cursor.column], where)
    return _Shape(source.dialect.qualified(address, source.table), columns, key)


class _Pages:
    """The rows of one read, page by page."""

    def __init__(self, line: Line, shape: _Shape, wanted: pa.Schema) -> None:
        self.line = line
        self.shape = shape
        self.wanted = wanted
        self.source = line.source
        self.page_rows = min(self.source.page_rows, max(1, self.source.budget.page_rows - 1))
        quoted = self.source.dialect.quoted
        for each in wanted:
            if each.name not in shape.columns:
                raise _unknown("column", each.name, list(shape.columns), line.where)
            check_type(each, shape.columns[each.name], line.where)
        self.names = [quoted(name) for name in shape.key]
        selected = [self.source.dialect.selected(shape.columns[each.name]) for each in wanted]
        self.head = f"SELECT {', '.join([*selected, *self.names])} FROM {shape.qualified} WHERE "  # noqa: S608 (from the catalogue, quoted)
        self.present = " AND ".join(f"{name} IS NOT NULL" for name in self.names)
        self.absent = " OR ".join(quoted(name) + " IS NULL" for name in shape.key if shape.columns[name].nullable)
        self.unordered = 0
        self.ends: list[Any] = []
        if self.source.cursor is not None:  # a stamp outside the calendar is as good as none
            self.present += f" AND {self.names[0]} >= %s AND {self.names[0]} <= %s"
            self.absent += f"{' OR ' * bool(self.absent)}{self.names[0]} < %s OR {self.names[0]} > %s"
            stamp = shape.columns[shape.key[0]].family
            self.ends = [*(_DAYS if stamp is Family.DATE else _CALENDAR)]
            if stamp is Family.INSTANT:
                self.ends = [end.replace(tzinfo=UTC) for end in self.ends]

    def by_key(self, after: Position | None) -> Iterator[Pulled]:
        """Read pages in the order of the key until there are no more."""
        window = self._window(after)
        if window is not None and after is not None:
            self._check_unordered(after)
        last: Sequence[Any] | None = None
        condition, parameters = self.present, [*self.ends]
        if window is not None:
            newest = self._newest()
            if newest is None:
                return
            families = [self.shape.columns[name].family or Family.TEXT for name in self.shape.key]
            last, begin = window.start(families)
            condition += f" AND {self.names[0]} <= %s"
            parameters.append(newest)
            if begin is not None:
                condition += f" AND {self.names[0]} >= %s"
                parameters.append(begin)
        tail = f" ORDER BY {', '.join(self.names)}{self.source.dialect.limited(self.page_rows + 1)}"
        while True:
            behind, values = ("", []) if last is None else _behind(self.names, last)
            rows = self.line.select(self.head + condition + behind + tail, [*parameters, *values], self.page_rows + 1)
            page = rows[: self.page_rows]
            if not page:
                return
            more = len(rows) > len(page)
            last = self._key(page[-1])
            if more:
                self._check_one_row(last)
            if window is not None:
                page = [row for row in page if window.is_new(self._key(row))]
                position = {**window.position(last, complete=not more), "unordered": self.unordered}
            else:
                position = {}
            yield self._pulled(page, position)
            if not more:
                return

    def without_key(self) -> Pulled | None:
        """Rows in which a column of the key is null: no page would find them again, so they are rejects."""
        if not self.absent:
            return None
        order = ", ".join(str(place + 1) for place in range(len(self.wanted)))
        statement = f"{self.head}({self.absent}) ORDER BY {order}{self.source.dialect.limited(self.page_rows + 1)}"
        rows = self.line.select(statement, self.ends, self.page_rows + 1)
        if not rows:
            return None
        self.unordered = len(rows)
        if len(rows) > self.page_rows:
            raise self._refused("a key that is there in nearly every row", "one that is often null")
        rejects = tuple(
            Reject(f"without key, row {place + 1}", RejectionCode.FIELD_NULL, self._lacking(row), self._raw(row))
            for place, row in enumerate(rows)
        )
        arrays = [typed_column([], each, self.shape.columns[each.name])[0] for each in self.wanted]
        empty = pa.RecordBatch.from_arrays(arrays, self.wanted.names)
        return Pulled(self.source.table, Decoded(empty, str, lambda _: b"", rejects), {})

    def _check_unordered(self, after: Position) -> None:
        """Refuse to read on beside new rows without a stamp or key: no later read would find them."""
        if self.absent:
            statement = f"SELECT count(*) FROM {self.shape.qualified} WHERE {self.absent}"  # noqa: S608 (as above)
            ((self.unordered,),) = self.line.select(statement, self.ends, 1)
        known = after.get("unordered", self.unordered)
        if self.unordered > known:
            named = ", ".join(self.shape.key)
            raise DeclarationError(
                where=self.line.where,
                path="cursor",
                expected=f"a value of use for {named} in every row that is added",
                got=f"{self.unordered - known} new rows without one",
                next_step="No read would ever find them. Have the owner fill the columns, or declare others.",
            )

    def _window(self, after: Position | None) -> Window | None:
        cursor = self.source.cursor
        if cursor is None:
            return None
        ((now_utc,),) = self.line.select(self.source.dialect.now, [], 1)
        return Window(cursor, self.shape.columns[cursor.column].family or Family.TEXT, now_utc, after)

    def _lacking(self, row: Row) -> str:
        """Name the column of the key that has no value of use."""
        found = zip(self.shape.key, row[len(self.wanted) :], strict=True)
        return next((name for name, value in found if value is None), self.shape.key[0])

    def _newest(self) -> Any:
        """Newest stamp that there is: where this read ends, however fast rows are added."""
        statement = f"SELECT max({self.names[0]}) FROM {self.shape.qualified} WHERE {self.present}"  # noqa: S608 (as above)
        ((newest,),) = self.line.select(statement, self.ends, 1)
        return newest

    def _check_one_row(self, key: Sequence[Any]) -> None:
        """Refuse a key that names several rows in the eyes of the server: a page's end could lose one of them."""
        same = " AND ".join(f"{name} = %s" for name in self.names)
        ((rows,),) = self.line.select(f"SELECT count(*) FROM {self.shape.qualified} WHERE {same}", key, 1)  # noqa: S608 (as above)
        if rows != 1:
            named = ", ".join(self.shape.key)
            raise self._refused("columns that together name a row once", f"{rows} rows with one {named}")

    def _refused(self, expected: str, got: str) -> DeclarationError:
        return DeclarationError(where=self.line.where, path="cursor.key", expected=expected, got=got)

    def _pulled(self, page: list[Row], after: Position) -> Pulled:
        columns = list(zip(*page, strict=True)) if page else [()] * len(self.wanted)
        arrays = []
        faults: dict[int, str] = {}
        for each, values in zip(self.wanted, columns, strict=False):
            array, bad = typed_column(values, each, self.shape.columns[each.name])
            arrays.append(array)
            for row in bad:
                faults.setdefault(row, each.name)
        batch = pa.RecordBatch.from_arrays(arrays, names=self.wanted.names)
        rejects = tuple(
            Reject(self._position(page[row]), RejectionCode.FIELD_TYPE, name, self._raw(page[row]))
            for row, name in sorted(faults.items())
        )
        if faults:
            batch = batch.filter(pa.array([row not in faults for row in range(len(page))]))
            page = [row for place, row in enumerate(page) if place not in faults]
        decoded = Decoded(batch, lambda row: self._position(page[row]), lambda row: self._raw(page[row]), rejects)
        return Pulled(self.source.table, decoded, after)

    def _key(self, row: Row) -> list[Any]:
        """Give a row's key; instants of a server that leaves their zone out are in UTC, as the session is."""
        key = list(row[len(self.wanted) :])
        for place, name in enumerate(self.shape.key):
            value, instant = key[place], self.shape.columns[name].family is Family.INSTANT
            if instant and isinstance(value, datetime) and value.tzinfo is None:
                key[place] = value.replace(tzinfo=UTC)
        return key

    def _position(self, row: Row) -> str:
        spelt = (msgspec.json.encode(value).decode() for value in self._key(row))
        return ", ".join(f"{name}={value}" for name, value in zip(self.shape.key, spelt, strict=True))

    def _raw(self, row: Row) -> bytes:
        return msgspec.json.encode(dict(zip(self.wanted.names, row, strict=False)))


def _behind(names: Sequence[str], last: Sequence[Any]) -> tuple[str, list[Any]]:
    """Give the condition for rows behind a key, spelt so that an index on the first column serves it."""
    condition, values = f"{names[-1]} > %s", [last[-1]]
    for name, value in reversed(list(zip(names[:-1], last[:-1], strict=True))):
        condition = f"{name} > %s OR ({name} = %s AND ({condition}))"
        values = [value, value, *values]
    return f" AND {names[0]} >= %s AND ({condition})", [last[0], *values]


def _unknown(what: str, name: str, known: Sequence[str], where: str) -> DeclarationError:
    near = get_close_matches(name, known, 3, 0.5)
    return DeclarationError(
        where=where,
        expected=f"a {what} of the database",
        got=repr(name),
        next_step=there_are(near, "The nearest") if near else there_are(known or ["none that we may see"]),
    )
