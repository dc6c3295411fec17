"""Figures as plain Plotly JSON: numbers in, a dictionary out; nothing is drawn and nothing is imported here."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Figure", "interval_bars", "latency_bars", "stacked_bars", "thread_curve", "timeline", "trade_off"]

Figure: TypeAlias = dict[str, Any]

# Colours that stay apart for the colour-blind (Okabe and Ito, 2008) and in grey print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#1b2733"}


def _layout(**more: Any) -> Figure:
    grid = {"gridcolor": "#e4e8ec", "zeroline": False, "automargin": True}
    layout: Figure = {
        "font": _FONT,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 20, "t": 10, "b": 40},
        "legend": {"orientation": "h", "y": -0.25, "traceorder": "normal"},
        "xaxis": dict(grid),
        "yaxis": dict(grid),
        "height": 300,
    }
    for axis in ("xaxis", "yaxis"):
        layout[axis].update(more.pop(axis, {}))
    layout.update(more)
    return layout


def stacked_bars(categories: Sequence[str], series: Mapping[str, Sequence[float]], *, unit: str) -> Figure:
    """One horizontal bar per category, one segment per series.

    Parameters
    ----------
    categories
        Names of the bars, top to bottom.
    series
        Values per segment name, each as long as ``categories``.
    unit
        Title of the value axis.

    Examples
    --------
    >>> figure = stacked_bars(["pos"], {"accepted": [3], "quarantined": [1]}, unit="rows")
    >>> [trace["name"] for trace in figure["data"]]
    ['accepted', 'quarantined']
    """
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(categories),
            "x": list(values),
            "marker": {"color": COLOURS[index % len(COLOURS)]},
        }
        for index, (name, values) in enumerate(series.items())
    ]
    layout = _layout(barmode="stack", xaxis={"title": {"text": unit}}, yaxis={"autorange": "reversed"})
    return {"data": traces, "layout": layout}


def timeline(
    seconds: Sequence[float], series: Mapping[str, Sequence[float]], *, marks: Mapping[str, float], unit: str
) -> Figure:
    """Stacked bars over time, with a labelled line at each mark.

    Parameters
    ----------
    seconds
        Middle of each bin, from the beginning of the run: bars are drawn around it.
    series
        Values per bin and name.
    marks
        Moments worth a line, by label, in seconds.
    unit
        Title of the value axis.
    """
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": list(seconds),
            "y": list(values),
            "marker": {"color": COLOURS[index % len(COLOURS)], "line": {"width": 0}},
        }
        for index, (name, values) in enumerate(series.items())
    ]
    lines = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": COLOURS[5], "dash": "dot"},
        }
        for at in marks.values()
    ]
    notes = [
        {"x": at, "yref": "paper", "y": 1.08, "text": label, "showarrow": False, "font": {"size": 12}}
        for label, at in marks.items()
    ]
    layout = _layout(
        barmode="stack",
        bargap=0.05,
        xaxis={"title": {"text": "seconds since the first request"}},
        yaxis={"title": {"text": unit}},
        shapes=lines,
        annotations=notes,
        margin={"l": 10, "r": 20, "t": 30, "b": 40},
    )
    return {"data": traces, "layout": layout}


def interval_bars(values: Mapping[str, tuple[float, float, float]], *, unit: str) -> Figure:
    """One bar per name with its interval.

    Parameters
    ----------
    values
        ``(value, lower, upper)`` by name.
    unit
        Title of the value axis.

    Examples
    --------
    >>> interval_bars({"model": (0.2, 0.18, 0.23)}, unit="recall@10")["data"][0]["x"]
    [0.2]
    """
    names = list(values)
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": [value for value, _, _ in values.values()],
        "marker": {"color": [COLOURS[index % len(COLOURS)] for index in range(len(names))]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [upper - value for value, _, upper in values.values()],
            "arrayminus": [value - lower for value, lower, _ in values.values()],
            "color": "#1b2733",
        },
    }
    layout = _layout(
        xaxis={"title": {"text": unit}, "rangemode": "tozero"}, yaxis={"autorange": "reversed"}, height=240
    )
    return {"data": [trace], "layout": layout}


def latency_bars(stages: Mapping[str, tuple[float, float]], *, unit: str = "milliseconds") -> Figure:
    """Median and 99th percentile of each stage, side by side.

    Parameters
    ----------
    stages
        ``(p50, p99)`` by stage, in the order in which a request passes them.
    unit
        Title of the value axis.
    """
    names = list(stages)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": [pair[index] for pair in stages.values()],
            "marker": {"color": COLOURS[index]},
        }
        for index, name in enumerate(("p50", "p99"))
    ]
    layout = _layout(barmode="group", xaxis={"title": {"text": unit}}, yaxis={"autorange": "reversed"}, height=360)
    return {"data": traces, "layout": layout}


def trade_off(
    points: Mapping[str, tuple[float, float]], *, front: Sequence[str], chosen: str, x_unit: str, y_unit: str
) -> Figure:
    """Numbered points by name, a line through those that none beats, and the chosen one apart.

    Parameters
    ----------
    points
        ``(x, y)`` by name; each is drawn with its number in this order, the first with 1.
    front
        Names on the line, in any order.
    chosen
        Name of the chosen point; empty without one.
    x_unit, y_unit
        Titles of the axes.

    Examples
    --------
    >>> points = {"fp32": (2.0, 1.0), "int8": (1.0, 0.9)}
    >>> figure = trade_off(points, front=["fp32", "int8"], chosen="int8", x_unit="ms", y_unit="accuracy")
    >>> figure["data"][0]["x"], figure["data"][-1]["text"]
    ([1.0, 2.0], ['2'])
    """
    numbers = {name: str(number) for number, name in enumerate(points, 1)}
    line = sorted(points[name] for name in front)
    others = [name for name in points if name != chosen]
    marks = [("candidates", others, 9, COLOURS[0])]
    if chosen in points:
        marks.append(("chosen", [chosen], 13, COLOURS[5]))
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "none is better in both",
            "x": [x for x, _ in line],
            "y": [y for _, y in line],
            "line": {"color": COLOURS[6], "dash": "dot"},
        }
    ]
    traces += [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": label,
            "text": [numbers[name] for name in names],
            "hovertext": list(names),
            "textposition": "top center",
            "cliponaxis": False,
            "x": [points[name][0] for name in names],
            "y": [points[name][1] for name in names],
            "marker": {"size": size, "color": colour},
        }
        for label, names, size, colour in marks
    ]
    layout = _layout(xaxis={"title": {"text": x_unit}}, yaxis={"title": {"text": y_unit}}, height=360)
    return {"data": traces, "layout": layout}


def thread_curve(
    measured: Mapping[int, float], predicted: Mapping[int, float], *, limit: float | None, y_unit: str
) -> Figure:
    """Draw times by threads: measured points, a predicted line, and the limit.

    Parameters
    ----------
    measured, predicted
        Times by threads, in ascending order.
    limit
        Drawn as a line; None for none.
    y_unit
        Title of the axis of times.

    Examples
    --------
    >>> figure = thread_curve({1: 8.0, 2: 5.0}, {1: 8.0, 2: 5.1, 4: 3.6}, limit=4.0, y_unit="ms")
    >>> [trace["name"] for trace in figure["data"]]
    ['predicted', 'measured', 'limit']
    """
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "predicted",
            "x": list(predicted),
            "y": list(predicted.values()),
            "line": {"color": COLOURS[6], "dash": "dot"},
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured",
            "x": list(measured),
            "y": list(measured.values()),
            "marker": {"size": 11, "color": COLOURS[0]},
        },
    ]
    if limit is not None:
        ends = [min(predicted), max(predicted)]
        line = {"color": COLOURS[5], "width": 2}
        traces.append({"type": "scatter", "mode": "lines", "name": "limit", "x": ends, "y": [limit] * 2, "line": line})
    layout = _layout(
        xaxis={"title": {"text": "threads"}, "dtick": max(1, max(predicted) // 8)},
        yaxis={"title": {"text": y_unit}, "rangemode": "tozero"},
    )
    return {"data": traces, "layout": layout}
