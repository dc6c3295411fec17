"""The command line: a file per verb, each calls one function.

Results go to standard output (``--json`` everywhere), progress to standard error. Exit codes: 0 fine, 1 a finding,
2 a wrong declaration or usage, 3 a system out of reach.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from brownfield import __version__
from brownfield.cli import audit, bundle, check, demo, doctor, fit, init, replay, score, serve
from brownfield.cli.help import Verb, Verbs
from brownfield.cli.output import exit_code, show_error
from brownfield.errors import BrownfieldError, Unavailable

__all__ = ["app", "main"]

app = typer.Typer(
    name="brownfield",
    cls=Verbs,
    help="Carry a deep-learning model into a legacy system, and prove that it is safe to leave it there.",
    epilog="Example: brownfield init shop --model model.onnx && brownfield serve shop",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (init, check, fit, bundle, serve, score, replay, audit, doctor, demo):
    verb.register(app)
for registered in app.registered_commands:
    registered.cls = Verb


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before any verb."""


def main() -> None:
    """Run the command line; every error that is ours ends as one message and an exit code, never as a traceback."""
    _fill_standard_streams()
    _end_in_order()
    try:
        app()
    except BrownfieldError as error:
        _end(error)
    except OSError as error:  # no room, no permission, no such folder: of the system, not of ours
        _end(
            Unavailable(
                "the system refused",
                where=str(error.filename) if error.filename is not None else None,
                got=error.strerror or type(error).__name__,
                next_step="Nothing that was there was changed; mend the cause and call again.",
            )
        )


def _fill_standard_streams() -> None:
    """Let what the caller has closed of standard input, output and error lead nowhere.

    Else the next file or socket took its number, and who writes there, or takes it for a terminal's, meets that one.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(descriptor, True)  # of those three every process that is started has them
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", encoding="utf-8"))


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end a verb as Ctrl-C does: what it holds for a while, folders and processes, is given up.

    What is ignored stays so (``nohup``); a second signal ends it at once.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _end(error: BrownfieldError) -> NoReturn:
    show_error(error, as_json="--json" in sys.argv)
    sys.exit(exit_code(error))
