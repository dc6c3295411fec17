"""Decision records read back from a journal's segments, also from those that a kill or a disk has damaged."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from brownfield.errors import NotFound, StoreError
from brownfield.store.journal import SCHEMA, START, segments_of
from brownfield.store.journal_blocks import END, head_of, verified

__all__ = ["read_journal"]

_ALWAYS = frozenset({"at_utc", "integration", "decision"})  # what every version keeps
_DAMAGE = (pa.ArrowException, OSError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError)
_BEING_WRITTEN = ".part"
_LOOKS = 5
_A_MOMENT_S = 0.05  # in which what is being written is
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
        The schema's metadata names under ``torn`` (a JSON list) the segments of which a part could not be read, under
        ``damaged`` (a JSON object) where in them, as pairs of bytes, and under ``older`` those of an earlier version:
        what it did not keep is null. Segments of versions without checksums are not in ``damaged``.

    Raises
    ------
    NotFound
        When there is no such folder.
    StoreError
        When this user may not read all of it: what is not read is not left out unsaid.
    """
    try:
        if not folder.is_dir():
            raise NotFound("there is no journal yet", where=str(folder), next_step="It appears with the first answers.")
        for _ in os.walk(folder, onerror=_raise_denied):
            pass  # looking for segments takes no notice of a folder that may not be entered
        return _read_all(folder, integration)
    except PermissionError as error:
        raise StoreError(
            "this user may not read all of the journal",
            where=str(error.filename or folder),
            next_step="Read it as the user who serves, or copy it as that user.",
        ) from error


def _raise_denied(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise error


def _read_all(folder: Path, integration: str | None) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    damaged: dict[str, list[tuple[int, int]]] = {}
    found = [(path.name, _read_segment(path, batches, damaged)) for path, _ in segments_of(folder, integration)]
    named = {state: json.dumps([name for name, each in found if each == state]) for state in ("torn", "older")}
    named["damaged"] = json.dumps(damaged)
    return pa.Table.from_batches(batches, SCHEMA).sort_by("at_utc").replace_schema_metadata(named)


def _read_segment(path: Path, batches: list[pa.RecordBatch], damaged: dict[str, list[tuple[int, int]]]) -> str:
    """Add what can be read of a segment to `batches`; say as what, and where it is damaged.

    One that is torn and grows is being written, and of what came last there was half: it is read again.
    """
    before = -1
    for _ in range(_LOOKS):
        found: list[pa.RecordBatch] = []
        where: dict[str, list[tuple[int, int]]] = {}
        size = _size(path)
        state = _read_once(path, found, where)
        if state != "torn" or size in {None, before}:
            break
        before = size
        time.sleep(_A_MOMENT_S)
    batches += found
    damaged.update(where)
    return state


def _size(path: Path) -> int | None:
    """Bytes of a segment that may be written still; None of any other."""
    try:
        return path.stat().st_size if path.suffix == _BEING_WRITTEN else None
    except OSError:
        return -1  # it has another name now


def _read_once(path: Path, batches: list[pa.RecordBatch], damaged: dict[str, list[tuple[int, int]]]) -> str:
    """Add what can be read of a segment to `batches`; say whether something of it is ``torn``, or all of it ``older``.

    Whatever damaged bytes make Arrow raise costs their block alone, and the rest of a segment of a version without
    checksums; of such a one, a bit that leaves text or number as valid as it was is not seen.
    """
    for place in (path, path.with_name(path.name.removesuffix(".part"))):
        try:
            content = place.read_bytes()
            head = head_of(content)
            if head is None:
                return _read_stream(content, batches)
            return _read_blocks(content, head, batches, damaged.setdefault(path.name, []))
        except FileNotFoundError:
            continue  # its writer has just given it its final name, or deleted it as too old
        except PermissionError:
            raise
        except _DAMAGE:
            return "torn"
        finally:
            if not damaged.get(path.name):
                damaged.pop(path.name, None)
    return ""


def _read_blocks(content: bytes, head: bytes, batches: list[pa.RecordBatch], damaged: list[tuple[int, int]]) -> str:
    """Read the blocks that are as they were written, and note where others lie, or other bytes."""
    found = list(verified(content, head))
    start = len(head)
    if not found and content[: len(START)] != START:  # the head may be what is damaged: it is always the same
        head, start = START, 0
        found = list(verified(content, head))
    states = set()
    for begin, end in found:
        if start < begin:
            damaged.append((start, begin))
        start = end
        try:
            states.add(_read_stream(b"".join((head, content[begin:end], END)), batches))
        except _DAMAGE:
            states.add("torn")
    if content[start:] not in {b"", END}:
        damaged.append((start, len(content)))
    return "torn" if damaged or "torn" in states else states.pop() if states else ""


def _read_stream(content: bytes, batches: list[pa.RecordBatch]) -> str:
    """Read a stream; each batch is looked through first: offsets that point elsewhere end whoever follows them."""
    source = pa.BufferReader(content)
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
    if source.tell() < len(content) or source.tell() - end not in {0, len(END)}:
        return "torn"
    return "older" if len(names) < len(kinds) else ""


def _is_dated(at_utc: pa.Array) -> bool:
    """Whether every decision has a time that Python has a word for: others end whoever looks at them."""
    if at_utc.null_count:
        return False
    times_us = at_utc.view(pa.int64()).to_numpy()
    return bool(((times_us >= 0) & (times_us <= _LAST_US)).all())
