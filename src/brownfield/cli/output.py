"""How the command line speaks: results on standard output, progress and errors on standard error, exit codes."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

import msgspec
import typer

from brownfield.errors import BrownfieldError, DeclarationError, NotFound, Unavailable

__all__ = [
    "EXIT_DECLARATION",
    "EXIT_FINDING",
    "EXIT_UNREACHABLE",
    "exit_code",
    "print_json",
    "print_table",
    "progress",
    "show_error",
]

EXIT_FINDING = 1
EXIT_DECLARATION = 2
EXIT_UNREACHABLE = 3

Progress = Callable[[str, int, int | None], None]
"""``progress(what, done, total)``; ``total`` is None while it is unknown."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


_INDENT = "    "
_NUMBER = re.compile(r"[0-9,.]*")


def exit_code(error: BrownfieldError) -> int:
    """Map an error of ours to the exit code of the process.

    Examples
    --------
    >>> exit_code(DeclarationError("unknown key"))
    2
    """
    if isinstance(error, DeclarationError | NotFound):
        return EXIT_DECLARATION
    return EXIT_UNREACHABLE if isinstance(error, Unavailable) else EXIT_FINDING


def show_error(error: BrownfieldError, *, as_json: bool) -> None:
    """Print an error on standard error, as text or as one JSON object; control characters never reach the terminal."""
    if as_json:
        parts = {name: value for name, value in vars(error).items() if isinstance(value, str | int | list | dict)}
        texts = {name: _encodable(value) for name, value in parts.items() if isinstance(value, str)}
        body = {"error": {"code": error.code, "message": _encodable(str(error)), **parts, **texts}}
        typer.echo(msgspec.json.encode(body).decode(), err=True)
    else:
        typer.echo(f"brownfield: {printable(str(error))}", err=True)


def _encodable(text: str) -> str:
    """Write out what is no text: bytes of a file's name, or of an argument, that are in another encoding."""
    return text.encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """Replace control and direction characters, so that foreign text cannot drive the terminal (S-20)."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def print_json(value: Any) -> None:
    """Print a result as indented JSON on standard output; a path is its text."""
    encoded = msgspec.json.encode(value, order="sorted", enc_hook=_path_as_text)
    typer.echo(msgspec.json.format(encoded, indent=2).decode())


def _path_as_text(value: Any) -> str:
    if isinstance(value, PurePath):
        return _encodable(str(value))
    raise NotImplementedError(f"{type(value).__name__} is no result")


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns below their heads, numbers to the right; nothing is cut, whatever the width of the terminal.

    In a terminal that is too narrow the last column follows below each row, indented.

    Examples
    --------
    >>> print_table(("rule", "records"), [("price.range", "12"), ("decode", "1,204")])
    rule         records
    price.range       12
    decode         1,204
    """
    columns = list(zip(heads, *rows, strict=True))
    wide = sum(max(map(len, column)) + 2 for column in columns) - 2
    room = get_terminal_size().columns if sys.stdout.isatty() else wide
    if wide > room:
        _print_narrow(columns, rows, room)
        return
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    for row in (heads, *rows):
        cells = zip(row, widths, to_right, strict=True)
        line = "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        typer.echo(printable(line.rstrip()))


def _print_narrow(columns: Sequence[Sequence[str]], rows: Sequence[Sequence[str]], room: int) -> None:
    widths = [max(map(len, column)) for column in columns[:-1]]
    to_right = [all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns[:-1]]
    for row in ([column[0] for column in columns], *rows):
        cells = zip(row[:-1], widths, to_right, strict=True)
        line = " ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells)
        typer.echo(printable(line.rstrip()))
        for part in wrap(row[-1], room, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False):
            typer.echo(printable(part))


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield a callback that moves one bar per kind of work on standard error; a silent one when ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield _plain(quiet=quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<34}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in bars.tasks:
                    if task.total is None:  # of unknown length: it ended when the next one began
                        bars.update(task.id, completed=1, total=1)
                tasks[what] = bars.add_task(printable(what), total=total, count="")
            bars.update(tasks[what], completed=done, total=total, count=_count(done, total))

        yield show


def _count(done: int, total: int | None) -> str:
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,}/{total:,}"


def _plain(*, quiet: bool) -> Progress:
    """Without a terminal each kind of work is one line, when it begins."""
    seen: set[str] = set()

    def show(what: str, done: int, total: int | None) -> None:  # noqa: ARG001 (the shape of a progress callback)
        if not quiet and what not in seen:
            seen.add(what)
            typer.echo(what, err=True)

    return show
