"""A search as JSON for programs and as one HTML page for people.

In: a :class:`~brownfield.fit.found.Fit`. Out: ``report.json`` and ``report.html``, each written whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from brownfield.fit.choose import Row, Verdict, cores_needed
from brownfield.fit.found import Fit
from brownfield.fit.scaling import Scaling
from brownfield.report import render_report, thread_curve, trade_off
from brownfield.store import write_private

__all__ = ["Limit", "limits", "pareto", "write_reports"]

_PASSED = (Verdict.FITS, Verdict.FITS_WITH_CHANGES)


def write_reports(folder: Path, fit: Fit, *, title: str, notes: Sequence[str] = (), where: str = "") -> None:
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
    where
        Added to the names of the files.
    """
    gate = {"verdict": fit.choice.verdict, "passed": fit.choice.verdict in _PASSED, "limits": limits(fit)}
    body = {"title": title, "notes": list(notes), "gate": gate, "pareto": pareto(fit.rows), **msgspec.to_builtins(fit)}
    encoded = msgspec.json.format(msgspec.json.encode(body, order="sorted"), indent=2)
    write_private(folder / f"report{where}.json", encoded + b"\n")
    context = {
        "title": title,
        "notes": list(notes),
        "fit": fit,
        "limits": limits(fit),
        "shown": fit.choice.chosen or fit.choice.nearest,
        "slices": [each for row in fit.rows if row.candidate.name == fit.choice.chosen for each in row.slices],
        "table": _numbered([_cells(fit, row) for row in fit.rows]),
    }
    figures = {"front": _figure(fit)} if any(row.timing and row.accuracy for row in fit.rows) else {}
    if fit.advice is not None and fit.advice.scaling is not None:
        figures["scaling"] = _scaling_figure(fit.advice.scaling, fit.wanted.latency_p99_ms)
    write_private(folder / f"report{where}.html", render_report("fit.html", context, figures).encode())


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One declared limit beside what was measured of the chosen, or else of the nearest, candidate.

    Parameters
    ----------
    name
        Key of ``constraints``; with the group where it is one of a group.
    limit
        As declared.
    value, lower, upper
        As measured, with 95 % bounds where there are any.
    met
        Whether it is kept by the unfavourable bound; None where the interval holds the limit.
    """

    name: str
    limit: float
    value: float
    lower: float | None = None
    upper: float | None = None
    met: bool | None = None


def limits(fit: Fit) -> list[Limit]:
    """Each declared limit beside what was measured; empty where nothing was."""
    name = fit.choice.chosen or fit.choice.nearest
    row = next((each for each in fit.rows if each.candidate.name == name and each.timing is not None), None)
    if row is None or row.timing is None:
        return []
    wanted, found = fit.wanted, []
    if wanted.latency_p99_ms is not None:
        value, lower, upper = (None if each is None else each / 1000 for each in row.timing.p99_us)
        found.append(_limit("latency_p99_ms", wanted.latency_p99_ms, value or 0.0, lower, upper))
    if wanted.expected_rate_per_s is not None:
        found.append(_limit("cpu_cores", wanted.cpu_cores, cores_needed(row, wanted)))
    if wanted.memory_mib is not None:  # it answered under the bound itself, or it would have no timing
        peak = row.timing.peak_mib
        found.append(Limit(name="memory_mib", limit=wanted.memory_mib, value=peak, met=True))
    if row.accuracy is not None:
        found.append(_limit(f"accuracy.max_drop ({row.accuracy.metric})", wanted.max_drop, *row.accuracy.drop))
    groups = [each for each in row.slices if each.field in wanted.slices]
    return found + [
        _limit(f"accuracy.slices.{each.field} {each.value}", wanted.slices[each.field], *each.drop) for each in groups
    ]


def _limit(name: str, limit: float, value: float, lower: float | None = None, upper: float | None = None) -> Limit:
    worst, best = value if upper is None else upper, value if lower is None else lower
    met = True if worst <= limit else False if best > limit else None
    return Limit(name=name, limit=limit, value=value, lower=lower, upper=upper, met=met)


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


def _scaling_figure(scaling: Scaling, limit_ms: float | None) -> dict[str, Any]:
    """Measured 99th percentiles by threads, and what the law says between and beyond them."""
    counts = range(1, max(8, 2 * scaling.points[-1].threads) + 1)
    return thread_curve(
        {point.threads: point.p99_ms for point in scaling.points},
        {threads: scaling.law(threads).p99_ms for threads in counts},
        limit=limit_ms,
        y_unit="99th percentile, milliseconds",
    )


def _numbered(table: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give each row that is a point of the figure its number there."""
    drawn = [row for row in table if row["ratio"] and row["accuracy"]]
    return [{"number": str(drawn.index(row) + 1) if row in drawn else "", **row} for row in table]


def _cells(fit: Fit, row: Row) -> dict[str, str]:
    timing, accuracy = row.timing, row.accuracy
    cells = dict.fromkeys(("p50", "p99", "ratio", "accuracy", "drop", "peak"), "")
    if timing is not None:
        cells["p50"] = f"{timing.p50_us.value / 1000:.3f}"
        upper = timing.p99_us[2]
        cells["p99"] = f"{timing.p99_us[0] / 1000:.3f}" + (f"\nto {upper / 1000:.3f}" if upper is not None else "")
        cells["ratio"] = f"{timing.ratio.value:.2f}\n{timing.ratio.lower:.2f} to {timing.ratio.upper:.2f}"
        cells["peak"] = f"{timing.peak_mib:.0f}"
    if accuracy is not None:
        cells["accuracy"] = f"{accuracy.value:.4f}"
        cells["drop"] = f"{accuracy.drop.value:.4f}\n{accuracy.drop.lower:.4f} to {accuracy.drop.upper:.4f}"
    return {
        "name": row.candidate.name,
        "stage": row.stage,
        **cells,
        "size": f"{row.size_mib:.2f}" if row.size_mib else "",
        "reason": fit.choice.reasons.get(row.candidate.name, row.failure),
    }
