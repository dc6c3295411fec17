"""What a system can bear is kept in every second: across callers, processes and restarts (I10)."""

import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.data.sources import Budget, BudgetSpent, Quiet
from brownfield.errors import SourceUnavailable


class Time:
    """Seconds that pass when somebody sleeps."""

    def __init__(self, now=1_000_000.0):
        self.now_s = now

    def now(self):
        """Seconds since some start."""
        return self.now_s

    def sleep(self, seconds):
        """Let time pass."""
        self.now_s += seconds


@pytest.fixture
def time():
    """A time of its own for each test."""
    return Time()


@pytest.fixture
def budget(tmp_path, time):
    """Make a budget with the test's time; each one made is as a process that was started anew."""

    def make(**limits):
        return Budget(tmp_path / "budgets", "db-5432", now=time.now, sleep=time.sleep, **limits)

    return make


def most_in_a_second(asked):
    """Most rows in any half-open second that begins with a page."""
    return max(sum(rows for at, rows in asked if begin <= at < begin + 1) for begin, _ in asked)


@settings(max_examples=40, deadline=None)
@given(
    rows_per_s=st.integers(20, 5_000),
    steps=st.lists(st.tuples(st.floats(0, 0.4), st.booleans(), st.floats(0.1, 1)), min_size=5, max_size=60),
)
def test_i10_no_second_gets_more_rows_than_declared(tmp_path_factory, rows_per_s, steps):
    """Whatever the pages' sizes and pauses, and however often the process begins anew."""
    time, folder = Time(), tmp_path_factory.mktemp("budget")
    asked = []
    budget = None
    for pause, restart, share in steps:
        if budget is None or restart:
            budget = Budget(folder, "db", rows_per_s=rows_per_s, now=time.now, sleep=time.sleep)
        rows = max(1, int(budget.page_rows * share))
        with budget.rows(rows):
            asked.append((time.now(), rows))
            time.sleep(pause)
    assert most_in_a_second(asked) <= rows_per_s


def test_i10_a_process_that_is_killed_while_it_reads_has_used_its_share(budget, time):
    """A restart storm: every process is killed in its first page, and the rate holds all the same."""
    asked = []
    for _ in range(50):
        killed = budget(rows_per_s=100).rows(10)
        killed.__enter__()
        asked.append((time.now(), 10))
    assert most_in_a_second(asked) <= 100


def test_the_budget_is_used_and_not_only_kept(budget, time):
    """Reading on without a pause gets most of the declared rate."""
    begun = time.now()
    for _ in range(100):
        with budget(rows_per_s=1_000).rows(100):
            pass
    assert 10_000 / (time.now() - begun) >= 700


def test_i10_who_would_not_wait_reserves_nothing(budget, time):
    """A thousand who give up take no row from who comes next, and the rate holds for those who are served."""
    asked, begun = [], time.now()
    for _ in range(1_000):
        time.sleep(0.01)
        try:
            with budget(rows_per_s=20, patience_s=lambda: 0.02).rows(1):
                asked.append((time.now(), 1))
        except BudgetSpent:
            continue
    assert most_in_a_second(asked) <= 20
    assert len(asked) >= 15 * (time.now() - begun)


def test_f43_who_would_not_wait_reserves_no_try(budget, time):
    """Those who give up put the next try no further off; where it was out of reach, that is what they are told."""
    with budget().attempt():
        pass
    for _ in range(1_000):
        with pytest.raises(BudgetSpent), budget(patience_s=lambda: 0.01).attempt():
            pass
    time.sleep(0.1)
    with pytest.raises(OSError), budget(patience_s=lambda: 0.01).attempt():
        raise OSError
    with pytest.raises(SourceUnavailable, match="out of reach") as told, budget(patience_s=lambda: 0.01).attempt():
        pass
    assert not isinstance(told.value, BudgetSpent)


def test_i10_connections_are_counted_over_all_callers(budget):
    """The one beyond the limit waits, and is told in the end; one that is given back is free at once."""
    with budget(max_connections=2).connection():
        third = budget(max_connections=2).connection()
        with budget(max_connections=2).connection(), pytest.raises(BudgetSpent, match="all 2 connections"):
            third.__enter__()
        with budget(max_connections=2).connection():
            pass


@pytest.fixture
def killed_holder(tmp_path):
    """Let a process take a connection of two, and kill it."""
    code = (
        "import sys, time; from pathlib import Path; from brownfield.data.sources import Budget\n"
        "held = Budget(Path(sys.argv[1]), 'db-5432', max_connections=2).connection(); held.__enter__()\n"
        "print('held', flush=True); time.sleep(60)"
    )

    @contextmanager
    def kill():
        holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / "budgets"], stdout=subprocess.PIPE)
        try:
            assert holder.stdout.readline() == b"held\n"
            yield
        finally:
            holder.kill()
            holder.communicate()

    return kill


@pytest.mark.full
def test_i10_a_killed_process_gives_its_connection_back_after_a_rest(killed_holder, budget, time):
    """The lock is the kernel's, but the server notices later: the slot is given out when it had the time."""
    with killed_holder(), pytest.raises(SourceUnavailable), budget(max_connections=1).connection():
        raise AssertionError("a second connection")
    for rest_s in (2.0, 0.0):  # the one that let go by itself leaves nothing to wait for
        begun = time.now()
        with budget(max_connections=1).connection():
            assert time.now() - begun == rest_s
    begun = time.now()
    with pytest.raises(ValueError), budget(max_connections=1).connection():
        raise ValueError
    with budget(max_connections=1).connection():
        assert time.now() == begun


@pytest.mark.full
def test_i10_the_slot_of_a_killed_process_is_taken_last(killed_holder, budget, time):
    """Another that is free is taken at once, and the rest goes on meanwhile."""
    with killed_holder():
        pass
    begun = time.now()
    with budget().connection():
        assert time.now() == begun
        time.sleep(1.5)
        with budget().connection():
            assert time.now() - begun == 2.0


def test_f_43_tries_to_connect_grow_rarer_while_they_fail(budget, time, tmp_path):
    """The pauses grow to a minute, across restarts; who would wait long is told instead."""
    tries, begun = 0, time.now()
    while time.now() - begun < 600:
        try:
            with budget().attempt():
                tries += 1
                (tmp_path / "no such server").stat()
        except OSError:
            pass
        except SourceUnavailable:
            time.sleep(1)
    assert 10 <= tries <= 30
    time.sleep(60)
    with budget().attempt():
        pass
    with budget().attempt():
        assert time.now() - begun < 700, "one success ends the waiting"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"rows_at": "x", "connect_at": null}', '{"rows_at": 1e300}', "\x00"]
)
def test_f_59_a_state_that_is_damaged_stops_nothing_for_long(budget, time, tmp_path, content):
    """Whatever stands in the file, the next rows come within a minute and the rate holds from then on."""
    (tmp_path / "budgets").mkdir()
    (tmp_path / "budgets" / "db-5432.state").write_text(content)
    begun = time.now()
    with budget(rows_per_s=100).rows(10):
        pass
    assert time.now() - begun <= 60
    with budget(rows_per_s=100).rows(10):
        assert time.now() > begun


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        ((7, 59), False),
        ((8, 0), True),
        ((9, 59), True),
        ((10, 0), False),
        ((23, 0), True),
        ((1, 59), True),
        ((2, 0), False),
    ],
)
def test_quiet_hours_are_heeded_in_their_zone(budget, time, at, quiet):
    """From the first minute to before the last, past midnight too; connections and rows alike."""
    time.now_s = datetime(2026, 11, 21, *at, tzinfo=UTC).timestamp() - 3_600
    made = budget(quiet=Quiet.parse("Europe/Berlin", ["08:00-10:00", "22:00-02:00"]))
    if not quiet:
        with made.connection(), made.rows(1):
            return
    with pytest.raises(SourceUnavailable, match=r"left alone until (10:00|02:00) Europe/Berlin"), made.connection():
        pass
    with pytest.raises(SourceUnavailable, match="left alone"), made.rows(1):
        pass


@pytest.mark.parametrize(
    ("day", "minutes"),
    [((2026, 3, 28), [30, 0]), ((2026, 10, 24), [30, 60]), ((2016, 12, 31), [30, 30])],
    ids=["F-66 spring", "F-66 autumn", "F-66 leap second"],
)
def test_f66_quiet_hours_hold_where_the_clock_is_changed(day, minutes):
    """F-66: an hour that is left out is not quiet, one that comes twice is quiet twice, and no minute more."""
    quiet = Quiet.parse("Europe/Berlin", ["02:15-02:45"])
    noon = datetime(*day, 11, tzinfo=UTC)
    for number, expected in enumerate(minutes):
        begin = noon + timedelta(days=number - 1)
        found = sum(quiet.until(begin + timedelta(minutes=n)) is not None for n in range(24 * 60))
        assert found == expected


def test_the_page_says_how_many_rows_a_page_has(tmp_path):
    """The table of what a rate brings names the pages that are read."""
    text = (Path(__file__).parents[3] / "docs/reference/connections.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| [\d,]+ \| [\d,]+ \|$", text, re.MULTILINE)
    assert len(told) == 7
    for rate, rows in told:
        budget = Budget(tmp_path, "db", rows_per_s=int(rate.replace(",", "")))
        assert int(rows) == max(1, budget.page_rows - 1)
