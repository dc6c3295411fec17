"""Decision records read back from a journal's segments, also from those that a kill or a disk has damaged."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from brownfield.errors import NotFound
from brownfield.store.journal import END, SCHEMA, segments_of

__all__ = ["read_journal"]

_ALWAYS = frozenset({"at_utc", "integration", "decision"})  # what every version keeps
_LAST_US = (datetime.max.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def read_journal(folder: Path, integration: str | None = None) -> pa.Table:
    """Read every decision that was flushed, in order of time, also from segments that a killed process left torn.

    Parameters
    ----------
    folder
        Where the segments lie, in folders for each integration too: usually ``var/journal``.
    integration
        Only this one's.

    Returns
    -------
    pyarrow.Table
        One row for each kept decision; ``rate`` is the chance with which it was kept (count it ``1 / rate`` times).
        The schema's metadata names under ``torn`` (a JSON list) the segments of which a part could not be read, and
        under ``older`` those of an earlier version: what it did not keep is null.

    Raises
    ------
    NotFound
        When there is no such folder.
    """
    if not folder.is_dir():
        raise NotFound("there is no journal yet", where=str(folder), next_step="It appears with the first answers.")
    batches: list[pa.RecordBatch] = []
    found = [(path.name, _read_segment(path, batches)) for path, _ in segments_of(folder, integration)]
    named = {state: json.dumps([name for name, each in found if each == state]) for state in ("torn", "older")}
    return pa.Table.from_batches(batches, SCHEMA).sort_by("at_utc").replace_schema_metadata(named)


def _read_segment(path: Path, batches: list[pa.RecordBatch]) -> str:
    """Add what can be read of a segment to `batches`; say whether something of it is ``torn``, or all of it ``older``.

    Whatever damaged bytes make Arrow raise costs the rest of this segment alone. Each batch is looked through before it
    is used: offsets that a flipped bit let point elsewhere end whoever follows them. There is no checksum: a bit that
    leaves text or number as valid as it was is not seen.
    """
    for place in (path, path.with_name(path.name.removesuffix(".part"))):
        try:
            size_bytes = place.stat().st_size  # before: what its writer appends meanwhile is no tear
            with pa.OSFile(str(place)) as source:
                return _read_stream(source, size_bytes, batches)
        except FileNotFoundError:
            continue  # its writer has just given it its final name, or deleted it as too old
        except (pa.ArrowException, OSError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError):
            return "torn"
    return ""


def _read_stream(source: pa.NativeFile, size_bytes: int, batches: list[pa.RecordBatch]) -> str:
    reader = pa.ipc.open_stream(source)
    names = reader.schema.names
    kinds = {field.name: field.type for field in SCHEMA}
    if len(set(names)) < len(names) or not _ALWAYS.issubset(names):
        return "torn"
    if any(kinds.get(field.name) != field.type for field in reader.schema):
        return "torn"
    end = source.tell()
    for batch in reader:
        batch.validate(full=True)
        if not _is_dated(batch.column("at_utc")):
            return "torn"
        columns = [
            batch.column(name) if name in names else pa.nulls(batch.num_rows, kind) for name, kind in kinds.items()
        ]
        batches.append(pa.record_batch(columns, schema=SCHEMA))
        end = source.tell()
    # A stream ends where the file does, or with its mark. Zeros, as a loss of power leaves them, are another end to
    # Arrow, of which it reads four.
    if source.tell() < size_bytes or source.tell() - end not in {0, len(END)}:
        return "torn"
    return "older" if len(names) < len(kinds) else ""


def _is_dated(at_utc: pa.Array) -> bool:
    """Whether every decision has a time that Python has a word for: others end whoever looks at them."""
    if at_utc.null_count:
        return False
    times_us = at_utc.view(pa.int64()).to_numpy()
    return bool(((times_us >= 0) & (times_us <= _LAST_US)).all())
