"""A search as JSON for programs and as one HTML page for people.

In: a :class:`~brownfield.fit.search.Fit`. Out: ``report.json`` and ``report.html``, each written whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from brownfield.fit.choose import Row
from brownfield.fit.search import Fit
from brownfield.report import render_report, trade_off
from brownfield.store import write_private

__all__ = ["pareto", "write_reports"]


def write_reports(folder: Path, fit: Fit, *, title: str, notes: Sequence[str] = ()) -> None:
    """Write both reports into a folder.

    Parameters
    ----------
    folder
        Exists.
    fit
        What was found.
    title
        Of the page.
    notes
        Sentences above the table.
    """
    body = {"title": title, "notes": list(notes), "pareto": pareto(fit.rows), **msgspec.to_builtins(fit)}
    encoded = msgspec.json.format(msgspec.json.encode(body, order="sorted"), indent=2)
    write_private(folder / "report.json", encoded + b"\n")
    context = {"title": title, "notes": list(notes), "fit": fit, "table": [_cells(fit, row) for row in fit.rows]}
    figures = {"front": _figure(fit)} if any(row.timing and row.accuracy for row in fit.rows) else {}
    write_private(folder / "report.html", render_report("fit.html", context, figures).encode())


def pareto(rows: Sequence[Row]) -> list[str]:
    """Names of the candidates that none beats in both time (ratio to fp32) and accuracy."""
    points = {
        row.candidate.name: (row.timing.ratio.value, -row.accuracy.value)
        for row in rows
        if row.timing is not None and row.accuracy is not None and row.accuracy.finite
    }
    return [
        name
        for name, point in points.items()
        if not any(_beats(other, point) for rival, other in points.items() if rival != name)
    ]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _figure(fit: Fit) -> dict[str, Any]:
    front = pareto(fit.rows)
    points = {
        row.candidate.name: (row.timing.p50_us.value / 1000, row.accuracy.value)
        for row in fit.rows
        if row.timing is not None and row.accuracy is not None
    }
    return trade_off(
        points,
        front=[name for name in front if name in points],
        chosen=fit.choice.chosen,
        x_unit="median milliseconds in the engine",
        y_unit=next((row.accuracy.metric for row in fit.rows if row.accuracy is not None), "accuracy"),
    )


def _cells(fit: Fit, row: Row) -> dict[str, str]:
    timing, accuracy = row.timing, row.accuracy
    cells = dict.fromkeys(("p50", "p99", "ratio", "accuracy", "drop", "peak"), "")
    if timing is not None:
        cells["p50"] = f"{timing.p50_us.value / 1000:.3f}"
        upper = timing.p99_us[2]
        cells["p99"] = f"{timing.p99_us[0] / 1000:.3f}" + (f" (to {upper / 1000:.3f})" if upper is not None else "")
        cells["ratio"] = f"{timing.ratio.value:.2f} ({timing.ratio.lower:.2f} to {timing.ratio.upper:.2f})"
        cells["peak"] = f"{timing.peak_mib:.0f}"
    if accuracy is not None:
        cells["accuracy"] = f"{accuracy.value:.4f}"
        cells["drop"] = f"{accuracy.drop.value:.4f} ({accuracy.drop.lower:.4f} to {accuracy.drop.upper:.4f})"
    return {
        "name": row.candidate.name,
        "stage": row.stage,
        **cells,
        "size": f"{row.size_mib:.2f}" if row.size_mib else "",
        "reason": fit.choice.reasons.get(row.candidate.name, row.failure),
    }
