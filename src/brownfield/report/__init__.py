"""One look for reports, living docs and pages: templates, figures, and a renderer of self-contained files."""

from brownfield.report.figures import (
    Figure,
    interval_bars,
    latency_bars,
    stacked_bars,
    thread_curve,
    timeline,
    trade_off,
)
from brownfield.report.page import STYLE, environment, render_report

__all__ = [
    "STYLE",
    "Figure",
    "environment",
    "interval_bars",
    "latency_bars",
    "render_report",
    "stacked_bars",
    "thread_curve",
    "timeline",
    "trade_off",
]
