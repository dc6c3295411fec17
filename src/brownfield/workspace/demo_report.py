"""The demonstration's page: what came in, who answered, how right and how fast, in one self-contained file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.report import interval_bars, latency_bars, render_report, stacked_bars, timeline
from brownfield.workspace.traffic import Answered

if TYPE_CHECKING:
    from brownfield.workspace.demo import DemoSummary

__all__ = ["write_report"]

_BIN_S = 0.25


def write_report(path: Path, summary: "DemoSummary", answered: Sequence[Answered]) -> None:
    """Write the page; it opens in any browser without a network."""
    silos = list(summary.silos)
    figures = {
        "silos": stacked_bars(
            silos,
            {
                "accepted": [summary.silos[name]["accepted"] for name in silos],
                "quarantined": [summary.silos[name]["quarantined"] for name in silos],
            },
            unit="rows",
        ),
        "timeline": _timeline(summary, answered),
        "recall": interval_bars(summary.recall_at_10, unit="recall@10, with 95 % interval"),
        "latency": latency_bars(summary.latency_ms),
    }
    path.write_text(render_report("demo.html", {"summary": summary}, figures), encoding="utf-8")


def _timeline(summary: "DemoSummary", answered: Sequence[Answered]) -> dict[str, object]:
    """Answers per quarter second by who gave them; a line where the killing began."""
    sources = sorted(
        {str(each.body.get("decision", {}).get("source", "none")) for each in answered},
        key=lambda name: (name != "model", name),
    )
    bins = int(max(each.at_s for each in answered) / _BIN_S) + 1
    counts = {name: [0.0] * bins for name in sources}
    for each in answered:
        counts[str(each.body.get("decision", {}).get("source", "none"))][int(each.at_s / _BIN_S)] += 1
    marks = {f"model killed ({len(summary.kills)}x)": summary.kills[0]} if summary.kills else {}
    return timeline([(index + 0.5) * _BIN_S for index in range(bins)], counts, marks=marks, unit="answers")
