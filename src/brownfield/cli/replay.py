"""``brownfield replay``."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from brownfield.cli.output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from brownfield.data.pipeline import ReplayReport
    from brownfield.workspace.replay import QuarantineSummary

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("replay", epilog="Example: brownfield replay shop --source sales --code BF-RUL-008 --apply")(_replay)


def _replay(  # noqa: PLR0913, PLR0917 (the options of the verb)
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    source: str | None = typer.Option(
        None, "--source", metavar="NAME", help="The source or unified table whose refused records are tried."
    ),
    listing: bool = typer.Option(
        False, "--list", help="Say what is in quarantine, and why; the default without --source."
    ),
    integration: str | None = typer.Option(
        None, "--integration", metavar="NAME", help="The integration, where there is more than one."
    ),
    code: str | None = typer.Option(None, "--code", help="Only records with this code among their reasons."),
    rule: str | None = typer.Option(None, "--rule", help="Only records with this rule among their reasons."),
    contract: str | None = typer.Option(
        None, "--contract", metavar="ID@VERSION", help="Only records that were refused under this contract."
    ),
    key: list[str] = typer.Option(
        [], "--key", metavar="VALUE", help="Only records of this key of a feed with park; once for each of its fields."
    ),
    min_age_h: float = typer.Option(0.0, "--min-age-h", min=0, help="Only records refused at least so many hours ago."),
    max_age_h: float | None = typer.Option(
        None, "--max-age-h", min=0, help="Only records refused at most so many hours ago."
    ),
    discard: bool = typer.Option(False, "--discard", help="Close them instead of trying them."),
    apply: bool = typer.Option(False, "--apply", help="Do it; without this option nothing is changed."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """List refused records, or try them again under the contract of today; changes nothing unless told to apply it."""
    from brownfield.workspace.replay import replay, summarise

    if listing or source is None:
        if apply or discard:
            raise typer.BadParameter("--source is needed beside --apply and --discard")
        summary = summarise(folder, integration=integration, source=source)
        print_json(summary.to_dict()) if as_json else _print_summary(summary)
        return
    report = replay(
        folder,
        source,
        integration=integration,
        code=code,
        rule=rule,
        contract=contract,
        key=tuple(key),
        min_age_h=min_age_h,
        max_age_h=max_age_h,
        discard=discard,
        apply=apply,
    )
    if as_json:
        print_json(report.to_dict())
        return
    if discard:
        typer.echo(f"{source}: {report.discarded:,} {'discarded' if apply else 'would be discarded'}")
    else:
        _print_report(report)
    if not apply:
        typer.echo("nothing was changed; --apply does it", err=True)


def _print_report(report: "ReplayReport") -> None:
    verb = "accepted" if report.applied else "would be accepted"
    typer.echo(
        f"{report.source}: {report.selected:,} tried, {report.accepted:,} {verb}, {report.still_bad:,} still bad, "
        f"{report.unreadable:,} not readable, {report.already_applied:,} already applied"
    )
    rules = sorted({*report.by_rule_before, *report.by_rule})
    if rules:
        before, after = report.by_rule_before, report.by_rule
        rows = [(rule, _count(before, rule), _count(after, rule), report.expected.get(rule, "")) for rule in rules]
        print_table(("rule", "were refused", "are refused", "expected"), rows)


def _count(counts: "Mapping[str, int]", rule: str) -> str:
    return f"{counts.get(rule, 0):,}"


def _print_summary(summary: "QuarantineSummary") -> None:
    if not summary.sources:
        typer.echo("nothing is in quarantine")
        return
    states = ("open", "waiting", "replayed", "fixed", "discarded", "expired")
    print_table(
        ("source", *states, "oldest open, UTC"),
        [
            (each.source, *(f"{getattr(each, state):,}" for state in states), _minute(each.oldest_open_utc))
            for each in summary.sources
        ],
    )
    if summary.reasons:
        typer.echo()
        rows = [(each.source, each.code, each.rule, f"{each.records:,}", each.expected) for each in summary.reasons]
        print_table(("source", "code", "rule", "open records", "expected"), rows)
        typer.echo("a record with several reasons counts under each; --source NAME tries records again", err=True)


def _minute(at: "datetime | None") -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
