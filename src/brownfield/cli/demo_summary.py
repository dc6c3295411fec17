"""The demonstration's summary for a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brownfield.workspace.demo import DemoSummary

__all__ = ["print_summary"]


def print_summary(summary: "DemoSummary", folder: Path) -> None:
    """Print the tables: silos, answers, recall, latency, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", pad_edge=False)
        for index, column in enumerate(columns):
            made.add_column(column, justify="left" if index == 0 else "right")
        return made

    silos = table("What came in", "silo", "rows in", "accepted", "quarantined", "by rule")
    for name, silo in summary.silos.items():
        rules = "\n".join(f"{rule} {count:,}" for rule, count in silo["by_rule"].items())
        silos.add_row(name, *(f"{silo[key]:,}" for key in ("rows_in", "accepted", "quarantined")), rules)
    answers = table("Who answered", "answered by", "requests")
    for source, count in summary.answers["by_source"].items():
        answers.add_row(source, f"{count:,}")
    answers.add_row("failed", f"{summary.answers['failed']:,}")
    recall = table("How right", "answered by", "recall@10", "95 % interval")
    for name, (value, lower, upper) in summary.recall_at_10.items():
        recall.add_row(name, f"{value:.4f}", f"{lower:.4f} to {upper:.4f}")
    latency = table("How fast (ms)", "stage", "p50", "p99")
    for name, (p50, p99) in summary.latency_ms.items():
        latency.add_row(name, f"{p50:.3f}", f"{p99:.3f}")
    for each in (silos, answers, recall, latency):
        console.print(each)
        console.print()
    console.print(
        f"{summary.unified_rows:,} rows in the one validated table; the model process was killed "
        f"{len(summary.kills)} times; {summary.answers['failed']} of {summary.answers['sent']:,} requests failed."
    )
    console.print(f"Summary: {folder / 'summary.json'}   Report: {folder / 'report.html'}", soft_wrap=True)
    console.print(f"Try it:  brownfield check {folder} && brownfield serve {folder}", soft_wrap=True)
