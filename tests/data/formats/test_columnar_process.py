"""Columnar files of foreign origin in a process of their own: the same rows, and no file that does more than fail."""

import io
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brownfield.data.formats import Arrow, Parquet, columnar_process, schema_aside
from brownfield.errors import FormatError

pytestmark = pytest.mark.full

WANTED = pa.schema({"n": pa.int64(), "t": pa.string(), "l": pa.list_(pa.float64())})
TABLE = pa.table(
    {
        "t": pa.array(["abc", None, "ü"] * 100).dictionary_encode(),
        "other": pa.array([b"x"] * 300),
        "n": pa.array(range(300), pa.int16()),
        "l": pa.array([[1.5, None], None, []] * 100),
    }
)
KINDS = {"parquet": Parquet(), "file": Arrow("file"), "stream": Arrow("stream")}
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


def written(kind: str, table: pa.Table, **options) -> bytes:
    """Write a table by the library itself."""
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink, **options)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def rows(kind: str, stream, wanted: pa.Schema = WANTED) -> list[dict]:
    """Decode a file."""
    return [row for part in KINDS[kind].decode(stream, wanted, 128) for row in part.batch.to_pylist()]


def children() -> set[str]:
    """Processes that this one has started and that are still there."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@every_kind
@pytest.mark.parametrize("held", ["memory", "file"])
def test_b_29_a_file_read_aside_has_the_same_rows(kind, held, tmp_path):
    """B-29: whatever holds the file, the rows of the confined process are those of this one, and it is gone then."""
    data, before = written(kind, TABLE), children()
    if held == "memory":
        found = rows(kind, io.BytesIO(data))
    else:
        (tmp_path / "f").write_bytes(data)
        with (tmp_path / "f").open("rb") as stream:
            found = rows(kind, stream)
            assert stream.tell() == len(data)
    assert found == TABLE.select(WANTED.names).to_pylist()
    assert children() == before


@every_kind
def test_b_29_the_columns_of_a_file_are_learned_aside(kind):
    """B-29: who only asks for names and types does not open the file itself either."""
    assert schema_aside(kind, io.BytesIO(written(kind, TABLE))).names == TABLE.column_names
    assert rows(kind, io.BytesIO(written(kind, TABLE.slice(0, 0)))) == []
    with pytest.raises(FormatError, match="an undamaged file"):
        schema_aside(kind, io.BytesIO(b"PAR1" * 5))


@every_kind
def test_b_29_the_reason_of_a_refusal_comes_through(kind):
    """B-29: a column that is not there is named as if the file had been read here."""
    with pytest.raises(FormatError, match=r"price: expected one column of that name, got none. There are t, other, n"):
        rows(kind, io.BytesIO(written(kind, TABLE)), pa.schema({"price": pa.float64()}))


@pytest.mark.parametrize("end", [0, 3, 8, -1, -4, -8, -20], ids=lambda end: f"B-29-cut-{end}")
def test_b_29_a_footer_that_is_cut_is_refused(end):
    """B-29: wherever a Parquet file ends too early, it is refused as a whole."""
    with pytest.raises(FormatError, match="an undamaged file"):
        rows("parquet", io.BytesIO(written("parquet", TABLE)[:end]))


def test_b_29_a_footer_of_noise_is_refused():
    """B-29: a footer whose bytes mean nothing, and one that says that it is longer than the file, are refused."""
    data = written("parquet", TABLE)
    size = struct.unpack("<I", data[-8:-4])[0]
    noise = np.random.default_rng(29).integers(0, 256, size, dtype=np.uint8).tobytes()
    for bad in (data[: -8 - size] + noise + data[-8:], data[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1"):
        with pytest.raises(FormatError, match="an undamaged file"):
            rows("parquet", io.BytesIO(bad))


def test_b_29_a_thousand_million_row_groups_that_are_claimed_cost_nothing():
    """B-29: a footer that says that 1e9 row groups follow is refused before memory is taken for them."""
    schema = b"\x48\x01s\x15\x02\x00" + b"\x15\x04\x25\x02\x18\x01n\x00"
    claim = bytes((10**9 >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    footer = b"\x15\x04" + b"\x19\x2c" + schema + b"\x16\x00" + b"\x19\xfc" + claim
    data = b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"
    with pytest.raises(FormatError, match="an undamaged file"):
        rows("parquet", io.BytesIO(data), pa.schema({"n": pa.int64()}))


def test_b_29_offsets_that_decrease_are_refused_aside():
    """B-29: the child looks at every offset before anything is sent."""
    offsets = np.array([0, 3, 1], dtype=np.int32)
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(b"abc"))
    with pytest.raises(FormatError):
        rows("stream", io.BytesIO(written("stream", pa.table({"t": bad}))), pa.schema({"t": pa.string()}))


def test_b_29_a_page_that_unfolds_beyond_the_bound_ends_the_child_alone(monkeypatch):
    """B-29: some kilobytes that become 400 MiB within one page are refused, and this process never holds them."""
    bomb = pa.table({"t": pa.array([b"\0" * (400 << 20)], pa.binary())}).cast(pa.schema({"t": pa.large_string()}))
    data = written("parquet", bomb, compression="zstd", use_dictionary=False, write_statistics=False)
    del bomb
    assert len(data) < 1 << 20
    monkeypatch.setattr(columnar_process, "_MEMORY_MIB", 300)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(FormatError, match="an undamaged file"):
        rows("parquet", io.BytesIO(data), pa.schema({"t": pa.string()}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(peak, pa.total_allocated_bytes() - before) < 64 << 20


def test_b_29_one_text_that_stands_for_many_ends_the_child_alone(monkeypatch):
    """B-29: a dictionary of one long text, named by each of 20,000 rows, is not unfolded in this process."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * (1 << 20)]))
    monkeypatch.setattr(columnar_process, "_MEMORY_MIB", 300)
    wanted = pa.schema({"t": pa.string()})
    for kind in ("parquet", "stream"):
        data = io.BytesIO(written(kind, pa.table({"t": one})))
        with pytest.raises(FormatError, match="an undamaged file"):
            list(KINDS[kind].decode(data, wanted))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV], ids=lambda by: f"B-29-{by.name}")
def test_b_29_a_child_that_is_killed_is_a_refused_file(by):
    """B-29: when the child ends in the middle, the file is refused with the signal's name; no rest is made up."""
    large = pa.table({"n": np.arange(4_000_000)})
    reading = Parquet().decode(io.BytesIO(written("parquet", large)), pa.schema({"n": pa.int64()}))
    before = children()
    next(reading)
    (child,) = children() - before
    os.kill(int(child), by)
    with pytest.raises(FormatError, match=f"the process that read it ended by {by.name}"):
        list(reading)
    assert children() == before


def test_b_29_a_child_that_falls_silent_is_ended(monkeypatch):
    """B-29: a child that neither sends nor ends is given up after the time cap, and is gone."""
    monkeypatch.setattr(columnar_process, "_MAX_SILENCE_S", 0.5)
    monkeypatch.setattr(columnar_process, "_START", "import time; time.sleep(600)")
    before, started = children(), time.monotonic()
    with pytest.raises(FormatError, match=r"no answer for 0.5 s"):
        rows("parquet", io.BytesIO(written("parquet", TABLE)))
    assert time.monotonic() - started < 30
    assert children() == before


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 9, written("stream", pa.table({"n": ["no number"]}))],
    ids=["B-29-nothing", "B-29-noise", "B-29-other-columns"],
)
def test_b_29_what_a_taken_over_child_sends_is_checked(monkeypatch, answer):
    """B-29: a child that a file has taken over can send what it likes and gets a refusal for it."""
    code = f"import os, sys; sys.stdin.read(); os.write(1, {answer!r})"
    monkeypatch.setattr(columnar_process, "_START", code)
    with pytest.raises(FormatError):
        rows("parquet", io.BytesIO(written("parquet", TABLE)), pa.schema({"n": pa.int64()}))


def test_b_29_who_stops_reading_leaves_no_child():
    """A reader that wants only the first rows leaves no process behind."""
    before = children()
    large = pa.table({"n": np.arange(4_000_000)})
    reading = Parquet().decode(io.BytesIO(written("parquet", large)), pa.schema({"n": pa.int64()}))
    next(reading)
    assert len(children() - before) == 1
    reading.close()
    assert children() == before


def test_b_29_the_child_can_neither_write_nor_connect_nor_start(tmp_path):
    """B-29: with the confinement of the kernel, native code in the child reaches nothing; without it this says so."""
    from brownfield.confinement import landlock_abi

    if landlock_abi() == 0:
        pytest.skip("this kernel has no Landlock: the limits alone hold")
    code = textwrap.dedent(
        """
        import os, socket, sys
        sys.path.insert(0, sys.argv[1])
        from brownfield.data.formats import columnar_process
        columnar_process.confine(512, mapped_bytes=0)
        for attempt in (lambda: open(sys.argv[2]).read(), lambda: open(sys.argv[2], "w"), socket.socket, os.fork):
            try:
                attempt()
                print("done")
            except OSError:
                print("refused")
        """
    )
    secret = tmp_path / "secret"
    secret.write_text("x")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, columnar_process._ROOT, str(secret)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["refused"] * 4


def test_b_29_several_files_at_one_time_do_not_meet():
    """Threads that read files beside each other get each their own rows."""
    found: dict[int, list] = {}

    def read(number: int) -> None:
        table = pa.table({"n": [number] * 50})
        found[number] = rows("parquet", io.BytesIO(written("parquet", table)), pa.schema({"n": pa.int64()}))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [{"n": number}] * 50 for number in range(3)}
