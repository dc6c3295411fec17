"""A report as a person sees it: a real browser draws every figure, without a network and without an error."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from brownfield.workspace.demo import DemoSummary
from brownfield.workspace.demo_report import write_report
from brownfield.workspace.traffic import Answered

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (make services)"),
]

SUMMARY = DemoSummary(
    silos={"pos": {"rows_in": 3, "accepted": 2, "quarantined": 1, "by_rule": {"quantity.range": 1}}},
    unified_rows=2,
    answers={"sent": 2, "answered": 2, "failed": 0, "by_source": {"model": 1, "table": 1}, "by_cause": {"worker": 1}},
    kills=[0.5],
    recall_at_10={"model": (0.2, 0.1, 0.3)},
    latency_ms={"caller, model answers": (1.0, 2.0), "server, total": (0.5, 1.5)},
    model={"name": "m", "version": "1", "cores": "2"},
    seconds={"traffic": 1.0},
)


def drawn(page: Path, profile: Path) -> str:
    """Give the document after its scripts ran, with the browser cut off from every network."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--virtual-time-budget=15000",
            "--enable-logging=stderr", "--dump-dom", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )  # fmt: skip
    assert re.findall(r"CONSOLE.*(?:Error|Refused).*", done.stderr) == []
    return done.stdout


def test_every_figure_is_drawn(tmp_path: Path) -> None:
    """Each of the demonstration's four figures becomes a drawing in Chromium."""
    answers = [
        Answered(0, 0.0, 1.0, 200, {"decision": {"source": "model"}}),
        Answered(1, 0.6, 1.0, 200, {"decision": {"source": "table"}}),
    ]
    write_report(tmp_path / "report.html", SUMMARY, answers)
    document = drawn(tmp_path / "report.html", tmp_path / "profile")
    for name in ("silos", "timeline", "recall", "latency"):
        wanted = rf'<div class="figure[^"]*" data-figure="{name}".*?(?=<table|</section)'
        figure = re.search(wanted, document, re.DOTALL)
        assert figure, name
        assert "main-svg" in figure[0], name
