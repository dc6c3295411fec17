"""Small parts become large ones, and nobody who reads the table can tell."""

import random
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.pipeline import open_tables
from brownfield.data.pipeline.compaction import FAN, LARGEST_ROWS, compact, mergeable
from brownfield.data.pipeline.parts import PartWriter, listed_files, settle
from brownfield.errors import StoreError
from brownfield.store import Part, open_store

ROWS = pa.table({"n": [1, 2]})


@pytest.fixture
def store(tmp_path):
    """A store with one run."""
    with open_store(tmp_path / "var" / "brownfield.db") as opened:
        yield opened


def begin(store) -> str:
    """Enter a run."""
    return store.ledger.begin_run(integration="shop", kind="pipeline", contract="c@1", contract_digest="")


def grow(store, folder: Path, run_id: str, number: int, rows: pa.Table) -> None:
    """Add a part as a run does."""
    file = f"{number:06d}-{number:08x}.parquet"
    with PartWriter(folder, file, rows.schema) as writer:
        writer.write(rows)
        writer.seal()
    store.parts.add(run_id, "shop", "lines", Part(file, rows.num_rows))
    settle(folder, [part.file for part in store.parts.listed("shop")["lines"]])


@settings(max_examples=100)
@given(st.lists(st.integers(1, 5_000), max_size=300))
def test_the_number_of_parts_stays_small_and_rows_are_seldom_written_again(sizes):
    """Whatever the increments, there are a few parts of each size, and a row is rewritten once for each size."""
    parts: list[Part] = []
    written = 0
    for number, rows in enumerate(sizes):
        parts.append(Part(str(number), rows))
        merged = mergeable(parts)
        if merged:
            total = sum(part.rows for part in merged)
            written += total
            parts = [*parts[: len(parts) - len(merged)], Part(f"{number}c", total)]
    total = sum(sizes)
    levels = len(str(total)) * 1.2 + 2
    assert sum(part.rows for part in parts) == total
    assert len(parts) <= 2 * FAN * levels
    assert written <= total * levels


def test_large_and_held_parts_are_left_alone():
    """A part that is large, or that a sink does not have yet, is not merged, nor are those before it."""
    small = [Part(str(number), 3) for number in range(FAN)]
    assert list(mergeable(small)) == small
    assert mergeable(small, held=["3"]) == []
    assert list(mergeable([*small[:1], Part("big", LARGEST_ROWS), *small])) == small


@pytest.mark.full
def test_a_table_has_the_same_rows_in_the_same_order_after_merging(tmp_path, store):
    """After 60 increments a reader sees every row once and in order, in few files of the same columns."""
    folder = tmp_path / "tables" / "lines"
    run_id = begin(store)
    rng = random.Random(20261121)  # noqa: S311 (sizes of increments)
    truth: list[int] = []
    for number in range(60):
        rows = [len(truth) + index for index in range(rng.randrange(1, 40))]
        truth += rows
        grow(store, folder, run_id, number, pa.table({"n": pa.array(rows, pa.int64())}))
        compact(store, "shop", "lines", folder, store.parts.listed("shop")["lines"], run_id=begin(store))
        if number % 10:
            continue
        assert [n for (n,) in open_tables(tmp_path / "tables").execute("SELECT n FROM lines").fetchall()] == truth
    listed = store.parts.listed("shop")["lines"]
    assert len(listed) < 25
    assert pa.concat_tables([pq.read_table(folder / part.file) for part in listed])["n"].to_pylist() == truth
    assert {each.name for each in folder.glob("*.parquet")} == {part.file for part in listed}


def test_another_list_in_the_store_stops_the_merge(tmp_path, store):
    """Parts that the store does not list any more are not replaced, and no file of the attempt stays."""
    folder = tmp_path / "lines"
    run_id = begin(store)
    for number in range(FAN):
        grow(store, folder, run_id, number, ROWS)
    listed = store.parts.listed("shop")["lines"]
    store.parts.clear("shop", "lines")
    with pytest.raises(StoreError, match="changed meanwhile"):
        compact(store, "shop", "lines", folder, listed, run_id=run_id)
    settle(folder, [part.file for part in listed])
    assert len(list(folder.glob("*.parquet"))) == FAN


def test_a_reader_that_follows_the_listing_never_sees_a_row_twice(tmp_path, monkeypatch):
    """Between the naming of the merged part and the removal of the others the listing names one or the others."""
    folder = tmp_path / "tables" / "lines"
    for file in ("0.parquet", "1.parquet"):
        with PartWriter(folder, file, ROWS.schema) as writer:
            writer.write(ROWS)
            writer.seal()
    settle(folder, ["0.parquet", "1.parquet"])
    with PartWriter(folder, "2.parquet", ROWS.schema) as writer:
        writer.write(pa.concat_tables([ROWS, ROWS]))
        writer.seal()
    seen = []
    for owner, name in ((Path, "replace"), (Path, "unlink")):
        real = getattr(owner, name)

        def watched(self, *arguments, real=real, **options):
            result = real(self, *arguments, **options)
            seen.append(duckdb_sum(tmp_path / "tables"))
            return result

        monkeypatch.setattr(owner, name, watched)
    settle(folder, ["2.parquet"])
    assert seen
    assert set(seen) == {6}


def duckdb_sum(folder: Path) -> int:
    """Sum of the table as a reader sees it."""
    with duckdb.connect():
        return open_tables(folder).execute("SELECT sum(n) FROM lines").fetchone()[0]


GROWER = """
import os, random, signal, sys, time
from pathlib import Path
import pyarrow as pa
from brownfield.data.pipeline.compaction import compact
from brownfield.store import open_store
sys.path.insert(0, sys.argv[1])
from test_compaction import begin, check_whole, grow
folder, randomly = Path(sys.argv[2]), random.Random(20261121)
for _ in range(20):
    child = os.fork()
    if child == 0:
        with open_store(folder / "var" / "brownfield.db") as store:
            while True:
                parts = store.parts.listed("shop").get("lines", [])
                rows = sum(part.rows for part in parts)
                number = int(parts[-1].file.partition("-")[0]) + 1 if parts else 0
                run_id = begin(store)
                grow(store, folder / "lines", run_id, number, pa.table({"n": range(rows, rows + 5)}))
                compact(store, "shop", "lines", folder / "lines", store.parts.listed("shop")["lines"], run_id=run_id)
    time.sleep(randomly.uniform(0.05, 0.3))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    check_whole(folder)
"""


def check_whole(folder: Path) -> list[Part]:
    """Settle the table as the next run does; then it holds every listed row, once and in order, and nothing else."""
    with open_store(folder / "var" / "brownfield.db") as store:
        listed = store.parts.listed("shop").get("lines", [])
    settle(folder / "lines", [part.file for part in listed])
    rows = [n for file in listed_files(folder / "lines") for n in pq.read_table(file)["n"].to_pylist()]
    assert rows == list(range(sum(part.rows for part in listed)))
    assert sorted((folder / "lines").glob("*.parquet*")) == sorted(listed_files(folder / "lines"))
    return listed


@pytest.mark.full
def test_r_05_killed_while_parts_are_merged_nothing_is_lost_or_doubled(tmp_path, store):
    """R-05: kill -9 at 20 random moments of growing and merging; every row is there, once and in order."""
    (tmp_path / "lines").mkdir()
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", GROWER, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = check_whole(tmp_path)
    assert sum(part.rows for part in listed) > 100
    assert any(part.file.endswith("m.parquet") for part in listed)
