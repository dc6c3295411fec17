"""What a run does when too many records are refused: stop, go to quarantine as a whole, or do without the lookup."""

import pytest

from brownfield.data.pipeline import run_pipeline
from brownfield.errors import DeclarationError, RunPaused, SourceUnavailable
from brownfield.integration import each_error, load_workspace
from harness.bank import INTEGRATION, allow, book, history, make, on_store, replay, run, waiting

BREACH = "max_refused_percent: 20, refused_window_rows: 5"


def bank_with(folder, keys):
    """A bank whose feed keeps no order and has further keys."""
    return make(folder, "\n    ".join(keys.split(", ")))


def report_of(bank, **options):
    """One run's report of the feed."""
    return on_store(bank, lambda *parts: run_pipeline(*parts, **options)).sources["events"]


def test_pause_keeps_nothing(tmp_path):
    """Above the share the run stops, and the next finds everything as it was."""
    bank = bank_with(tmp_path, BREACH)
    book(bank, ("a", 1), ("b", 500), ("c", 500), ("d", 1), ("e", 1))
    with pytest.raises(RunPaused, match="2 of 5 records refused; at most 20 %"):
        run(bank)
    assert (history(bank), waiting(bank)) == ([], {})


@pytest.mark.full
def test_shadow_sends_the_whole_reading_to_quarantine_and_leaves_the_table(tmp_path):
    """Good records wait with a code of their own, the feed goes on, and a replay brings them in once it is mended."""
    bank = bank_with(tmp_path, f"{BREACH}, on_breach: shadow")
    book(bank, ("a", 1), ("b", 2))
    assert run(bank) == (2, 0)
    book(bank, ("a", 1), ("b", 500), ("c", "much"), ("d", 1), ("e", 1), ("f", 7))
    report = report_of(bank)
    assert (report.rows_in, report.accepted, report.quarantined) == (6, 0, 6)
    assert report.shadow == "2 of 6 records refused; at most 20 % are admitted"
    assert report.by_code == {"BF-FLD-004": 1, "BF-QUA-002": 4, "BF-RUL-001": 1}
    assert history(bank) == [1, 2]
    [entry] = on_store(bank, lambda _i, _c, store, _o: store.audit.entries())
    assert (entry.action, entry.subject) == ("pipeline.shadow", "reco.events")
    book(bank, ("g", 1))
    assert run(bank) == (1, 0)
    allow(bank, 600)
    assert replay(bank) == (5, 1)
    assert sorted(history(bank)) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert waiting(bank) == {"5": "BF-FLD-004"}


def test_a_person_may_let_a_breach_pass_instead(tmp_path):
    """With the guard accepted the good records of the same reading join the table."""
    bank = bank_with(tmp_path, f"{BREACH}, on_breach: shadow")
    book(bank, ("a", 1), ("b", 500), ("c", 500), ("d", 1), ("e", 1))
    assert run(bank, accept=["refused"]) == (3, 2)
    assert history(bank) == [1, 4, 5]


@pytest.mark.full
def test_a_code_that_was_never_seen_signals_a_changed_source(tmp_path):
    """A new code above its share stops the run and says what changed in the table; a known one does not."""
    bank = bank_with(tmp_path, "max_new_code_percent: 10, refused_window_rows: 5")
    book(bank, *[("a", 1)] * 9, ("b", 500))
    assert run(bank, accept=["refused"]) == (9, 1)
    book(bank, ("a", 1), ("a", 500), ("a", 500), ("a", 1), ("a", 1))
    assert run(bank) == (3, 2)
    book(bank, ("a", 1), ("a", "much"), ("a", 1), ("a", 1), ("a", 1))
    with pytest.raises(RunPaused, match=r"BF-FLD-004, never seen before, refuses 1 of 5 .* no field of it changed"):
        run(bank)


def test_a_lookup_with_a_way_out_counts_as_out_of_reach(tmp_path):
    """A lookup that refuses too much is given up like one that cannot be reached."""
    bank = bank_with(tmp_path, BREACH)
    file = bank / "integrations/reco/integration.yaml"
    lookup = INTEGRATION.replace("feed: true\n", "lookup: line\n").replace(
        "    cursor: {column: line, key: line}\n", ""
    )
    breach = "on_breach: fallback\n    max_refused_percent: 20"
    file.write_text(lookup.replace("park: {key: account}", breach))
    book(bank, ("a", 1), ("b", 500))
    with pytest.raises(SourceUnavailable, match="1 of 2 records refused"):
        run(bank)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("on_breach: fallback", "pause or shadow for a feed"), ("park: {key: nobody}", "a field of events")],
)
def test_what_does_not_fit_is_refused_by_check(tmp_path, keys, expected):
    """A feed has no way out, and order is kept by a field of the contract."""
    bank = bank_with(tmp_path, keys)
    with pytest.raises(DeclarationError) as refused:
        load_workspace(bank)
    assert any(expected in str(each) for each in each_error(refused.value))
