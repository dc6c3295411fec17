"""What holds for the sink of drop folders: staged, moved once, marked; failures at any step; names that stay inside."""

import errno
import hashlib
import os

import pyarrow as pa
import pytest

from brownfield.data.folders import LocalFolder
from brownfield.data.folders import local as room
from brownfield.data.formats import Csv, FixedWidth, read_layout
from brownfield.data.sinks import Applied, FileSink, Found, without_formulas
from brownfield.errors import DeclarationError, Fenced, SinkRefused, SinkUnavailable

ROWS = pa.record_batch({"basket": [1, 2], "label": ["a", "b"], "score": [0.1, 0.2]})
CALLS = 32
"""More calls of the system than one effect takes."""


@pytest.fixture
def drop(tmp_path):
    """An empty drop folder."""
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def sink(drop):
    """A sink that owns the folder."""
    with make(drop) as made:
        yield made


def make(drop, **changed) -> FileSink:
    """Make a sink that has not taken over yet."""
    options = {"name": "scores-{effect_id}.csv", "encode": Csv().encode, "totals": ("basket", "score"), **changed}
    return FileSink(LocalFolder(drop), ledger=drop.parent / "ledger.db", **options)


def seen(drop) -> list[str]:
    """Names that a consumer sees."""
    return sorted(path.name for path in drop.iterdir() if path.name != ".stage")


def test_a_file_comes_with_its_marker(sink, drop) -> None:
    """The marker holds count, length, digest and control totals of the file; the stage is empty behind it."""
    assert sink.apply("e1", ROWS, {"after": [2]}) == Applied(2, repeated=False)
    assert seen(drop) == ["scores-e1.csv", "scores-e1.csv.done"]
    data = (drop / "scores-e1.csv").read_bytes()
    marker = dict(line.split("=", 1) for line in (drop / "scores-e1.csv.done").read_text().splitlines())
    assert marker == {
        "effect_id": "e1",
        "count": "2",
        "bytes": str(len(data)),
        "sha256": hashlib.sha256(data).hexdigest(),
        "total.basket": "3",
        "total.score": "0.30000000000000004",
    }
    assert data == b'"basket","label","score"\n1,"a",0.1\n2,"b",0.2\n'
    assert list((drop / ".stage").iterdir()) == []
    assert (sink.find("e1"), sink.position()) == (Found.DONE, {"after": [2]})


def test_a_file_that_was_taken_is_not_dropped_again(sink, drop) -> None:
    """Once published, a file does not come back, also when its consumer has removed it."""
    sink.apply("e1", ROWS)
    for name in seen(drop):
        (drop / name).unlink()
    assert sink.apply("e1", ROWS) == Applied(2, repeated=True)
    with make(drop) as later:
        assert later.apply("e1", ROWS) == Applied(2, repeated=True)
    assert seen(drop) == []


def test_other_formats_write_through_the_same_sink(drop) -> None:
    """Whatever encodes batches can be dropped: here columns of fixed width."""
    layout = read_layout("name,start,width\nbasket,1,5\nlabel,6,4\n")
    with make(drop, name="{effect_id}.DAT", encode=FixedWidth(layout).encode, totals=()) as sink:
        sink.apply("e1", pa.Table.from_batches([ROWS.select(["basket", "label"])]))
    assert (drop / "e1.DAT").read_bytes() == b"1    a   \n2    b   \n"


class _FailingOs:
    """The system's calls, of which the n-th that writes, syncs or renames fails: before it is done, or behind it."""

    def __init__(self, nth: int, *, late: bool) -> None:
        self.left = nth
        self.late = late

    def __getattr__(self, name: str):
        real = getattr(os, name)
        if name not in {"write", "fsync", "rename", "open"}:
            return real

        def counted(*arguments, **named):
            self.left -= 1
            if self.left:
                return real(*arguments, **named)
            if self.late and name != "open":
                real(*arguments, **named)
            raise OSError(errno.ENOSPC if name == "write" else errno.EIO, "injected")

        return counted


@pytest.mark.parametrize("consumed", [True, False], ids=["taken at once", "left there"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("nth", range(1, CALLS + 1))
def test_f59_f60_r06_the_nth_call_fails(drop, monkeypatch, nth, late, consumed) -> None:
    """F-59, F-60, R-06: whichever write, sync or rename fails, after a restart the file was seen once and whole."""
    taken = []

    def consume() -> None:
        for marker in drop.glob("*.done"):
            data = marker.with_suffix("")
            taken.append(data.read_bytes())
            data.unlink()
            marker.unlink()

    sink = make(drop)
    sink.take_over()
    failing = _FailingOs(nth, late=late)
    monkeypatch.setattr(room, "os", failing)
    try:
        sink.apply("e1", ROWS, {"after": [2]})
    except SinkUnavailable:
        assert failing.left <= 0
    else:
        assert failing.left > 0
    monkeypatch.setattr(room, "os", os)
    if consumed:
        consume()
    sink.close()
    with make(drop) as later:
        later.apply("e1", ROWS, {"after": [2]})
        assert (later.find("e1"), later.position()) == (Found.DONE, {"after": [2]})
    consume()
    assert taken == [b'"basket","label","score"\n1,"a",0.1\n2,"b",0.2\n']
    assert seen(drop) == []
    assert list((drop / ".stage").iterdir()) == []


def test_the_loop_reaches_every_call(drop, monkeypatch) -> None:
    """One effect takes fewer calls than the loop fails in turn."""
    with make(drop) as sink:
        counting = _FailingOs(10_000, late=False)
        monkeypatch.setattr(room, "os", counting)
        sink.apply("e1", ROWS)
    assert 10 < 10_000 - counting.left < CALLS


def test_f41_a_replaced_owner_publishes_nothing(drop) -> None:
    """F-41: an owner that was replaced is refused before it stages anything."""
    with make(drop) as zombie, make(drop) as owner:
        with pytest.raises(Fenced):
            zombie.apply("e1", ROWS)
        assert seen(drop) == []
        owner.apply("e1", ROWS)
        assert zombie.apply("e1", ROWS) == Applied(2, repeated=True)


def test_f41_an_owner_replaced_while_it_stages_publishes_nothing(drop) -> None:
    """F-41: an owner that stood still while it wrote is refused when it wakes; the file is seen once."""

    def slow(batches):
        yield from Csv().encode(batches)
        owner.take_over()
        owner.apply("e1", ROWS)

    owner = make(drop)
    with make(drop, encode=slow) as zombie, pytest.raises((Fenced, SinkUnavailable)):
        zombie.apply("e1", ROWS)
    assert seen(drop) == ["scores-e1.csv", "scores-e1.csv.done"]
    owner.close()


NAMES = [
    "../{effect_id}",
    "/drop/{effect_id}",
    "a/{effect_id}",
    ".{effect_id}",
    "{effect_id}\0",
    "x.csv",
    "",
    "é{effect_id}",
]


@pytest.mark.parametrize("name", NAMES, ids=[f"B-76-{number}" for number in range(len(NAMES))])
def test_b76_names_stay_inside(drop, name) -> None:
    """B-76: a name that could lead out of the folder, or is the same for each effect, is refused."""
    with pytest.raises(DeclarationError):
        make(drop, name=name)


def test_b76_links_are_not_followed(drop, tmp_path) -> None:
    """B-76: a folder or a stage that is a link is refused, and nothing is written behind it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(SinkUnavailable):
        make(tmp_path / "link").take_over()
    (drop / ".stage").symlink_to(elsewhere)
    with pytest.raises(SinkUnavailable):
        make(drop).take_over()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".done"])
def test_b76_what_is_there_is_not_replaced(sink, drop, tmp_path, suffix) -> None:
    """B-76: a file or link of that name by another's hand stays as it is; once it is gone the effect is completed."""
    target = tmp_path / "target"
    (drop / f"scores-e1.csv{suffix}").symlink_to(target)
    with pytest.raises(SinkRefused):
        sink.apply("e1", ROWS)
    assert not target.exists()
    assert sink.find("e1") is Found.STAGED
    (drop / f"scores-e1.csv{suffix}").unlink()
    sink.apply("e1", ROWS)
    assert seen(drop) == ["scores-e1.csv", "scores-e1.csv.done"]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\0"], ids=[f"B-41-{n}" for n in range(7)])
def test_b41_formulas_are_quoted_and_numbers_are_not(first) -> None:
    """B-41: a text that begins as a formula does leaves with an apostrophe; texts inside and numbers stay."""
    batch = pa.record_batch({f"{first}head": [f"{first}1", f"a{first}", "", None], "n": [-1, 2, 3, 4]})
    kept = []
    list(without_formulas(lambda batches: iter([kept.extend(batches)]))([batch]))
    assert kept[0].schema.names == [f"'{first}head", "n"]
    assert kept[0].column(0).to_pylist() == [f"'{first}1", f"a{first}", "", None]
    assert kept[0].column(1).to_pylist() == [-1, 2, 3, 4]
