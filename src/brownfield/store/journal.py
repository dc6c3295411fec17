"""Decision records of one integration as Arrow segments, appended after the answer without any input or output.

Decisions come in one by one, each as a few numbers at the ends of columns. `gather` makes Arrow of the columns, and
`write` of that one compressed IPC batch, in another thread that holds the interpreter for a moment only.
Values that the contract classifies are masked before they reach the buffer.
What cannot be written is counted, never waited for.
"""

import io
import os
import random
import re
import secrets
import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from brownfield.clock import Clock
from brownfield.store.files import private_folder
from brownfield.store.journal_blocks import END, MARKED, UNSEALED, sealed
from brownfield.store.masking import is_masked, mask_value
from brownfield.store.today import Today
from brownfield.types import Columns, Decision, Reason

if TYPE_CHECKING:
    from brownfield.contract import Contract

__all__ = ["SCHEMA", "START", "Journal", "JournalPolicy", "segments_of"]

SCHEMA = pa.schema(
    [
        ("at_utc", pa.timestamp("us", tz="UTC")),
        ("integration", pa.string()),
        ("decision", pa.string()),
        ("source", pa.string()),
        ("version", pa.string()),
        ("reason", pa.string()),
        ("cause", pa.string()),
        ("degraded", pa.bool_()),
        ("contract", pa.string()),
        ("rows", pa.int64()),
        ("latency_us", pa.map_(pa.string(), pa.int64())),
        ("rate", pa.float64()),
        ("inputs", pa.string()),
    ]
)
_SHARED = ("integration", "source", "version", "reason", "cause", "contract")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)  # few rows: a pool of threads costs more
_STAMP = "%Y%m%dT%H%M%S%fZ"
_SUFFIX = ".arrows"
_NAME = re.compile(r"(.+)-([0-9]{8}T[0-9]{12}Z)-[0-9a-f]{6}\.arrows(?:\.part)?")
_OVERLOAD = "overload"  # such decisions are the load itself: keeping each would cost more than giving it
_MANY = 1024  # decisions: to gather them holds callers up for half a millisecond
_MOST = 2048  # decisions that are gathered together
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INPUT_ROWS = 16
_INPUT_VALUES = 4096

Latency: TypeAlias = Mapping[str, int] | Callable[[], list[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class JournalPolicy:
    """How much a journal keeps.

    Parameters
    ----------
    envelopes_per_s
        Decisions per second that are all kept; above it a uniform sample of about this many, with its rate.
    inputs_share
        Share of the kept decisions whose inputs are kept too, masked.
    buffer_entries
        Decisions waiting to be gathered; further ones are dropped and counted. As many may wait to be written.
    segment_mib, segment_s
        Size and age at which a segment is closed and the next begins.
    keep_days, keep_mib
        Age and total size beyond which closed segments are deleted, oldest first.
    seed
        Of the sampler.
    """

    envelopes_per_s: int = 1000
    inputs_share: float = 0.01
    buffer_entries: int = 20_000
    segment_mib: float = 64
    segment_s: float = 3600
    keep_days: float = 30
    keep_mib: float = 1024
    seed: int = 0


class Journal:
    """The decision records of one integration.

    `append`, `gather` and `flush` belong to one thread. `write` belongs to any, and `close` too once nobody appends.

    Parameters
    ----------
    folder
        Where segments are written, one file each, named by integration and start.
    integration
        Its name, a slug.
    contract
        The compiled contract; its ``request`` schema says which fields are masked.
    clock
        Whose time is stamped.
    today
        By which segments are too old; one for all journals of a process, for it is to know that the clock was set.

    Attributes
    ----------
    dropped
        Decisions lost since the start, because the buffer was full or the disk refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        integration: str,
        contract: "Contract",
        clock: Clock,
        policy: JournalPolicy | None = None,
        today: Today | None = None,
    ) -> None:
        self.dropped = 0
        self._policy = policy or JournalPolicy()
        self._clock = clock
        self._classes = {field.name: field.classification for field in contract.schema("request").fields}
        self._columns = _Columns()
        self._full: deque[_Columns] = deque()  # before these, with as many as are gathered together
        self._batches: deque[pa.RecordBatch] = deque()
        self._random = random.Random(self._policy.seed).random  # noqa: S311 (a sample, not a secret)
        self._second = -1
        self._offered = 0
        self._quota = 0
        self._rate = 1.0
        self._segments = _Segments(folder, integration, clock, self._policy, today or Today(clock))
        self._writing = threading.Lock()

    def append(self, decision: Decision, latency_us: Latency, rows: int, inputs: Columns | None = None) -> None:
        """Keep one decision, or sample it away; two or three microseconds, never any input or output.

        Parameters
        ----------
        latency_us
            Microseconds by stage, or what gives pairs of both, asked only where the decision is kept.
        rows
            Records in the request.
        inputs
            The checked request columns; of the sampled share the first 16 rows are kept, masked.
        """
        rate = self._keep_rate()
        if (decision.degraded or decision.reason is Reason.ERROR) and decision.cause != _OVERLOAD:
            rate = 1.0
        elif rate < 1.0 and self._random() >= rate:
            return
        waiting = len(self._columns)
        if waiting + len(self._full) * _MOST >= self._policy.buffer_entries:
            self.dropped += 1
            return
        kept = None
        if inputs is not None and self._random() < self._policy.inputs_share:
            kept = self._masked(inputs)
        self._quota -= 1
        if waiting >= _MOST:
            self._full.append(self._columns)
            self._columns = _Columns()
        self._columns.append(self._clock.now_utc(), decision, latency_us, rows, rate, kept)

    @property
    def has_many(self) -> bool:
        """Whether so many decisions wait that they had better be written now."""
        return len(self._columns) >= _MANY or len(self._full) > 0

    @property
    def portions(self) -> int:
        """How often to gather for all that waits."""
        return len(self._full) + 1

    def gather(self) -> None:
        """Make Arrow of what was appended first, at most two thousand decisions, ready to be written."""
        if self._full:
            columns = self._full.popleft()
        else:
            columns, self._columns = self._columns, _Columns()
        if len(columns):
            try:
                self._batches.append(columns.batch())
            except (pa.ArrowException, MemoryError):
                self.dropped += len(columns)

    def write(self) -> None:
        """Write what was gathered; a disk that refuses costs these decisions and nothing else."""
        with self._writing:
            batches = [self._batches.popleft() for _ in range(len(self._batches))]
            if batches and not self._segments.write(batches):
                self.dropped += sum(batch.num_rows for batch in batches)
            self._segments.rotate_when_due()

    def flush(self) -> None:
        """Gather all and write."""
        for _ in range(self.portions):
            self.gather()
        self.write()

    def close(self) -> None:
        """Flush, and close the segment."""
        self.flush()
        with self._writing:
            self._segments.close()

    def _keep_rate(self) -> float:
        """Rate for this decision: the last second's load sets it; it halves whenever this second fills its quota."""
        second = self._clock.monotonic_ns() // 1_000_000_000
        limit = self._policy.envelopes_per_s
        if second != self._second:
            busy = self._offered if second == self._second + 1 else 0
            self._rate = min(1.0, limit / busy) if busy else 1.0
            self._second, self._offered, self._quota = second, 0, limit
        self._offered += 1
        if self._quota <= 0:
            self._rate /= 2
            self._quota = max(1, limit // 2)
        return self._rate

    def _masked(self, inputs: Columns) -> str:
        shown = {name: _shown(column, self._classes.get(name, "unknown")) for name, column in inputs.items()}
        return msgspec.json.encode(shown, enc_hook=str).decode()


class _Columns:
    """What was appended: numbers, codes for the few texts that come again and again, and the texts that do not."""

    def __init__(self) -> None:
        self.inputs: list[str | None] = []
        self._ids: list[str] = []
        self._shared: dict[tuple[str | bool, ...], int] = {}
        self._stages: dict[str, int] = {}
        self._at_us, self._rows, self._rates = array("q"), array("q"), array("d")
        self._shared_code = array("i")
        self._stage_code, self._stage_us, self._stage_ends = array("i"), array("q"), array("i", [0])

    def __len__(self) -> int:
        return len(self._ids)

    def append(
        self, at_utc: datetime, decision: Decision, latency_us: Latency, rows: int, rate: float, inputs: str | None
    ) -> None:
        """Add one decision."""
        stages = latency_us() if callable(latency_us) else list(latency_us.items())
        at_us = (at_utc - _EPOCH) // _MICROSECOND
        shared = (
            decision.integration, decision.source, decision.version, decision.reason.value, decision.cause,
            decision.contract, decision.degraded,
        )  # fmt: skip
        self._shared_code.append(self._shared.setdefault(shared, len(self._shared)))
        self._ids.append(decision.id)
        self._at_us.append(at_us)
        self._rows.append(rows)
        self._rates.append(rate)
        self.inputs.append(inputs)
        for stage, took_us in stages:
            self._stage_code.append(self._stages.setdefault(stage, len(self._stages)))
            self._stage_us.append(took_us)
        self._stage_ends.append(len(self._stage_us))

    def batch(self) -> pa.RecordBatch:
        """Give all of them, at least one."""
        *texts, degraded = zip(*self._shared, strict=True)
        shared = [_texts(each, self._shared_code) for each in texts]
        stages = _texts(tuple(self._stages), self._stage_code)
        latency_us = pa.MapArray.from_arrays(
            _numbers(pa.int32(), self._stage_ends), stages, _numbers(pa.int64(), self._stage_us)
        )
        arrays = {
            "at_utc": _numbers(SCHEMA.field("at_utc").type, self._at_us),
            **dict(zip(_SHARED, shared, strict=True)),
            "decision": pa.array(self._ids, pa.string()),
            "degraded": pa.array([degraded[code] for code in self._shared_code], pa.bool_()),
            "rows": _numbers(pa.int64(), self._rows),
            "latency_us": latency_us,
            "rate": _numbers(pa.float64(), self._rates),
            "inputs": pa.array(self.inputs, pa.string()),
        }
        return pa.record_batch([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _numbers(kind: pa.DataType, values: "array[Any]") -> pa.Array:
    """Give the numbers of an array, which is not to change any more; Arrow's conversions would import 20 MiB."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _texts(texts: Sequence[str], codes: "array[int]") -> pa.Array:
    """Give the texts that the codes stand for."""
    known = [text.encode() for text in texts]
    ends = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(np.array([len(text) for text in known], np.int32)[np.asarray(codes)], out=ends[1:])
    joined = b"".join([known[code] for code in codes])
    return pa.Array.from_buffers(pa.string(), len(codes), [None, pa.py_buffer(ends), pa.py_buffer(joined)])


class _Segments:
    """The file being written, and the closed ones that are still kept."""

    def __init__(self, folder: Path, integration: str, clock: Clock, policy: JournalPolicy, today: Today) -> None:
        self._folder = folder
        self._integration = integration
        self._clock = clock
        self._policy = policy
        self._today = today
        self._file: io.FileIO | None = None
        self._path = folder
        self._started_ns = 0
        self._looked_ns = -1
        self._written_bytes = 0

    def write(self, batches: Sequence[pa.RecordBatch]) -> bool:
        """Append them as one batch, whole; False when the disk refused it."""
        try:
            if self._file is not None and not os.fstat(self._file.fileno()).st_nlink:
                self._finish()  # somebody deleted it: what is written there is nowhere
            if self._file is None:
                self._open()
            self._write_all(_blocks(batches))
        except (OSError, pa.ArrowException, MemoryError):
            self._abandon()
            return False
        return True

    def rotate_when_due(self) -> None:
        """Close a segment that is large or old enough, and delete what is no longer kept, also where nobody asks."""
        now_ns = self._clock.monotonic_ns()
        if self._file is None:
            if self._looked_ns < 0 or (now_ns - self._looked_ns) / 1e9 >= self._policy.segment_s:
                self._delete_old()
            return
        age_s = (now_ns - self._started_ns) / 1e9
        if self._written_bytes >= self._policy.segment_mib * 2**20 or age_s >= self._policy.segment_s:
            self.close()

    def close(self) -> None:
        """End the segment: fsync, then its final name."""
        if self._file is None:
            return
        try:
            self._write_all(END)
            os.fsync(self._file.fileno())
        except OSError:
            self._abandon()
            return
        self._finish()

    def _open(self) -> None:
        private_folder(self._folder)
        self._delete_old()
        name = f"{self._integration}-{self._clock.now_utc().strftime(_STAMP)}-{secrets.token_hex(3)}{_SUFFIX}"
        self._path = self._folder / name
        descriptor = os.open(f"{self._path}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = io.FileIO(descriptor, "wb")
        self._started_ns = self._clock.monotonic_ns()
        self._written_bytes = 0
        self._write_all(START)

    def _write_all(self, content: bytes) -> None:
        assert self._file is not None  # noqa: S101 (for the type checker)
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) or 0 :]
        self._written_bytes += len(content)

    def _abandon(self) -> None:
        """Cut off what was half written and end the segment there; the next flush begins another.

        One without any decision is deleted.
        """
        if self._file is None:
            return
        if self._written_bytes <= len(START):
            with suppress(OSError):
                Path(f"{self._path}.part").unlink()
        else:
            with suppress(OSError):
                self._file.truncate(self._written_bytes)
        self._finish()

    def _finish(self) -> None:
        assert self._file is not None  # noqa: S101 (for the type checker)
        with suppress(OSError):
            self._file.close()
        self._file = None
        with suppress(OSError):
            Path(f"{self._path}.part").rename(self._path)

    def _delete_old(self) -> None:
        self._looked_ns = self._clock.monotonic_ns()
        oldest = self._today.now_utc() - timedelta(days=self._policy.keep_days)
        left_bytes = self._policy.keep_mib * 2**20
        for path, started in reversed(segments_of(self._folder, self._integration)):
            with suppress(OSError):  # another gateway has just renamed or deleted it
                left_bytes -= path.stat().st_size
                if left_bytes < 0 or started < oldest:
                    path.unlink()


def segments_of(folder: Path, integration: str | None) -> list[tuple[Path, datetime]]:
    """Give the segments and when they began, in this order; files of other names are none of ours."""
    found = []
    for path in folder.rglob(f"*{_SUFFIX}*"):
        name = _NAME.fullmatch(path.name)
        if name and integration in (None, name[1]):
            with suppress(ValueError):  # there is no such time
                found.append((path, datetime.strptime(name[2], _STAMP).replace(tzinfo=UTC)))
    return sorted(found, key=itemgetter(1))


def _blocks(batches: Sequence[pa.RecordBatch]) -> bytes:
    """Give all their rows as one batch, with its checksum; the interpreter is hardly held meanwhile."""
    table = pa.Table.from_batches(batches, SCHEMA).combine_chunks()
    return b"".join(sealed(_stream(batch)[len(START) : -len(END)], START) for batch in table.to_batches())


def _stream(batch: pa.RecordBatch | None) -> bytes:
    """Give a whole stream of one batch, or of none."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA.with_metadata(MARKED), options=_OPTIONS) as writer:
        if batch is not None:
            writer.write_batch(batch, custom_metadata=UNSEALED)
    content: bytes = sink.getvalue().to_pybytes()
    return content


START = _stream(None).removesuffix(END)  # of every segment


def _shown(column: Sequence[Any] | np.ndarray, classification: str) -> Any:
    """First rows of one column as plain values, masked by its class; a large tensor shows its shape alone."""
    head = column[:_INPUT_ROWS]
    if isinstance(head, np.ndarray):
        if head.size > _INPUT_VALUES or is_masked(classification):
            return f"{head.dtype} {list(np.shape(column))}"
        head = head.tolist()
    return [mask_value(value, classification) for value in head]
