"""The reports hold every candidate with its reason, in JSON and in one page."""

import json

import pytest

from brownfield.fit import Candidate, Choice, Fit, Machine, Noise, Recipe, Row, Shortfall, Timing, Verdict, Wanted
from brownfield.fit.accuracy import Accuracy
from brownfield.fit.report import limits, pareto, write_reports
from brownfield.statistics import Interval


def _row(kind: str, ratio: float, value: float) -> Row:
    timing = Timing(
        runs=960,
        p50_us=Interval(100 * ratio, 90 * ratio, 110 * ratio),
        p99_us=(200, 150, None),
        mean_us=110,
        ratio=Interval(ratio, ratio, ratio),
        reference_p50_us=100,
        peak_mib=61,
        ready_s=0.2,
        steal_share=0,
    )
    accuracy = Accuracy(
        metric="agreement",
        rows=500,
        value=value,
        drop=Interval(1 - value, 0, 1),
        finite=True,
        largest_difference=0,
        least_cosine=1,
    )
    return Row(candidate=Candidate(recipe=Recipe(kind=kind)), stage="final", timing=timing, accuracy=accuracy)


@pytest.fixture
def fit() -> Fit:
    rows = (
        _row("as_is", 1.0, 1.0),
        _row("optimised", 1.1, 1.0),
        _row("dynamic", 0.5, 0.99),
        Row(candidate=Candidate(recipe=Recipe(kind="static")), stage="build", cause="BuildFailed", failure="<b>failed"),
    )
    short = Shortfall(resource="latency_p99_ms", declared=1, needed=2, factor=2, measured=True, how="measured")
    reasons = {row.candidate.name: row.failure or "too slow" for row in rows}
    return Fit(
        choice=Choice(verdict=Verdict.DOES_NOT_FIT, why="none", shortfalls=(short,), reasons=reasons),
        rows=rows,
        wanted=Wanted(latency_p99_ms=1),
        machine=Machine(
            cpu_model="CPU",
            cpu_flags=("avx2",),
            cores=2,
            memory_mib=4096,
            machine="x86_64",
            kernel="6",
            engines="e 1",
        ),
        noise=Noise(ratio=1.01, steal_share=0.0),
        calibration_rows=128,
        selection_rows=300,
        final_rows=500,
        invented_rows=False,
        complete=True,
        resumed=0,
        seed=0,
        seconds=10,
    )


def test_the_front_holds_what_none_beats(fit: Fit) -> None:
    """A slower candidate that is no more right is not on it; one that failed is nowhere."""
    assert pareto(fit.rows) == ["fp32", "dynamic int8"]


def test_both_reports_hold_every_candidate(fit: Fit, tmp_path) -> None:
    """Names and reasons of all, failures too, whose text cannot become markup."""
    write_reports(tmp_path, fit, title="shop", notes=["a note"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    body = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(body["rows"]) == 4
    for row in fit.rows:
        assert f"<td>{row.candidate.name}</td>" in page
    assert "&lt;b&gt;failed" in page
    assert "<b>failed" not in page
    assert "DOES NOT FIT" in page
    assert "2.00" in page
    assert "a note" in page
    assert (tmp_path / "report.html").stat().st_mode & 0o077 == 0


def test_a_search_without_measurements_has_a_report(fit: Fit, tmp_path) -> None:
    """A model that does not run leaves one row and no figure."""
    import msgspec

    bare = msgspec.structs.replace(fit, rows=fit.rows[3:], noise=None)
    write_reports(tmp_path, bare, title="shop")
    assert "Nothing could be measured" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_each_declared_limit_stands_beside_what_was_measured(fit: Fit) -> None:
    """Kept by the unfavourable bound, broken by the favourable one, and else not said: groups as well."""
    import msgspec

    from brownfield.fit import SliceAccuracy

    groups = tuple(
        SliceAccuracy(field="region", value=value, rows=9, accuracy=1, drop=Interval(0.0, 0.0, upper))
        for value, upper in (("north", 0.01), ("south", 0.5))
    )
    row = msgspec.structs.replace(fit.rows[2], slices=groups)
    wanted = Wanted(latency_p99_ms=0.1, memory_mib=512, expected_rate_per_s=10, max_drop=0.02, slices={"region": 0.02})
    choice = msgspec.structs.replace(fit.choice, nearest=row.candidate.name)
    found = limits(msgspec.structs.replace(fit, rows=(*fit.rows[:2], row), wanted=wanted, choice=choice))
    assert {each.name: each.met for each in found} == {
        "latency_p99_ms": False,
        "cpu_cores": True,
        "memory_mib": True,
        "accuracy.max_drop (agreement)": None,
        "accuracy.slices.region north": True,
        "accuracy.slices.region south": None,
    }
    assert limits(fit) == []
