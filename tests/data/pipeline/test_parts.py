"""Tables grow by whole files, and only what is listed is part of them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline.parts import PartWriter, one_run, read_parts, settle
from brownfield.errors import DeclarationError, StoreError, Unavailable

ROWS = pa.table({"n": [1, 2]})


def write(folder, file, rows=ROWS):
    """Write and seal a part."""
    with PartWriter(folder, file, ROWS.schema) as writer:
        writer.write(rows)
        writer.seal()


def test_a_part_is_seen_when_it_is_listed_and_not_before(tmp_path):
    """A sealed part is hidden until it is listed; one that is never listed is removed."""
    write(tmp_path, "0.parquet")
    write(tmp_path, "1.parquet")
    assert list(tmp_path.glob("*.parquet")) == []
    settle(tmp_path, ["0.parquet"])
    assert sorted(each.name for each in tmp_path.iterdir()) == [".parts", "0.parquet"]
    assert pq.read_table(tmp_path).equals(ROWS)
    assert (tmp_path / "0.parquet").stat().st_mode & 0o777 == 0o600


def test_a_writer_that_gives_up_leaves_nothing(tmp_path):
    """A part that is not sealed is gone with its writer."""
    with pytest.raises(ValueError, match="schema"), PartWriter(tmp_path, "0.parquet", ROWS.schema) as writer:
        writer.write(pa.table({"n": ["1"]}))
    assert list(tmp_path.iterdir()) == []


def test_settling_twice_changes_nothing(tmp_path):
    """The same list gives the same folder, and files of others are left alone."""
    write(tmp_path, "0.parquet")
    (tmp_path / "notes.txt").write_text("mine")
    for _ in range(2):
        settle(tmp_path, ["0.parquet"])
        assert sorted(each.name for each in tmp_path.iterdir()) == [".parts", "0.parquet", "notes.txt"]


def test_f61_a_listed_part_that_is_nowhere_is_told(tmp_path):
    """F-61: the list is the truth; a file that it names and that is gone stops the run."""
    with pytest.raises(StoreError, match="rebuild"):
        settle(tmp_path, ["0.parquet"])


def test_b_47_a_part_without_rows_has_its_columns(tmp_path):
    """An empty table is a table."""
    write(tmp_path, "0.parquet", ROWS.slice(0, 0))
    settle(tmp_path, ["0.parquet"])
    assert pq.read_table(tmp_path).schema.names == ["n"]


def test_parts_with_other_columns_are_not_mixed(tmp_path):
    """Reading says which columns the table was begun with and which are wanted now."""
    write(tmp_path, "0.parquet")
    settle(tmp_path, ["0.parquet"])
    with pytest.raises(DeclarationError, match=r"n int64.*n string.*rebuild"):
        read_parts(tmp_path, ["0.parquet"], pa.schema([("n", pa.string())]), ["n"])
    assert read_parts(tmp_path, ["0.parquet"], ROWS.schema, ["n"]).equals(ROWS)


def test_one_process_at_a_time_writes(tmp_path):
    """The second is refused, and the first lets go when it ends."""
    with one_run(tmp_path / "reco"), pytest.raises(Unavailable, match="another run"), one_run(tmp_path / "reco"):
        pass
    with one_run(tmp_path / "reco"):
        pass
