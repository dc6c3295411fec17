"""``brownfield serve``."""

import signal
import sys
from pathlib import Path

import typer

__all__ = ["register", "serve"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve", epilog="Example: brownfield serve shop --port 8080")(serve)


def serve(
    folder: Path = typer.Argument(Path(), metavar="DIR", help="The workspace."),
    host: str | None = typer.Option(None, "--host", help="Address to listen on instead of the declared one."),
    port: int | None = typer.Option(
        None, "--port", min=0, max=65535, help="Port to listen on instead of the declared one."
    ),
) -> None:
    """Serve every integration of a workspace until SIGTERM; SIGHUP reloads the declaration whole or not at all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})  # until they are heard

    from brownfield.integration import load_workspace
    from brownfield.logs import configure_logs
    from brownfield.serving import Supervisor
    from brownfield.workspace.doctor import complete_restore

    def ready(url: str) -> None:
        if sys.stderr.isatty():
            typer.echo(f"Serving {folder} on {url} (for people: {url}/docs). Ctrl-C ends it.", err=True)

    configure_logs(waits=False)
    complete_restore(folder)
    sys.exit(Supervisor(load_workspace(folder), host=host, port=port, on_ready=ready).run())
