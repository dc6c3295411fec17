"""``brownfield fit``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from brownfield.cli.output import EXIT_FINDING, print_json, print_table, printable, progress

if TYPE_CHECKING:
    from brownfield.fit import Advice
    from brownfield.workspace.fit import FitReport

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("fit", epilog="Example: brownfield fit shop --name shop --rows rows.npz --write-bundle")(_fit)


def _fit(  # noqa: PLR0913, PLR0917 (an option each)
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    name: str | None = typer.Option(
        None, "--name", metavar="INTEGRATION", help="The integration, where there is more than one."
    ),
    rows: Path | None = typer.Option(
        None, "--rows", metavar="FILE", help="Real requests, .npz or .parquet; without rows nothing is quantised."
    ),
    table: str | None = typer.Option(None, "--table", metavar="NAME", help="Real requests, from a pipeline's table."),
    labels: str | None = typer.Option(None, "--labels", metavar="COLUMN", help="Column of the truth in the rows."),
    prices: Path | None = typer.Option(None, "--prices", metavar="FILE", help="Price book instead of the declared."),
    time_limit_s: float = typer.Option(540.0, "--time-limit-s", min=5.0, help="Wall time; the next call goes on."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the split of the rows."),
    write_bundle: bool = typer.Option(
        False, "--write-bundle", help="Write what was chosen as a bundle beside the present one."
    ),
    pack_probe: Path | None = typer.Option(
        None, "--pack-probe", metavar="FILE", help="Write a probe to run on the target, and end there."
    ),
    on: Path | None = typer.Option(None, "--on", metavar="FILE", help="Judge what the probe measured on the target."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Search for a model file and session that keep the declared limits, measured here, or say what is missing."""
    from brownfield.workspace.fit import fit, fit_on, pack
    from brownfield.workspace.fit_inputs import RowsFrom

    if on is not None and pack_probe is not None:
        raise typer.BadParameter("either --pack-probe or --on")
    real = RowsFrom(file=rows, table=table, labels=labels)
    with progress(quiet=as_json) as show:
        if pack_probe is not None:
            _print_probe(pack(folder, name, pack_probe, rows=real, seed=seed, progress=show), as_json=as_json)
            return
        if on is not None:
            report = fit_on(folder, name, on, rows=real, prices=prices, seed=seed, write_bundle=write_bundle)
        else:
            report = fit(
                folder,
                name,
                rows=real,
                prices=prices,
                time_limit_s=time_limit_s,
                seed=seed,
                write_bundle=write_bundle,
                progress=show,
            )
    if as_json:
        print_json(report)
    else:
        _print(report)
    sys.exit(0 if report.fits else EXIT_FINDING)


def _print_probe(file: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"probe": file})
        return
    typer.echo(f"{file}: holds models and rows, so keep it as safe as the rows.")
    typer.echo(f"On the target, with numpy and onnxruntime: python3 {file.name} --out result.npz")
    typer.echo("Then here: brownfield fit ... --on result.npz")


def _print(report: "FitReport") -> None:
    choice = report.fit.choice
    for note in report.notes:
        typer.echo(printable(f"note: {note}"))
    rows = []
    for row in report.fit.rows:
        timing, accuracy = row.timing, row.accuracy
        rows.append(
            (
                row.candidate.name,
                "" if timing is None else f"{timing.p50_us.value / 1000:.3f}",
                "" if timing is None else f"{timing.p99_us[0] / 1000:.3f}",
                "" if timing is None else f"{timing.ratio.value:.2f}",
                "" if accuracy is None else f"{accuracy.value:.4f}",
                choice.reasons.get(row.candidate.name, row.failure),
            )
        )
    print_table(("candidate", "p50 ms", "p99 ms", "x fp32", "accuracy", "why"), rows)
    typer.echo(printable(f"{choice.verdict}: {choice.why}"))
    for change in choice.changes:
        typer.echo(printable(f"change: {change}"))
    for short in choice.shortfalls:
        kind = "measured" if short.measured else "estimated"
        typer.echo(
            printable(
                f"short of {short.resource}: {short.declared:g} declared, {short.needed:.3g} needed "
                f"({short.factor:.2f} times, {kind})"
            )
        )
    if report.fit.advice is not None:
        _print_advice(report.fit.advice)
    if report.written:
        typer.echo(printable(f"bundle {report.written}"))
    typer.echo(printable(f"report {report.html}"))


def _print_advice(advice: "Advice") -> None:
    meets = {True: "yes", False: "no", None: "?"}
    rows = [
        (
            each.name,
            meets[each.meets],
            each.known,
            "" if each.monthly is None else f"{each.monthly:,.0f} {advice.currency}",
            each.what,
        )
        for each in advice.options
    ]
    print_table(("way out", "keeps the limits", "how known", "a month", "what"), rows)
    if advice.cheapest:
        example = " (prices of an example)" if advice.example else ""
        typer.echo(printable(f"cheapest that keeps every limit: {advice.cheapest}{example}"))
    if advice.then is not None:
        typer.echo(printable(f"above {advice.then.rate_per_s:,.0f} requests/s: {advice.then.option}"))
