"""Decision records: cheap to append, bounded, masked, sampled with a known rate, readable after any end."""

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from brownfield.contract import compile_contract
from brownfield.errors import NotFound
from brownfield.store import Journal, JournalPolicy, journal_reading, read_journal
from brownfield.store import journal as segments
from brownfield.types import Decision, Reason

EVERYTHING = JournalPolicy(inputs_share=1.0)
FIELDS = {"store_id": "", "customer": "pii", "note": "confidential", "shelf": "public"}


def contract():
    """A request with open and classified fields."""
    properties = [
        {"name": name, "logicalType": "string", **({"classification": word} if word else {})}
        for name, word in FIELDS.items()
    ]
    schema = [{"name": name, "logicalType": "object", "properties": properties} for name in ("request", "response")]
    return compile_contract(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": "shop",
            "version": "1.0.0",
            "status": "active",
            "schema": schema,
        }
    )


def decision(number=0, *, degraded=False, reason=Reason.STATIC):
    """The number-th decision."""
    return Decision(
        id=f"{number:016x}",
        integration="shop",
        source="constant" if degraded else "model",
        version="" if degraded else "1.0.0",
        reason=Reason.FALLBACK if degraded else reason,
        degraded=degraded,
        contract="shop@1.0.0",
        cause="worker" if degraded else "",
    )


@pytest.fixture
def folder(tmp_path):
    """Where the journal of the test lies."""
    return tmp_path / "journal"


@pytest.fixture
def journal(folder, clock):
    """Open a journal with a policy."""
    opened = []

    def _open(policy=EVERYTHING, integration="shop"):
        opened.append(Journal(folder, integration=integration, contract=contract(), clock=clock, policy=policy))
        return opened[-1]

    yield _open
    for each in opened:
        each.close()


def test_a_decision_comes_back_whole(journal, folder, clock):
    """Everything an operator asks later is in the record: who, why, which version, when, how long."""
    kept = journal()
    clock.advance(2.5)
    kept.append(decision(7), {"decode": 12, "infer": 180}, 3, {"store_id": ["a", "b", "c"]})
    kept.append(decision(8, degraded=True), {}, 1)
    kept.close()
    first, second = read_journal(folder).to_pylist()
    assert first["at_utc"] == clock.now_utc()
    assert (first["integration"], first["decision"], first["source"]) == ("shop", f"{7:016x}", "model")
    assert (first["version"], first["reason"], first["contract"], first["rows"]) == ("1.0.0", "STATIC", "shop@1.0.0", 3)
    assert (first["latency_us"], first["rate"]) == ([("decode", 12), ("infer", 180)], 1.0)
    assert json.loads(first["inputs"]) == {"store_id": ["a", "b", "c"]}
    assert (second["degraded"], second["cause"], second["inputs"]) == (True, "worker", None)


def test_i11_classified_values_never_reach_the_buffer_or_the_disk(journal, folder):
    """I11, S-19: classified and undeclared fields are masked before they are buffered; open ones are kept."""
    kept = journal()
    inputs = {name: [f"CANARY{name}"] for name in (*FIELDS, "undeclared")}
    kept.append(decision(), {}, 1, inputs)
    [buffered] = kept._columns.inputs
    assert "CANARYstore_id" in buffered
    assert "CANARYcustomer" not in buffered
    kept.close()
    shown = json.loads(read_journal(folder)["inputs"][0].as_py())
    assert shown == {
        "store_id": ["CANARYstore_id"],
        "customer": ["XXXXXXxxxxxxxx"],
        "note": ["XXXXXXxxxx"],
        "shelf": ["CANARYshelf"],
        "undeclared": ["XXXXXXxxxxxxxxxx"],
    }


def test_inputs_are_capped_and_tensors_shown_by_shape(journal, folder):
    """A huge request costs the journal no more than a few rows; a tensor too large to keep shows its shape."""
    kept = journal()
    kept.append(decision(), {}, 500, {"store_id": ["1"] * 500, "shelf": np.zeros((500, 3, 224, 224), np.float32)})
    kept.append(decision(), {}, 2, {"shelf": np.array([[1.5, np.nan], [2.0, 3.0]]), "customer": np.ones((2, 2))})
    kept.close()
    first, second = (json.loads(text) for text in read_journal(folder)["inputs"].to_pylist())
    assert first == {"store_id": ["1"] * 16, "shelf": "float32 [500, 3, 224, 224]"}
    assert second == {"shelf": [[1.5, None], [2.0, 3.0]], "customer": "float64 [2, 2]"}


@pytest.mark.full
def test_inputs_are_kept_of_the_declared_share(journal, folder):
    """Of 20,000 decisions, inputs of one per cent are kept, within what chance allows."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9))
    for number in range(20_000):
        kept.append(decision(number), {}, 1, {"store_id": ["1"]})
    kept.close()
    table = read_journal(folder)
    assert table.num_rows == 20_000
    assert 140 <= 20_000 - table["inputs"].null_count <= 265  # 1 %, four and a half standard deviations


def test_a_flood_is_sampled_with_its_rate(journal, folder, clock):
    """Above the limit a uniform sample is kept, and counting each record 1 / rate times gives the true number."""
    kept = journal(JournalPolicy(envelopes_per_s=100, inputs_share=0))
    for _ in range(5):
        for number in range(5000):
            kept.append(decision(number), {}, 1)
        clock.advance(1)
        kept.flush()
    kept.close()
    table = read_journal(folder)
    rates = table["rate"].to_numpy()
    assert 500 <= table.num_rows <= 1500
    assert rates.min() < 0.05
    assert 20_000 < (1 / rates).sum() < 30_000


def test_fallbacks_and_refusals_are_always_kept(journal, folder):
    """However great the flood, no degraded answer and no refusal is sampled away."""
    kept = journal(JournalPolicy(envelopes_per_s=10, inputs_share=0))
    for number in range(2000):
        kept.append(decision(number), {}, 1)
        if number % 10 == 0:
            kept.append(decision(number, degraded=True), {}, 1)
            kept.append(decision(number, reason=Reason.ERROR), {}, 1)
    kept.close()
    reasons = read_journal(folder)["reason"].to_pylist()
    assert (reasons.count("FALLBACK"), reasons.count("ERROR")) == (200, 200)
    assert reasons.count("STATIC") < 200


def test_f77_what_an_overload_sheds_is_sampled(journal, folder):
    """F-77: tens of thousands of refusals a second are a uniform sample, whose rate tells their number."""
    kept = journal(JournalPolicy(envelopes_per_s=100, inputs_share=0))
    for number in range(20_000):
        kept.append(msgspec.structs.replace(decision(number, degraded=True), cause="overload"), {}, 0)
    kept.close()
    rates = read_journal(folder)["rate"].to_numpy()
    assert len(rates) < 2000
    assert 15_000 < (1 / rates).sum() < 25_000
    assert kept.dropped == 0


def test_the_rate_recovers_after_a_quiet_second(journal, folder, clock):
    """One busy second does not thin out the decisions of a quiet one."""
    kept = journal(JournalPolicy(envelopes_per_s=10, inputs_share=0))
    for number in range(1000):
        kept.append(decision(number), {}, 1)
    clock.advance(2)
    for number in range(10):
        kept.append(decision(number), {}, 1)
    kept.close()
    assert read_journal(folder)["rate"].to_pylist()[-10:] == [1.0] * 10


def test_memory_is_bounded_and_losses_are_counted(journal, folder):
    """When nobody flushes, the buffer stays at its bound and says how many were lost."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9, buffer_entries=100))
    for number in range(250):
        kept.append(decision(number), {}, 1)
    assert kept.dropped == 150
    kept.close()
    assert read_journal(folder).num_rows == 100


def test_many_that_wait_are_told_of(journal):
    """They had better be written before their second is over."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9))
    for number in range(1030):
        assert kept.has_many == (number >= 1024)
        kept.append(decision(number), {}, 1)
    kept.flush()
    assert not kept.has_many


def test_what_waits_is_gathered_in_portions(journal, folder):
    """However many decisions wait, gathering some of them holds callers up for a moment only; the order stays."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9, buffer_entries=5000))
    for number in range(5001):
        kept.append(decision(number), {}, 1)
    assert (kept.portions, kept.dropped) == (3, 1)
    for stop in (2048, 4096):
        kept.gather()
        assert kept.has_many == (stop == 2048)
        kept.write()
        assert read_journal(folder)["decision"].to_pylist() == [f"{number:016x}" for number in range(stop)]
    kept.append(decision(5000), {}, 1)
    kept.flush()
    assert read_journal(folder)["decision"].to_pylist() == [f"{number:016x}" for number in range(5001)]


def test_many_decisions_are_one_batch(journal, folder):
    """Whatever was gathered is written together, in the order in which it came."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9))
    for number in range(1100):
        kept.append(decision(number, degraded=number % 3 == 0), {"infer": number, str(number % 7): 1}, number)
        if number == 500:
            kept.gather()
            kept.gather()
    kept.close()
    [path] = folder.iterdir()
    with pa.memory_map(str(path)) as source:
        assert [each.num_rows for each in pa.ipc.open_stream(source)] == [1100]
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{number:016x}" for number in range(1100)]
    assert table["degraded"].to_pylist() == [number % 3 == 0 for number in range(1100)]
    assert table["latency_us"].to_pylist() == [[("infer", n), (str(n % 7), 1)] for n in range(1100)]
    assert table["rows"].to_pylist() == list(range(1100))


@pytest.mark.inside
def test_what_a_refused_write_costs_is_counted(journal, folder, monkeypatch):
    """It costs what was written with it, and nothing before or after."""
    kept = journal(JournalPolicy(envelopes_per_s=10**9))
    for number in range(300):
        kept.append(decision(number), {}, 1)
        if number == 100:
            kept.flush()
            monkeypatch.setattr(kept._segments, "write", lambda _: False)
        if number == 200:
            kept.flush()
            monkeypatch.undo()
    kept.close()
    assert kept.dropped == 100
    whole = [f"{number:016x}" for number in (*range(101), *range(201, 300))]
    assert read_journal(folder)["decision"].to_pylist() == whole


@pytest.mark.inside
def test_what_cannot_be_gathered_is_counted(journal, folder, monkeypatch):
    """Without memory for it a second's decisions are lost, and the next ones are not."""
    kept = journal()
    kept.append(decision(0), {}, 1)
    with monkeypatch.context() as without:
        without.setattr(segments.pa, "record_batch", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        kept.gather()
    kept.append(decision(1), {}, 1)
    kept.close()
    assert kept.dropped == 1
    assert read_journal(folder)["decision"].to_pylist() == [f"{1:016x}"]


def test_the_journals_of_all_integrations_are_read_together(folder, clock):
    """From the folder that holds one for each: it used to read as an empty table."""
    for number, name in enumerate(("shop", "till")):
        kept = Journal(folder / name, integration=name, contract=contract(), clock=clock)
        kept.append(decision(number), {}, 1)
        kept.close()
        clock.advance(1)
    assert read_journal(folder)["decision"].to_pylist() == [f"{number:016x}" for number in range(2)]
    assert read_journal(folder, "till")["decision"].to_pylist() == [f"{1:016x}"]


def test_segments_rotate_by_age_and_size(journal, folder, clock):
    """A segment ends when it is old or large enough; all of them are read as one, in order of time."""
    kept = journal(JournalPolicy(segment_s=60, segment_mib=0.001))
    for number in range(3):
        kept.append(decision(number), {}, 1)
        kept.flush()
        clock.advance(61)
        kept.flush()
    assert len(list(folder.glob("*.arrows"))) == 3
    for number in range(3, 100):
        kept.append(decision(number, reason=Reason.SPLIT), {str(number): number}, 1)
    kept.flush()
    assert len(list(folder.glob("*.arrows"))) == 4
    assert list(folder.glob("*.part")) == []
    assert read_journal(folder)["decision"].to_pylist() == [f"{number:016x}" for number in range(100)]


def test_old_and_excess_segments_are_deleted(journal, folder, clock):
    """Retention goes by days and by bytes, oldest first, and never touches another integration's segments."""
    journal(integration="other").append(decision(99), {}, 1)
    kept = journal(JournalPolicy(segment_s=60, keep_days=1))
    for number in range(4):
        kept.append(decision(number), {}, 1)
        kept.flush()
        clock.advance(43_000)
        kept.flush()
    kept.append(decision(4), {}, 1)
    kept.close()
    assert read_journal(folder, "shop")["decision"].to_pylist() == [f"{number:016x}" for number in (2, 3, 4)]
    small = journal(JournalPolicy(keep_mib=0))
    small.append(decision(5), {}, 1)
    small.close()
    assert read_journal(folder, "shop")["decision"].to_pylist() == [f"{5:016x}"]


def test_old_segments_are_deleted_where_no_decision_comes(journal, folder, clock):
    """Retention holds for an integration that nobody asks any more, and for one that is served again after long."""
    kept = journal(JournalPolicy(keep_days=1))
    kept.append(decision(0), {}, 1)
    for _ in range(23):
        clock.advance(3600)
        kept.flush()
    assert len(list(folder.iterdir())) == 1
    for _ in range(3):
        clock.advance(3600)
        kept.flush()
    assert list(folder.iterdir()) == []
    kept.append(decision(1), {}, 1)
    kept.close()
    clock.advance(100_000)
    journal(JournalPolicy(keep_days=1)).flush()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("days_on", [29, -29])
def test_f65_a_clock_that_is_set_deletes_no_decision(journal, folder, clock, days_on):
    """F-65: what is too old is told by the time that has passed; a clock that stays ahead for a day is believed."""
    policy = JournalPolicy(keep_days=2)
    kept = journal(policy)
    kept.append(decision(0), {}, 1)
    kept.flush()
    clock.jump(days_on * 86_400)
    for _ in range(23):
        clock.advance(3600)
        kept.append(decision(1), {}, 1)
        kept.flush()
    assert read_journal(folder)["decision"].to_pylist().count(f"{0:016x}") == 1
    for _ in range(30 if days_on > 0 else 0):
        clock.advance(3600)
        kept.append(decision(1), {}, 1)
        kept.flush()
    assert read_journal(folder)["decision"].to_pylist().count(f"{0:016x}") == int(days_on < 0)


FOREIGN = [
    "shop-backup-1.arrows",
    "plain.arrows",
    "shop-20260101T000000000000Z-copy.arrows",
    "shop-20261399T000000000000Z-0a1b2c.arrows",
    "shop-20200101T000000000000Z-0a1b2c.arrows.gz",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_names_are_left_alone(journal, folder, clock, name):
    """What somebody laid beside the segments is not read, not counted and not deleted."""
    folder.mkdir()
    (folder / name).write_bytes(b"x" * 2**20)
    kept = journal(JournalPolicy(segment_s=0, keep_mib=1))
    for number in range(2):
        kept.append(decision(number), {}, 1)
        kept.flush()
        clock.advance(1)
    assert kept.dropped == 0
    assert (folder / name).exists()
    for integration in ("shop", None):
        table = read_journal(folder, integration)
        assert table["decision"].to_pylist() == [f"{number:016x}" for number in range(2)]
        assert json.loads(table.schema.metadata[b"torn"]) == []


@pytest.mark.parametrize("fate", ["renamed", "deleted"])
def test_segments_of_other_gateways_may_go_while_they_are_counted(journal, folder, monkeypatch, fate):
    """What another gateway renames or deletes meanwhile costs no decision."""
    other = journal()
    other.append(decision(0), {}, 1)
    other.flush()
    [part] = folder.iterdir()
    real = Path.stat

    def stat_late(path, **options):
        if path == part:
            with contextlib.suppress(FileNotFoundError):
                part.rename(part.with_suffix("")) if fate == "renamed" else part.unlink()
        return real(path, **options)

    kept = journal()
    kept.append(decision(1), {}, 1)
    with monkeypatch.context() as late:
        late.setattr(Path, "stat", stat_late)
        kept.flush()
    assert not part.exists()
    assert kept.dropped == 0
    kept.close()
    assert f"{1:016x}" in read_journal(folder)["decision"].to_pylist()


@pytest.mark.parametrize("end", ["append-garbage", "cut"])
def test_f61_a_torn_segment_gives_what_was_flushed(journal, folder, end):
    """F-61: cut anywhere or followed by garbage, a segment gives every whole batch, and is named as torn."""
    kept = journal()
    ends = []
    for number in range(3):
        kept.append(decision(number), {"infer": 5}, 1)
        kept.flush()
        ends.append(next(folder.iterdir()).stat().st_size)
    [path] = folder.iterdir()
    whole = path.read_bytes()
    if end == "append-garbage":
        path.write_bytes(whole + b"\x17" * 100)
        table = read_journal(folder)
        assert table.num_rows == 3
        assert json.loads(table.schema.metadata[b"torn"]) == [path.name]
        return
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        table = read_journal(folder)
        assert table.num_rows == sum(length >= stop for stop in ends)
        assert json.loads(table.schema.metadata[b"torn"]) in ([path.name], [])


_FLIPPER = """
import random, sys
from pathlib import Path
from brownfield.store import read_journal
path, step, sealed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "sealed"
good = path.read_bytes()
known = read_journal(path.parent).to_pylist()
for at in range(0, len(good), step):
    bad = bytearray(good)
    bad[at] ^= 1 << random.Random(at).randrange(8)
    path.write_bytes(bad)
    print(at, flush=True)
    table = read_journal(path.parent)
    table.validate(full=True)
    rows = table.to_pylist()
    if sealed:
        assert len(rows) >= 7, at
        assert all(row in known for row in rows), at
        assert table.schema.metadata[b"torn"] != b"[]", at
    assert len(rows) <= 8
    assert len(rows) == 8 or table.schema.metadata[b"torn"] != b"[]", at
print("whole")
"""


@pytest.mark.parametrize("step", [29, pytest.param(11, marks=pytest.mark.full)])
@pytest.mark.parametrize("version", ["sealed", "earlier"])
def test_f61_a_flipped_bit_is_seen_and_costs_its_block_alone(journal, folder, clock, step, version):
    """F-61: whichever bit a disk gives back wrongly, it is said, and what is read is what was written.

    Segments of versions without checksums can be used, and what is missing is said.
    In a process of its own: such a table ended the one that used it.
    """
    for number in range(3):
        kept = journal()
        for row in range(3 if number else 2):
            kept.append(decision(row), {"infer": 5}, 1, {"store_id": ["a"]})
            kept.flush()
        kept.close()
    path = next(iter(sorted(folder.iterdir())))
    if version == "earlier":
        _as_earlier(path)
    command = [sys.executable, "-c", _FLIPPER, str(path), str(step), version]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.split()[-1:]) == (0, ["whole"]), ended.stderr[-500:]


def _as_earlier(path):
    """Write a segment as versions did that knew no checksums."""
    with pa.memory_map(str(path)) as source:
        batches = [pa.record_batch(each.columns, schema=segments.SCHEMA) for each in pa.ipc.open_stream(source)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, segments.SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for each in batches:
                writer.write_batch(each)
    path.write_bytes(sink.getvalue())


def _with_ends(journal, folder, count):
    """Write so many decisions, each a block; give the segment and where each block ends."""
    kept, ends = journal(), []
    for number in range(count):
        kept.append(decision(number), {"infer": 5}, 1)
        kept.flush()
        [path] = folder.iterdir()
        ends.append(path.stat().st_size)
    kept.close()
    [path] = folder.iterdir()
    return path, ends


@pytest.mark.parametrize("damage", ["value", "length", "mark", "zeros", "gone"])
def test_f61_a_damaged_block_is_named_and_those_after_it_are_read(journal, folder, damage):
    """F-61: an auditor is told which bytes of which segment are damaged, and has every other decision."""
    path, ends = _with_ends(journal, folder, 5)
    content = bytearray(path.read_bytes())
    begin, end = ends[1], ends[2]
    if damage == "gone":  # in part
        del content[begin + 100 : end]
        end = begin + 100
    elif damage == "zeros":
        content[begin:end] = bytes(end - begin)
    else:
        at = {"value": end - 40, "length": begin + 4, "mark": content.index(b"brownfield-block ", begin)}[damage]
        content[at] ^= 1
    path.write_bytes(content)
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{number:016x}" for number in (0, 1, 3, 4)]
    assert json.loads(table.schema.metadata[b"torn"]) == [path.name]
    assert json.loads(table.schema.metadata[b"damaged"]) == {path.name: [[begin, end]]}


def test_f61_a_damaged_head_costs_no_decision(journal, folder):
    """F-61: it is the same in every segment, so all that stands behind it is read."""
    path, _ = _with_ends(journal, folder, 3)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    table = read_journal(folder)
    assert table.num_rows == 3
    assert json.loads(table.schema.metadata[b"torn"]) == [path.name]


def test_segments_without_checksums_are_read(journal, folder, clock):
    """What an earlier version wrote is read as ever, beside what this one writes; neither is called torn."""
    path, _ = _with_ends(journal, folder, 3)
    _as_earlier(path)
    clock.advance(1)
    kept = journal()
    kept.append(decision(3), {}, 1)
    kept.close()
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{number:016x}" for number in range(4)]
    assert [json.loads(table.schema.metadata[key]) for key in (b"torn", b"older", b"damaged")] == [[], [], {}]


def test_text_that_looks_like_a_checksum_is_only_text(journal, folder):
    """What a caller sends is no block of the journal."""
    kept = journal()
    forged = "brownfield-block 00000000 0000000010 000000"
    kept.append(decision(0), {}, 1, {"store_id": [forged]})
    kept.append(decision(1), {}, 1)
    kept.close()
    table = read_journal(folder)
    assert json.loads(table["inputs"][0].as_py()) == {"store_id": [forged]}
    assert table.num_rows == 2
    assert json.loads(table.schema.metadata[b"torn"]) == []


@pytest.mark.parametrize("gone", ["segment", "folder"])
def test_f34_a_segment_that_somebody_deleted_is_followed_by_another(journal, folder, gone):
    """F-34: who makes room by hand, or a gateway that keeps to the limits, costs no decision that comes later.

    They went into the deleted file until the hour was over, uncounted.
    """
    kept = journal()
    kept.append(decision(0), {}, 1)
    kept.flush()
    for path in folder.iterdir():
        path.unlink()
    if gone == "folder":
        folder.rmdir()
    for number in (1, 2):
        kept.append(decision(number), {}, 1)
        kept.flush()
    assert read_journal(folder)["decision"].to_pylist() == [f"{number:016x}" for number in (1, 2)]
    kept.close()
    assert len(list(folder.iterdir())) == 1
    assert kept.dropped == 0


@pytest.mark.parametrize("zeros", [4, 8, 4096])
@pytest.mark.parametrize("where", ["begin", "between", "after the end"])
def test_f61_zeros_in_place_of_what_was_written_are_a_tear(journal, folder, zeros, where):
    """F-61: what a file system leaves after a loss of power is no end of a stream."""
    kept = journal()
    kept.append(decision(0), {}, 1)
    kept.flush()
    [path] = folder.iterdir()
    if where == "after the end":
        kept.close()
        [path] = folder.iterdir()
    with path.open("r+b") as file:
        if where == "begin":
            file.truncate(0)
        file.seek(0, os.SEEK_END)
        file.write(b"\0" * zeros)
    table = read_journal(folder)
    assert table.num_rows == (where != "begin")
    assert json.loads(table.schema.metadata[b"torn"]) == [path.name]


def _write_segment(path, schema, rows):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))


@pytest.mark.parametrize("grows", ["under its name", "and is closed", "not"])
def test_a_segment_that_is_being_written_is_not_called_torn(journal, folder, monkeypatch, grows):
    """Who reads while it is served sees half of a block now and then: it is looked at again. A kill's is torn."""
    opened = journal()
    for number in range(20):
        opened.append(decision(number), {"total": 1}, 1)
        opened.flush()
    [path] = folder.glob("*.part")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])

    def write_on(_):
        if grows != "not":
            path.write_bytes(whole)
        if grows == "and is closed":
            path.rename(path.with_suffix(""))

    monkeypatch.setattr(journal_reading.time, "sleep", write_on)
    table = read_journal(folder)
    assert table.num_rows == 20 - (grows == "not")
    assert json.loads(table.schema.metadata[b"torn"]) == [path.name] * (grows == "not")
    assert list(json.loads(table.schema.metadata[b"damaged"])) == [path.name] * (grows == "not")


def test_segments_of_an_older_version_are_read_and_named(journal, folder):
    """What it did not keep is null; other integrations are read as ever."""
    kept = journal()
    kept.append(decision(0), {"infer": 5}, 1)
    kept.close()
    [path] = folder.iterdir()
    row = read_journal(folder).to_pylist()[0]
    older = pa.schema([each for each in segments.SCHEMA if each.name not in {"cause", "inputs"}])
    name = path.name.replace("shop-", "flights-")
    _write_segment(folder / name, older, [row | {"integration": "flights"}])
    table = read_journal(folder)
    assert sorted(table.to_pylist(), key=lambda each: each["integration"]) == [
        row | {"integration": "flights", "cause": None, "inputs": None},
        row,
    ]
    assert json.loads(table.schema.metadata[b"older"]) == [name]
    assert json.loads(table.schema.metadata[b"torn"]) == []


OTHER = {
    "another field": segments.SCHEMA.append(pa.field("colour", pa.string())),
    "another type": segments.SCHEMA.set(9, pa.field("rows", pa.int32())),
    "a field twice": segments.SCHEMA.append(segments.SCHEMA.field("cause")),
    "no time": segments.SCHEMA.remove(0),
}


@pytest.mark.parametrize("schema", OTHER.values(), ids=OTHER)
def test_segments_of_another_form_are_left_out_and_named(journal, folder, schema):
    """The other segments are read; it is not guessed what a newer version, or nobody, meant."""
    kept = journal()
    kept.append(decision(0), {"infer": 5}, 1)
    kept.close()
    [path] = folder.iterdir()
    name = path.name.replace("shop-", "flights-")
    _write_segment(folder / name, schema, [])
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{0:016x}"]
    assert json.loads(table.schema.metadata[b"torn"]) == [name]


@pytest.mark.inside
def test_a_segment_that_is_closed_while_it_is_looked_for_is_read(journal, folder, monkeypatch):
    """Its name is found with the suffix of one that is written; when it is opened, it has its final one."""
    kept = journal()
    kept.append(decision(0), {}, 1)
    kept.close()
    [path] = folder.iterdir()
    found = [(path.with_name(f"{path.name}.part"), kept._clock.now_utc())]
    monkeypatch.setattr(journal_reading, "segments_of", lambda *_: found)
    table = read_journal(folder)
    assert table.num_rows == 1
    assert json.loads(table.schema.metadata[b"torn"]) == []


_APPENDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import contract, decision
from brownfield.clock import SystemClock
from brownfield.store import Journal
journal = Journal(Path(sys.argv[1]), integration="shop", contract=contract(), clock=SystemClock())
number = 0
while True:
    for _ in range(50):
        journal.append(decision(number, degraded=True), {"infer": 5}, 1)
        number += 1
    journal.flush()
    print(number, flush=True)
"""


@pytest.mark.full
def test_f40_after_kill_9_every_flushed_decision_is_there(folder):
    """F-40: a killed process leaves a segment that reads up to the last flush, and a new one begins beside it."""
    command = [sys.executable, "-c", _APPENDER, str(folder), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        for _ in range(10):
            flushed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
    ids = read_journal(folder)["decision"].to_pylist()
    assert ids[:flushed] == [f"{number:016x}" for number in range(flushed)]
    assert len(ids) == len(set(ids))


@pytest.mark.inside
def test_f59_a_full_disk_costs_decisions_and_nothing_else(journal, folder, clock, monkeypatch):
    """F-59: what the disk refuses is counted and cut off; with space again a new segment begins."""
    kept = journal()
    kept.append(decision(0), {}, 1)
    kept.flush()
    real, left = kept._segments._write_all, [40]

    def full(content):
        real(content[: left[0]])
        if len(content) > left[0]:
            kept._segments._written_bytes -= left[0]
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept._segments, "_write_all", full)
    for number in range(1, 4):
        kept.append(decision(number), {}, 1)
        kept.flush()
    assert kept.dropped == 3
    monkeypatch.undo()
    clock.advance(1)
    kept.append(decision(4), {}, 1)
    kept.close()
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{0:016x}", f"{4:016x}"]


@pytest.mark.parametrize("room_bytes", [0, 100, 900])
def test_f59_a_segment_without_decisions_is_not_kept(journal, folder, room_bytes):
    """F-59: a disk that is full at the start of a segment, within it or after it leaves no file for every flush."""
    kept = journal()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        for number in range(3):
            kept.append(decision(number), {}, 1)
            kept.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
    assert kept.dropped == 3
    kept.append(decision(3), {}, 1)
    kept.close()
    table = read_journal(folder)
    assert table["decision"].to_pylist() == [f"{3:016x}"]
    assert json.loads(table.schema.metadata[b"torn"]) == []


def test_f59_a_folder_that_cannot_be_made_is_no_error(tmp_path, clock):
    """F-59: a journal that cannot begin counts its losses; serving goes on."""
    (tmp_path / "file").write_text("")
    kept = Journal(tmp_path / "file" / "journal", integration="shop", contract=contract(), clock=clock)
    kept.append(decision(), {}, 1)
    kept.close()
    assert kept.dropped == 1


def test_s37_segments_are_private(journal, folder):
    """S-37: the folder is 0700 and every segment 0600."""
    journal().append(decision(), {}, 1)
    kept = journal()
    kept.append(decision(), {}, 1)
    kept.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_an_empty_journal_reads_as_an_empty_table(folder, journal):
    """Before the first decision there is a table without rows; without the folder there is a clear error."""
    with pytest.raises(NotFound):
        read_journal(folder)
    folder.mkdir()
    assert isinstance(read_journal(folder), pa.Table)
    assert read_journal(folder).num_rows == 0


_OTHER_USER = """
import os, sys
from pathlib import Path
from brownfield.errors import StoreError
from brownfield.store import read_journal
read_journal(Path(sys.argv[1]))  # what it imports may be another user's too
os.seteuid(65534)
try:
    print(read_journal(Path(sys.argv[1])).num_rows)
except StoreError as error:
    print(error.what)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_f64_who_may_not_read_the_journal_is_told_and_not_shown_an_empty_one(clock):
    """F-64: an auditor who is another user has an error, at the folder as at each segment, never no decisions."""
    with tempfile.TemporaryDirectory() as given:  # pytest's own folders let nobody else in
        workspace = Path(given)
        (workspace / "journal").mkdir()
        kept = Journal(workspace / "journal" / "shop", integration="shop", contract=contract(), clock=clock)
        kept.append(decision(0), {}, 1)
        kept.close()
        [segment] = (workspace / "journal" / "shop").iterdir()
        for opened in (None, workspace, segment.parent):
            if opened is not None:
                opened.chmod(0o755)
            command = [sys.executable, "-c", _OTHER_USER, str(workspace / "journal")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.stdout.strip() == "this user may not read all of the journal", done.stderr
        segment.chmod(0o644)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "1", done.stderr
