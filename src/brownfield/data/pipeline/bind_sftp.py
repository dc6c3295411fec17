"""From a declared SFTP connection to a folder: address, account, the server's keys, budget."""

from pathlib import Path

from brownfield.data.folders import SftpAddress, SftpFolder
from brownfield.data.pipeline.servers import reach, value_of
from brownfield.data.sources import Budget, Quiet
from brownfield.integration import Reference, SftpConnection
from brownfield.security import resolve_secret

__all__ = ["bind_sftp"]


def bind_sftp(options: SftpConnection, workspace: Path) -> SftpFolder:
    """Make a folder of a declared connection.

    Parameters
    ----------
    options
        Of the connection.
    workspace
        Its folder: references are found from it; ``var/budgets`` keeps what was used of the budget, ``var/spool``
        what is being fetched.

    Raises
    ------
    DeclarationError
        When a reference cannot be read, or the host is one that is refused.
    SourceUnavailable
        When the host's name stands for nothing.
    """
    address = _address(options, workspace)
    declared = options.budget
    quiet = declared.quiet_hours
    budget = Budget(
        workspace / "var" / "budgets",
        f"{address.host}-{address.port}",
        declared.max_connections,
        declared.bytes_per_s,
        None if quiet is None else Quiet.parse(quiet.zone, quiet.windows),
    )
    folder = value_of(options.folder, workspace)
    return SftpFolder(
        f"sftp ({options.host})", lambda: _address(options, workspace), folder, budget, workspace / "var" / "spool"
    )


def _address(options: SftpConnection, workspace: Path) -> SftpAddress:
    host, port, addresses = reach(options.host, options.port, workspace)
    return SftpAddress(
        host=host,
        port=port,
        addresses=addresses,
        user=value_of(options.user, workspace),
        host_keys=value_of(options.host_keys, workspace),
        password=_secret(options.password, workspace),
        private_key=_secret(options.private_key, workspace),
        passphrase=_secret(options.passphrase, workspace),
        timeout_s=options.timeout_s,
    )


def _secret(reference: Reference | None, workspace: Path) -> str:
    return "" if reference is None else resolve_secret(reference, workspace).reveal()
