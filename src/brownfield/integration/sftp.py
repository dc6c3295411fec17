"""The options of connections to SFTP servers: address, account and host key by reference, and a budget."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from brownfield.integration.databases import QuietHours
from brownfield.integration.delivery import SinkFlags, SourceFlags
from brownfield.integration.kinds import FieldName
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = ["FileBudgetSpec", "SftpConnection"]


class FileBudgetSpec(Spec, frozen=True, kw_only=True):
    """What one file server can bear from us; kept in every second, across processes and restarts."""

    max_connections: Annotated[int, Meta(ge=1, le=100, description="Connections to the file server at one time.")] = 2
    bytes_per_s: Annotated[
        int, Meta(ge=65_536, le=10_000_000_000, description="Bytes of files in any one second, in and out together.")
    ] = 20_000_000
    quiet_hours: Annotated[QuietHours, Meta(description="When the file server is left alone.")] | None = None


class SftpConnection(Spec, frozen=True, kw_only=True):
    """A folder behind an SSH server."""

    holds: ClassVar[Literal["table", "path"]] = "path"
    gives: ClassVar[SourceFlags] = SourceFlags()
    takes: ClassVar[SinkFlags] = SinkFlags(atomic_publish=True)

    host: Annotated[Reference, Meta(description="Name or address of the file server: by reference.")]
    port: Annotated[Annotated[int, Meta(ge=1, le=65_535)] | Reference, Meta(description="Port of the file server.")] = (
        22
    )
    user: Annotated[FieldName | Reference, Meta(description="Name of the account.")]
    password: Annotated[Reference, Meta(description="Where the account's password stands.")] | None = None
    private_key: Annotated[Reference, Meta(description="Where the account's private key stands.")] | None = None
    passphrase: Annotated[Reference, Meta(description="Where the passphrase of the private key stands.")] | None = None
    host_keys: Annotated[
        Reference,
        Meta(description="Where the server's keys stand: lines of known_hosts, or fingerprints as SHA256:..."),
    ]
    folder: Annotated[FieldName | Reference, Meta(description="The folder on the server.")] = "."
    timeout_s: Annotated[float, Meta(gt=0, le=3_600, description="Longest wait for any answer of the server.")] = 30.0
    budget: Annotated[FileBudgetSpec, Meta(description="What the file server can bear.")] = FileBudgetSpec()

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse what is not one of a password and a key."""
        if (self.password is None) == (self.private_key is None):
            yield Contradiction((), "either password or private_key", "neither" if self.password is None else "both")
        if self.passphrase is not None and self.private_key is None:
            yield Contradiction(("passphrase",), "passphrase beside private_key only", "no private_key")
