"""Reports: self-contained, escaped, and readable without a network."""

import re

from brownfield.report import interval_bars, latency_bars, render_report, stacked_bars, timeline
from brownfield.report.page import environment
from brownfield.workspace.demo import DemoSummary


def summary(name: str = "pos") -> DemoSummary:
    return DemoSummary(
        silos={name: {"rows_in": 3, "accepted": 2, "quarantined": 1, "by_rule": {"quantity.range": 1}}},
        unified_rows=2,
        answers={
            "sent": 2,
            "answered": 2,
            "failed": 0,
            "by_source": {"model": 1, "table": 1},
            "by_cause": {"worker": 1},
        },
        kills=[1.0],
        recall_at_10={"model": (0.2, 0.1, 0.3)},
        latency_ms={"caller, model answers": (1.0, 2.0)},
        model={"name": "m", "version": "1", "cores": "2"},
        seconds={"traffic": 1.0},
    )


def page(name: str = "pos") -> str:
    figures = {
        "silos": stacked_bars([name], {"accepted": [2]}, unit="rows"),
        "timeline": timeline([0.0], {"model": [1]}, marks={"killed": 0.0}, unit="answers"),
        "recall": interval_bars({"model": (0.2, 0.1, 0.3)}, unit="recall"),
        "latency": latency_bars({"total": (1.0, 2.0)}),
    }
    return render_report("demo.html", {"summary": summary(name)}, figures)


def test_a_report_loads_nothing_from_elsewhere() -> None:
    """No element of the page names another host, file or style sheet."""
    html = re.sub(r"<script>.*?</script>", "", page(), flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", html) == []
    assert "@import" not in html
    assert "url(" not in html


def test_s21_names_in_a_report_are_text() -> None:
    """S-21: markup in a source's name is shown, neither run nor able to end the element that holds the figures."""
    html = page("</script><script>alert(1)</script>")
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_numbers_stand_in_tables_too() -> None:
    """A reader without JavaScript finds the counts and the rule in the page's tables."""
    html = page()
    tables = "".join(re.findall(r"<table>.*?</table>", html, flags=re.DOTALL))
    for wanted in ("quantity.range", "0.2000", "worker"):
        assert wanted in tables


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    """A template that uses a name it was not given fails loudly instead of leaving a gap."""
    from jinja2 import UndefinedError

    template = environment().from_string("{{ nothing.here }}")
    try:
        template.render()
    except UndefinedError:
        return
    raise AssertionError
