"""What lies behind a declared connection: its tables or files, each with a sample, read and never written."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from brownfield.data.formats import open_format, propose_format, schema_aside
from brownfield.data.pipeline.servers import bind_table
from brownfield.data.sources import Reflected, reflect_server, reflect_sqlite
from brownfield.errors import BrownfieldError
from brownfield.integration import DEFAULT, DatabaseConnection

if TYPE_CHECKING:
    from brownfield.data.formats import Proposal
    from brownfield.integration import ConnectionSpec

__all__ = ["Silo", "identifier", "look_into"]

_HEAD_BYTES = 1 << 16
_MOST_FILES = 200
_LEAST_SCORE = 0.5
_SKIPPED = (".cpy", ".cbl", ".md", ".txt~", ".tmp", ".part", ".done")


@dataclass(frozen=True, slots=True)
class Silo:
    """One table or file.

    Parameters
    ----------
    source
        The name that it gets as a source.
    place
        Keys of its place in a declaration, without the connection.
    sample
        Some of its rows.
    primary_key, required
        As a catalogue says; empty for files.
    complete
        Whether the sample is all there is.
    evidence
        What speaks for the proposed format.
    layout
        Name and text of the layout file that it needs; None without one.
    """

    source: str
    connection: str
    place: Mapping[str, Any]
    sample: pa.Table
    primary_key: tuple[str, ...] = ()
    required: frozenset[str] = field(default_factory=frozenset)
    complete: bool = False
    evidence: tuple[str, ...] = ()
    layout: tuple[str, str] | None = None

    @property
    def is_text(self) -> bool:
        """Whether its format decodes numbers from text itself."""
        return self.place.get("format") in {"csv", "fixed_width"}


def look_into(
    name: str, connection: "ConnectionSpec", workspace: Path, layouts: Sequence[Path], rows: int
) -> tuple[list[Silo], list[str]]:
    """Look at everything behind a connection.

    Parameters
    ----------
    name, connection
        As the workspace declares it.
    workspace
        Its folder.
    layouts
        Copybooks and layouts that may describe files.
    rows
        Most rows of a sample.

    Returns
    -------
    tuple
        The silos, and what could not be read and why.

    Raises
    ------
    SourceUnavailable
        When a database cannot be reached.
    """
    if isinstance(connection.options, DatabaseConnection):
        table = bind_table(connection.options, workspace, "", None, ())
        return [_of_table(name, each) for each in reflect_server(table, rows)], []
    if connection.kind == "sqlite":
        return [_of_table(name, each) for each in reflect_sqlite(connection.location(workspace), rows)], []
    return _of_folder(name, connection.location(workspace), layouts, rows)


def identifier(text: str) -> str:
    """Make a name of a source or field.

    Examples
    --------
    >>> identifier("CUST-NO"), identifier("2nd Name "), identifier("Straße")
    ('cust_no', 'f_2nd_name', 'stra_e')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")[:60] or "field"
    return plain if plain[0].isalpha() else f"f_{plain}"


def _of_table(connection: str, table: Reflected) -> Silo:
    return Silo(
        identifier(table.name), connection, {"table": table.name}, table.sample, table.primary_key, table.required,
        complete=table.complete,
    )  # fmt: skip


def _of_folder(name: str, folder: Path, layouts: Sequence[Path], rows: int) -> tuple[list[Silo], list[str]]:
    silos, problems = [], []
    inside = folder.resolve()
    files = sorted(path for path in inside.rglob("*") if path.is_file() and path.resolve().is_relative_to(inside))
    books = [*layouts, *(path for path in files if path.suffix.lower() in {".cpy", ".cbl"})]
    for path in islice((path for path in files if path.suffix.lower() not in _SKIPPED), _MOST_FILES):
        relative = path.relative_to(inside).as_posix()
        try:
            found = _of_file(name, path, relative, books, rows)
        except (BrownfieldError, OSError, pa.ArrowException, ValueError) as error:
            problems.append(f"{name}: {relative}: {type(error).__name__}")
            continue
        if found is None:
            problems.append(f"{name}: {relative}: no format explains it; give its copybook with --layout")
        else:
            silos.append(found)
    return silos, problems


def _of_file(connection: str, path: Path, relative: str, books: Sequence[Path], rows: int) -> Silo | None:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    best: tuple[Proposal, Path | None] | None = None
    for book in (None, *books):
        text = None if book is None else book.read_text(encoding="utf-8")
        for proposal in propose_format(head, text)[:1] if head else ():
            readable = proposal.format not in {"copybook", "fixed_width"} or book is not None
            if readable and proposal.score >= _LEAST_SCORE and (best is None or proposal.score > best[0].score):
                best = (proposal, book)
    if best is None:
        return None
    proposal, book = best
    layout = None if book is None or proposal.format not in {"copybook", "fixed_width"} else book
    options = dict(proposal.options) | ({} if layout is None else {"layout": layout.name})
    text = None if layout is None else layout.read_text(encoding="utf-8")
    opened = open_format(proposal.format, DEFAULT.formats[proposal.format](**options), text)
    wanted = _columns(proposal.format, path, head, options, opened)
    with path.open("rb") as stream:
        sample, complete = _first(opened.decode(stream, wanted), wanted, rows)
    return Silo(
        identifier(path.stem), connection, {"path": relative, "format": proposal.format, **options}, sample,
        complete=complete, evidence=proposal.evidence,
        layout=None if layout is None or text is None else (layout.name, text),
    )  # fmt: skip


def _first(batches: Iterator[Any], wanted: pa.Schema, rows: int) -> tuple[pa.Table, bool]:
    """Take the first rows, and say whether those are all."""
    found, have = [], 0
    for decoded in batches:
        found.append(decoded.batch)
        have += decoded.batch.num_rows
        if have >= rows:
            break
    if not found:
        return wanted.empty_table(), True
    table = pa.Table.from_batches(found)
    return table.slice(0, rows), have < rows


def _columns(kind: str, path: Path, head: bytes, options: Mapping[str, Any], opened: Any) -> pa.Schema:
    """Columns of a file: texts where the format has no types of its own."""
    if kind in {"parquet", "arrow"}:
        with path.open("rb") as stream:
            return _plain(schema_aside("parquet" if kind == "parquet" else options.get("container", "file"), stream))
    if kind in {"copybook", "fixed_width"}:
        fields = []
        for item in opened.layout.items:
            if not item.axes:
                number = pa.float64() if item.scale else pa.int64()
                fields.append((item.name, pa.string() if item.usage == "text" else number))
        return pa.schema(fields)
    if kind == "json":
        return _of_json(head)
    text = head.decode(options.get("encoding", "utf-8"), errors="replace").lstrip("\ufeff")
    names = next(
        csv.reader(text.splitlines(), delimiter=options.get("delimiter", ","), quotechar=options.get("quote", '"')), []
    )
    return pa.schema([(name, pa.string()) for name in names])


def _plain(schema: pa.Schema) -> pa.Schema:
    """Columns of one value; days and moments as text, as the contract reads them."""
    kinds = [(each.name, each.type.value_type if pa.types.is_dictionary(each.type) else each.type) for each in schema]
    return pa.schema(
        [
            (name, pa.string() if pa.types.is_large_string(kind) else kind)
            for name, kind in kinds
            if not pa.types.is_nested(kind)
        ]
    )


def _of_json(head: bytes) -> pa.Schema:
    """Keys of the first whole records, and what they hold."""
    lines = [line for line in head.splitlines()[:-1] or head.splitlines() if line.strip().startswith(b"{")]
    records = [msgspec.json.decode(line.rstrip(b", ")) for line in lines[:100]]
    if not records:
        records = msgspec.json.decode(head)[:100]
    kinds: dict[str, pa.DataType] = {}
    for record in records:
        for key, value in record.items():
            if isinstance(value, list | dict) or value is None:
                continue
            kind = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(type(value), pa.string())
            earlier = kinds.setdefault(key, kind)
            if earlier != kind:
                kinds[key] = pa.float64() if {earlier, kind} == {pa.int64(), pa.float64()} else pa.string()
    return pa.schema(list(kinds.items()))
