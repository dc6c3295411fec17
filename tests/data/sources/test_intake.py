"""Feeds of files: each is taken once and whole, by its content, or refused as a whole with a code (F-55)."""

import hashlib
import os
from dataclasses import replace

import pyarrow as pa
import pytest

from brownfield.data.folders import LocalFolder
from brownfield.data.folders import local as local_room
from brownfield.data.formats import Csv
from brownfield.data.sources import FileFeed, Intake, Part, Trailer
from brownfield.errors import FormatError, RejectionCode, SourceUnavailable

WANTED = pa.schema([("line", pa.int64()), ("amount", pa.int64())])
ROWS = {"a.csv": [(1, 10), (2, 20)], "b.csv": [(3, 30)]}
LATER = 4_000_000_000.0
"""A clock by which no file was written just now."""


def content(rows) -> bytes:
    """A file."""
    return b"line,amount\n" + b"".join(b"%d,%d\n" % row for row in rows)


def drop(root, name, data, **said) -> None:
    """Leave a file and then its marker, which says what it should unless told otherwise."""
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(data)
    told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **said}
    (root / f"{name}.done").write_text("".join(f"{key.replace('__', '.')}={value}\n" for key, value in told.items()))


def feed(folder, pattern="*.csv", known=(), **intake) -> FileFeed:
    """A feed that knows what was taken before."""
    made = FileFeed(folder, pattern, Csv().decode, Intake(**intake), has_header=True, now=lambda: LATER)
    made.recall(list(known))
    return made


def lines(made: FileFeed, *, ack: bool = True) -> list[int]:
    """Read all there is; the lines in their order."""
    pulled = list(made.read(WANTED))
    if ack and pulled:
        made.ack(pulled[-1].position)
    return [row["line"] for each in pulled for row in each.decoded.batch.to_pylist()]


def codes(made: FileFeed) -> dict[str, RejectionCode]:
    """Refused files and why."""
    return {path: code for path, (code, _) in made.outcome.refused.items()}


def names(root) -> list[str]:
    """All files below a folder."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def filled(root):
    """Two files with their markers."""
    for name, rows in ROWS.items():
        drop(root, name, content(rows), count=len(rows), total__amount=sum(amount for _, amount in rows))
    return root


@pytest.mark.parametrize("claim", ["none", "rename"])
def test_each_file_is_taken_once(folder, filled, claim) -> None:
    """Files come by name, with their digest in the origin; what was taken is not taken again."""
    first = feed(folder, claim=claim)
    assert lines(first) == [1, 2, 3]
    assert [each.origin for each in first.outcome.deliveries] == [
        f"{name}#{hashlib.sha256(content(rows)).hexdigest()}" for name, rows in ROWS.items()
    ]
    assert [(each.rows, each.head) for each in first.outcome.deliveries] == [
        (2, b"line,amount\n"),
        (1, b"line,amount\n"),
    ]
    second = feed(folder, claim=claim, known=first.outcome.deliveries)
    assert (lines(second), second.outcome.repeated) == ([], [])
    if claim == "rename":
        assert names(filled) == ["done/a.csv", "done/a.csv.done", "done/b.csv", "done/b.csv.done"]


@pytest.mark.parametrize("claim", ["none", "rename"])
def test_f55_a_file_that_is_sent_again_is_skipped_and_said(folder, filled, claim) -> None:
    """F-55: the same content under any name is one delivery; another content under the same name is another."""
    first = feed(folder, claim=claim)
    lines(first)
    drop(filled, "again.csv", content(ROWS["a.csv"]))
    drop(filled, "b.csv", content([(9, 90)]))
    written_s = (filled / "b.csv").stat().st_mtime + 5  # later, for SFTP tells whole seconds
    os.utime(filled / "b.csv", (written_s, written_s))
    second = feed(folder, claim=claim, known=first.outcome.deliveries)
    assert (lines(second), second.outcome.repeated) == ([9], ["again.csv"])
    third = feed(folder, claim=claim, known=[*first.outcome.deliveries, *second.outcome.deliveries])
    assert (lines(third), third.outcome.repeated) == ([], [])
    if claim == "rename":
        assert {"done/again.csv", "done/b.csv", "done/b.csv.2"} <= set(names(filled))


F55 = {
    "half-written": (content([(1, 10)])[:-4], {"bytes": 20}, RejectionCode.FILE_LENGTH),
    "other content": (content([(1, 10)]), {"sha256": "0" * 64}, RejectionCode.FILE_DIGEST),
    "zero bytes": (b"", {}, RejectionCode.FILE_EMPTY),
    "record missing": (content([(1, 10)]), {"count": 2}, RejectionCode.FILE_COUNT),
    "total": (content([(1, 10)]), {"total__amount": 11}, RejectionCode.FILE_TOTAL),
    "total of nothing": (content([(1, 10)]), {"total__other": 1}, RejectionCode.FILE_TOTAL),
    "marker": (content([(1, 10)]), {"count": "many"}, RejectionCode.FILE_MARKER),
    "B-40 another header": (b"line;amount\n1;10\n", {}, RejectionCode.FILE_FORMAT),
}


@pytest.mark.parametrize("claim", ["none", "rename"])
@pytest.mark.parametrize("case", F55)
def test_f55_a_bad_file_is_refused_as_a_whole(folder, filled, case, claim) -> None:
    """F-55: nothing of it is taken, its code says why, the files around it are taken, and mended it is taken too."""
    data, said, code = F55[case]
    drop(filled, "aa.csv", data, **said)
    made = feed(folder, claim=claim)
    assert (lines(made), codes(made)) == ([1, 2, 3], {"aa.csv": code})
    (refused,) = [each for each in made.outcome.deliveries if each.code]
    assert (refused.origin, refused.code, refused.rows) == ("aa.csv#", code.value, 0)
    if claim == "rename":
        place = "aa.csv" if code is RejectionCode.FILE_MARKER else "error/aa.csv"
        assert {place, f"{place}.done"} <= set(names(filled))
    drop(filled, "aa.csv", content([(7, 70)]), count=1)
    later = feed(folder, claim=claim, known=made.outcome.deliveries)
    assert (lines(later), codes(later)) == ([7], {})


@pytest.mark.parametrize("case", ["grows", "shrinks", "renamed", "rewritten"])
def test_f55_a_file_that_changes_while_it_is_read_is_refused(root, case) -> None:
    """F-55: a file that is not the same behind the reading as before it is left for the next run."""
    drop(root, "a.csv", content(ROWS["a.csv"]))
    drop(root, "b.csv", content(ROWS["b.csv"]))
    path = root / "a.csv"

    class Changing(LocalFolder):
        """A folder in which one file is changed the moment it is opened."""

        def opened(self):
            opened = super().opened()
            files = opened.__enter__()
            read = files.read

            def changing(name):
                if name == "a.csv" and path.exists():
                    {
                        "grows": lambda: path.write_bytes(content([*ROWS["a.csv"], (5, 50)])),
                        "shrinks": lambda: path.write_bytes(content([])),
                        "renamed": lambda: path.rename(root / "elsewhere"),
                        "rewritten": lambda: os.utime(path, ns=(1, 1)),
                    }[case]()
                return read(name)

            files.read = changing
            opened.__enter__ = lambda: files
            return _Entered(opened, files)

    made = feed(Changing(root))
    assert (lines(made), codes(made)) == ([3], {"a.csv": RejectionCode.FILE_CHANGED})


class _Entered:
    """A folder that was opened already."""

    def __init__(self, opened, files) -> None:
        self.opened, self.files = opened, files

    def __enter__(self):
        return self.files

    def __exit__(self, *error):
        return self.opened.__exit__(*error)


def test_f55_a_file_that_changes_while_its_records_are_given_fails_the_run(root) -> None:
    """F-55: what was given of it already makes the reading fail, so that nothing of it is kept."""
    drop(root, "a.csv", content(ROWS["a.csv"]))
    reading = feed(LocalFolder(root)).read(WANTED)
    next(reading)
    with (root / "a.csv").open("ab") as file:
        file.write(b"3,30\n")
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        list(reading)


def test_a_file_waits_for_its_marker(folder, root) -> None:
    """Without a marker nothing is read; an empty marker is enough unless it must say something."""
    (root / "a.csv").write_bytes(content(ROWS["a.csv"]))
    waiting = feed(folder)
    assert (lines(waiting), waiting.outcome.waiting) == ([], 1)
    (root / "a.csv.done").touch()
    strict = feed(folder, marker_holds=("count", "sha256"))
    assert (lines(strict), codes(strict)) == ([], {"a.csv": RejectionCode.FILE_MARKER})
    assert lines(feed(folder)) == [1, 2]


def test_a_stable_file_is_one_that_does_not_change_for_a_while(root) -> None:
    """Size and time are looked at twice, so long apart as is declared; a file that grows meanwhile waits."""
    for name, rows in ROWS.items():
        (root / name).write_bytes(content(rows))
    slept = []

    def grow(seconds) -> None:
        slept.append(seconds)
        with (root / "a.csv").open("ab") as file:
            file.write(b"4,40\n")

    made = FileFeed(LocalFolder(root), "*.csv", Csv().decode, Intake(ready="stable", stable_s=5), sleep=grow)
    assert (lines(made), made.outcome.waiting, slept) == ([3], 1, [5])


def test_unfinished_names_are_not_looked_at(folder, root) -> None:
    """Where a file gets its name when it is whole, hidden and partial names are none."""
    for name in (".a.csv", "b.csv.part", "c.csv.filepart", "d.csv.tmp", "e.csv"):
        (root / name).write_bytes(content([(1, 1)]))
    made = feed(folder, "*", ready="rename")
    assert (lines(made), made.outcome.waiting) == ([1], 0)


def test_a_run_takes_so_many_files_in_the_declared_order(folder, root) -> None:
    """By name, or the oldest first; the others wait."""
    for place, name in enumerate("bca"):
        drop(root, f"{name}.csv", content([(place, 0)]))
        os.utime(root / f"{name}.csv", (place, place))
    by_time = feed(folder, order="mtime", max_files=2)
    assert (lines(by_time), by_time.outcome.waiting) == ([0, 1], 1)
    assert lines(feed(folder, order="mtime", known=by_time.outcome.deliveries)) == [2]
    assert lines(feed(folder)) == [2, 0, 1]


def test_trailers_are_checked_and_are_no_data(folder, root) -> None:
    """A trailer's count and sums are compared before the first record is given; the trailer is no record."""
    trailer = Trailer("T,", Part(field=2), {"amount": Part(field=3)})
    drop(root, "a.csv", content(ROWS["a.csv"]) + b"T,2,30\n")
    drop(root, "b.csv", content(ROWS["b.csv"]))
    drop(root, "c.csv", content(ROWS["b.csv"]) + b"T,2,30\n")
    drop(root, "d.csv", content(ROWS["b.csv"]) + b"T,1,31\n")
    made = feed(folder, trailer=trailer)
    assert lines(made) == [1, 2]
    assert codes(made) == {
        "b.csv": RejectionCode.FILE_TRAILER,
        "c.csv": RejectionCode.FILE_COUNT,
        "d.csv": RejectionCode.FILE_TOTAL,
    }


def test_one_file_of_its_own_is_a_feed_too(folder, root) -> None:
    """A plain path is taken when its content is new; absent it is out of reach, malformed it fails the run."""
    with pytest.raises(SourceUnavailable, match="no such file"):
        list(feed(folder, "in.csv", ready="rename").read(WANTED))
    (root / "in.csv").write_bytes(content(ROWS["a.csv"]))
    first = feed(folder, "in.csv", ready="rename")
    assert lines(first) == [1, 2]
    assert lines(feed(folder, "in.csv", ready="rename", known=first.outcome.deliveries)) == []
    (root / "in.csv").write_bytes(b"nonsense\n")
    with pytest.raises(FormatError):
        list(feed(folder, "in.csv", ready="rename").read(WANTED))


def test_a_file_written_just_now_is_known_by_its_content_alone(root) -> None:
    """Its time may yet be given to another content of the same length, so it is not trusted."""
    drop(root, "a.csv", content([(1, 10)]))
    os.utime(root / "a.csv", (1000, 1000))
    for now, trusted in ((1001.0, False), (1010.0, True)):
        made = FileFeed(LocalFolder(root), "*.csv", Csv().decode, now=lambda now=now: now)
        lines(made)
        assert (made.outcome.deliveries[0].mtime_ns is not None) is trusted
        (root / "a.csv").write_bytes(content([(2, 20)]))
        os.utime(root / "a.csv", (1000, 1000))
        again = feed(LocalFolder(root), known=made.outcome.deliveries)
        (root / "a.csv.done").touch()
        (root / "a.csv.done").write_text("")
        assert lines(again) == ([] if trusted else [2])
        drop(root, "a.csv", content([(1, 10)]))
        os.utime(root / "a.csv", (1000, 1000))


def test_b76_links_are_no_deliveries(folder, root, tmp_path) -> None:
    """B-76: a link that a pattern matches is passed over, wherever it leads."""
    (tmp_path / "secret.csv").write_bytes(content([(1, 1)]))
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    drop(root, "a.csv", content(ROWS["a.csv"]))
    made = feed(folder, ready="rename")
    assert lines(made) == [1, 2]


def test_another_run_that_takes_a_file_first_leaves_it_to_that_run(root) -> None:
    """Two that claim the same file: a move succeeds once."""
    drop(root, "a.csv", content(ROWS["a.csv"]))
    first, second = feed(LocalFolder(root), claim="rename"), feed(LocalFolder(root), claim="rename")
    taken = first.read(WANTED)
    next(taken)
    assert (names(root), lines(second, ack=False)) == (["work/a.csv", "work/a.csv.done"], [1, 2])
    assert [row["line"] for each in [*taken] for row in each.decoded.batch.to_pylist()] == []


class _FailingOs:
    """The system's calls, of which the n-th that opens, moves, syncs, makes or reads a name fails."""

    def __init__(self, nth: int, *, late: bool) -> None:
        self.left, self.late = nth, late

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in {"open", "rename", "fsync", "mkdir", "listdir", "stat"}:
            return real

        def counted(*arguments, **named):
            self.left -= 1
            if self.left == 0 and not (self.late and name in {"rename", "fsync", "mkdir"}):
                raise OSError(5, "injected")
            done = real(*arguments, **named)
            if self.left == 0:
                raise OSError(5, "injected")
            return done

        return counted


@pytest.mark.full
@pytest.mark.parametrize("late", [False, True], ids=["before", "behind"])
def test_f60_r06_the_nth_call_fails_in_a_claim(tmp_path, monkeypatch, late) -> None:
    """F-60, R-06: whichever call fails while files are claimed and put away, each record comes once."""
    for nth in range(1, 400):
        root = tmp_path / str(nth)
        root.mkdir()
        for name, rows in ROWS.items():
            drop(root, name, content(rows))
        ledger, committed = [], []
        failing = _FailingOs(nth, late=late)
        for attempt in range(3):
            monkeypatch.setattr(local_room, "os", failing if attempt == 0 else os)
            made = feed(LocalFolder(root), claim="rename", known=ledger)
            try:
                pulled = list(made.read(WANTED))
            except SourceUnavailable:
                continue  # the run failed: nothing of it is kept
            committed += [row["line"] for each in pulled for row in each.decoded.batch.to_pylist()]
            ledger += made.outcome.deliveries
            made.ack({})
        monkeypatch.setattr(local_room, "os", os)
        assert sorted(committed) == [1, 2, 3], nth
        assert [name for name in names(root) if name.startswith(("done/a.csv", "done/b.csv"))] == names(root), nth
        if failing.left > 0:
            break
    assert 30 < nth < 399


def test_origins_name_a_delivery_by_path_and_digest(root) -> None:
    """Path and digest are found again in what the ledger keeps."""
    drop(root, "in/a#b.csv", content([(1, 10)]))
    made = feed(LocalFolder(root), "in/*.csv")
    lines(made)
    (found,) = made.outcome.deliveries
    assert (found.path, found.sha256) == ("in/a#b.csv", hashlib.sha256(content([(1, 10)])).hexdigest())
    assert replace(found, rows=0).path == found.path
