"""``brownfield score``."""

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from brownfield.cli.output import EXIT_FINDING, print_json, printable, progress

if TYPE_CHECKING:
    from brownfield.data.pipeline import Guard

__all__ = ["register"]


class _Guard(StrEnum):
    KEYS = "keys"
    NULLS = "nulls"
    PARKED = "parked"
    REFUSED = "refused"
    SHAPE = "shape"
    VOLUME = "volume"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("score", epilog="Example: brownfield score shop --pull")(_score)


def _score(  # noqa: PLR0913, PLR0917 (an option each)
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    pull: bool = typer.Option(False, "--pull", help="Bring what is new in the silos into the tables, and end there."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="With --pull: say what would be written back, and write nothing at all."
    ),
    approve: str | None = typer.Option(
        None, "--approve", metavar="NAME=DIGEST", help="Let a write-back be written as the dry run showed it."
    ),
    discard: str | None = typer.Option(
        None, "--discard", metavar="NAME", help="Give up the rows that wait for a write-back."
    ),
    integration: str | None = typer.Option(
        None, "--integration", metavar="NAME", help="The integration, where there is more than one."
    ),
    rebuild: bool = typer.Option(False, "--rebuild", help="Read every feed from its beginning, make the tables anew."),
    accept: list[_Guard] = typer.Option(
        [],
        "--accept",
        metavar="GUARD",
        help="Let a guard pass once: keys, nulls, parked, refused, shape or volume.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Bring the records of the silos into the unified tables, each checked, joined and counted, and back out again."""
    if sum((pull, approve is not None, discard is not None)) != 1:
        raise typer.BadParameter("one of --pull, --approve and --discard is needed: tables are not scored yet")
    if dry_run and (not pull or rebuild or accept):
        raise typer.BadParameter("--dry-run goes with --pull alone")
    if approve is not None:
        _approve(folder, approve, integration)
    elif discard is not None:
        _discard(folder, discard, integration)
    elif dry_run:
        _preview(folder, integration, as_json=as_json)
    else:
        _pull(folder, integration, rebuild=rebuild, accept=[each.value for each in accept], as_json=as_json)


def _approve(folder: Path, named: str, integration: str | None) -> None:
    from brownfield.workspace.write_back import approve

    sink, _, digest = named.partition("=")
    approve(folder, sink, digest, integration=integration)
    typer.echo(f"{sink}: approved; the next run writes what waits")


def _discard(folder: Path, sink: str, integration: str | None) -> None:
    from brownfield.workspace.write_back import discard

    typer.echo(f"{sink}: {discard(folder, sink, integration=integration):,} rows given up")


def _preview(folder: Path, integration: str | None, *, as_json: bool) -> None:
    from brownfield.workspace.write_back import preview

    with progress(quiet=as_json) as show:
        previews = preview(folder, integration=integration, progress=show)
    if as_json:
        print_json([each.to_dict() for each in previews])
        return
    for each in previews:
        typer.echo(
            f"{each.sink}: {each.pending_rows:,} rows wait and {each.new_rows:,} are new, for {each.place} "
            f"({', '.join(each.columns)}{'; ' + each.mode + ' by ' + ', '.join(each.key) if each.key else ''})"
        )
        for row in each.rows:
            typer.echo(printable(f"    {row}"))
        if each.problem:
            typer.echo(printable(f"    it cannot be written now: {each.problem}"))
        if each.approved:
            typer.echo("    approved as it is declared now")
        else:
            typer.echo(f"    approve it: brownfield score {folder} --approve {each.sink}={each.digest[:12]}")
        if each.ddl:
            typer.echo("    for the owner of the database to run once:")
            typer.echo(printable("".join(f"        {line}\n" for line in each.ddl.splitlines())), nl=False)


def _pull(folder: Path, integration: str | None, *, rebuild: bool, accept: "list[Guard]", as_json: bool) -> None:
    from brownfield.host import give_way
    from brownfield.workspace.pull import pull

    give_way()
    with progress(quiet=as_json) as show:
        report = pull(folder, integration=integration, rebuild=rebuild, accept=accept, progress=show)
    if as_json:
        print_json(report.to_dict())
        sys.exit(EXIT_FINDING if report.waiting else 0)
    if not report.sources:
        typer.echo(f"{report.integration}: no source is declared, so there is nothing to bring in")
    for name, part in {**report.sources, **report.tables}.items():
        typer.echo(f"{name}: {part.rows_in:,} in, {part.accepted:,} accepted, {part.quarantined:,} in quarantine")
        for rule, rows in part.by_rule.items():
            asked = f" (expected {part.expected[rule]})" if rule in part.expected else ""
            typer.echo(printable(f"    {rule}: {rows:,}{asked}"))
        for line in _of_files(part.files or {}):
            typer.echo(printable(f"    {line}"))
        if part.state not in {"", "PRIMARY"}:
            typer.echo(f"    read from {part.state}{f', as of {part.as_of}' if part.as_of else ''}")
        if part.unavailable:
            typer.echo(printable(f"    not read: {part.unavailable}"))
    for name, sink in report.write_back.items():
        typer.echo(f"{name}: {sink.rows:,} written back, {sink.pending_rows:,} wait")
        if sink.waiting:
            typer.echo(printable(f"    not written: {sink.waiting}"))
    sys.exit(EXIT_FINDING if report.waiting else 0)


def _of_files(files: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of the files of a feed, where it is more than that they were taken."""
    for path in files.get("repeated", ()):
        yield f"{path}: its content was taken before"
    for path, why in files.get("refused", {}).items():
        yield f"{path}: refused as a whole, {why['code']} ({why['reason']})"
    if files.get("waiting"):
        yield f"{files['waiting']:,} files wait"
    if files.get("interrupted"):
        yield f"broken off before the last file: {files['interrupted']}"
