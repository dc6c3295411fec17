"""A feed of changes: a change table, filled by its owner's triggers, as the records that the declaration asks for.

The change table is a table like any other and is read by its own safe cursor; here each of its rows becomes a record,
is passed over, or is rejected when its letter is none. The DDL is text for the owner to run; it is never run here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import pyarrow as pa

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.sources.base import Position, Probe, Pulled, Source
from brownfield.errors import DeclarationError, RejectionCode

__all__ = ["CHANGED_AT", "CHANGE_ID", "OPERATION", "ChangeDialect", "ChangeTable", "change_ddl"]

CHANGE_ID, OPERATION, CHANGED_AT = "change_id", "op", "changed_at"
"""Columns of a change table beside those of its table: its number, c, u or d, and when the trigger ran."""
ChangeDialect: TypeAlias = Literal["sqlite", "postgres", "mysql"]
_PRESENT, _GONE = {"c", "u", "r"}, "d"


@dataclass(frozen=True)
class ChangeTable:
    """What happened to a table.

    Parameters
    ----------
    changes
        The change table as a source, with its cursor.
    key
        Fields that name a row of the table.
    give
        ``each``: every change is a record; ``latest``: of one read, only the last change of each key. The latter keeps
        a read in memory until its end.
    deletes
        ``skip``: a deletion is no record; ``records``: it is one.
    """

    changes: Source
    key: tuple[str, ...]
    give: Literal["each", "latest"] = "each"
    deletes: Literal["skip", "records"] = "skip"

    def probe(self) -> Probe:
        """Look whether the change table is there (:class:`Source`)."""
        return self.changes.probe()

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:
        """Read the changes behind a position (:class:`Source`)."""
        for name in self.key:
            if name not in wanted.names:
                raise DeclarationError(
                    path="changes.key", expected=f"fields of the contract ({', '.join(wanted.names)})", got=name
                )
        own = [pa.field(OPERATION, pa.string()), pa.field(CHANGE_ID, pa.int64())]
        both = pa.schema([*wanted, *(each for each in own if each.name not in wanted.names)])
        pages = self.changes.read(both, after)
        if self.give == "latest":
            pages = iter(_only_latest(list(pages), self.key))
        for pulled in pages:
            yield replace(pulled, decoded=self._records(pulled.decoded, wanted.names))

    def shape(self) -> dict[str, str]:
        """Describe the columns of the change table, where it can tell."""
        told = getattr(self.changes, "shape", None)
        return {} if told is None else dict(told())

    def ack(self, position: Position) -> None:
        """Pass it on (:class:`Source`)."""
        self.changes.ack(position)

    def _records(self, decoded: Decoded, names: list[str]) -> Decoded:
        letters = decoded.batch.column(OPERATION).to_pylist()
        admitted = _PRESENT | ({_GONE} if self.deletes == "records" else set())
        rows = [row for row, letter in enumerate(letters) if letter in admitted]
        odd = tuple(
            Reject(decoded.position(row), RejectionCode.FIELD_TYPE, OPERATION, decoded.raw(row))
            for row, letter in enumerate(letters)
            if letter not in _PRESENT and letter != _GONE
        )
        return _taken(decoded, rows, names, odd)


def _only_latest(pages: list[Pulled], key: tuple[str, ...]) -> list[Pulled]:
    """Leave of each key the change with the greatest number: it is given out under the row's own lock."""
    spelt = [
        list(zip(*(pulled.decoded.batch.column(name).to_pylist() for name in (*key, CHANGE_ID)), strict=True))
        for pulled in pages
    ]
    newest: dict[tuple[object, ...], int] = {}
    for *named, number in (row for page in spelt for row in page):
        newest[tuple(named)] = max(number, newest.get(tuple(named), number))
    return [
        replace(
            pulled,
            decoded=_taken(
                pulled.decoded,
                [row for row, (*named, number) in enumerate(page) if newest[tuple(named)] == number],
                pulled.decoded.batch.schema.names,
                (),
            ),
        )
        for pulled, page in zip(pages, spelt, strict=True)
    ]


def _taken(decoded: Decoded, rows: list[int], names: list[str], rejects: tuple[Reject, ...]) -> Decoded:
    """Take some rows and columns, each row with the position and bytes that it came with."""
    return Decoded(
        decoded.batch.take(pa.array(rows, pa.int64())).select(names),
        lambda row: decoded.position(rows[row]),
        lambda row: decoded.raw(rows[row]),
        (*decoded.rejects, *rejects),
    )


def change_ddl(
    dialect: ChangeDialect,
    table: str,
    changes: str,
    columns: tuple[str, ...],
    key: tuple[str, ...],
    *,
    schema: str = "",
) -> str:
    """Give the DDL of a change table and its triggers, for the owner of the database to read and run.

    Parameters
    ----------
    dialect
        Kind of the database.
    table, changes
        Names of the table and of its change table.
    columns
        Columns of the table that the contract names.
    key
        Columns that name a row: a row whose key is changed is noted as deleted and changed.
    schema
        Of both tables; PostgreSQL only.

    Raises
    ------
    DeclarationError
        When a column of the table has the name of one of the change table's own.

    Examples
    --------
    >>> print(change_ddl("sqlite", "sales", "sales_change", ("line_id", "price"), ("line_id",)).splitlines()[0])
    CREATE TABLE "sales_change" (
    """
    if own := {CHANGE_ID, OPERATION, CHANGED_AT} & set(columns):
        raise DeclarationError(
            path="changes", expected="a table without a column of this name", got=min(own),
            next_step="It is a change table's own; have the owner give a view with another name.",
        )  # fmt: skip
    missing = [name for name in key if name not in columns]
    if missing:
        raise DeclarationError(path="changes.key", expected=f"columns among {', '.join(columns)}", got=missing[0])
    mark = "`" if dialect == "mysql" else '"'

    def quoted(name: str) -> str:
        return mark + name.replace(mark, 2 * mark) + mark

    dot = f"{quoted(schema)}." if schema else ""
    names = {
        "table": dot + quoted(table),
        "changes": dot + quoted(changes),
        "note": dot + quoted(f"{changes}_note"),
        "columns": ", ".join(map(quoted, columns)),
        "new": ", ".join(f"NEW.{quoted(name)}" for name in columns),
        "old": ", ".join(f"OLD.{quoted(name)}" for name in columns),
        "moved": " OR ".join(_differ(dialect, quoted(name)) for name in key),
        **{verb: quoted(f"{changes}_{verb}") for verb in ("at", "inserted", "updated", "deleted", "moved_from")},
    }
    return _DDL[dialect].format(**names)


def _differ(dialect: ChangeDialect, name: str) -> str:
    if dialect == "mysql":
        return f"NOT (OLD.{name} <=> NEW.{name})"
    return f"OLD.{name} IS {'NOT' if dialect == 'sqlite' else 'DISTINCT FROM'} NEW.{name}"


_DDL: dict[ChangeDialect, str] = {
    "sqlite": """\
CREATE TABLE {changes} (
  change_id INTEGER PRIMARY KEY AUTOINCREMENT,
  op TEXT NOT NULL,
  changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  {columns}
);
CREATE TRIGGER {inserted} AFTER INSERT ON {table} BEGIN
  INSERT INTO {changes} (op, {columns}) VALUES ('c', {new});
END;
CREATE TRIGGER {updated} AFTER UPDATE ON {table} BEGIN
  INSERT INTO {changes} (op, {columns}) SELECT 'd', {old} WHERE {moved};
  INSERT INTO {changes} (op, {columns}) VALUES ('u', {new});
END;
CREATE TRIGGER {deleted} AFTER DELETE ON {table} BEGIN
  INSERT INTO {changes} (op, {columns}) VALUES ('d', {old});
END;
""",
    "postgres": """\
CREATE TABLE {changes} AS SELECT {columns} FROM {table} WITH NO DATA;
ALTER TABLE {changes}
  ADD COLUMN change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  ADD COLUMN op char(1) NOT NULL,
  ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX {at} ON {changes} (changed_at, change_id);
CREATE FUNCTION {note}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $body$
BEGIN
  IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ({moved}) THEN
    INSERT INTO {changes} (op, {columns}) VALUES ('d', {old});
  END IF;
  IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' THEN
    INSERT INTO {changes} (op, {columns}) VALUES (CASE TG_OP WHEN 'INSERT' THEN 'c' ELSE 'u' END, {new});
  END IF;
  RETURN NULL;
END $body$;
CREATE TRIGGER {updated} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {note}();
""",
    "mysql": """\
CREATE TABLE {changes} ENGINE = InnoDB AS SELECT {columns} FROM {table} LIMIT 0;
ALTER TABLE {changes}
  ADD COLUMN change_id bigint AUTO_INCREMENT PRIMARY KEY,
  ADD COLUMN op char(1) NOT NULL,
  ADD COLUMN changed_at timestamp(6) NOT NULL DEFAULT current_timestamp(6),
  ADD KEY {at} (changed_at, change_id);
CREATE TRIGGER {inserted} AFTER INSERT ON {table} FOR EACH ROW
  INSERT INTO {changes} (op, {columns}) VALUES ('c', {new});
CREATE TRIGGER {moved_from} AFTER UPDATE ON {table} FOR EACH ROW
  INSERT INTO {changes} (op, {columns}) SELECT 'd', {old} FROM DUAL WHERE {moved};
CREATE TRIGGER {updated} AFTER UPDATE ON {table} FOR EACH ROW FOLLOWS {moved_from}
  INSERT INTO {changes} (op, {columns}) VALUES ('u', {new});
CREATE TRIGGER {deleted} AFTER DELETE ON {table} FOR EACH ROW
  INSERT INTO {changes} (op, {columns}) VALUES ('d', {old});
""",
}
