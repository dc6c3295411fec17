"""``brownfield.yaml`` as a frozen spec, and the whole workspace with its integrations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, field

from brownfield.integration.access import AccessSpec
from brownfield.integration.connections import ConnectionSpec
from brownfield.integration.integration import IntegrationSpec
from brownfield.integration.kinds import Identifier, Slug
from brownfield.integration.reader import Spec
from brownfield.integration.security import QuarantineSpec, SecuritySpec
from brownfield.integration.serving import ServingSpec
from brownfield.integration.strict_yaml import Document

__all__ = ["Changes", "WorkspaceDeclaration", "WorkspaceSpec"]


class WorkspaceDeclaration(Spec, frozen=True, kw_only=True):
    """The keys of ``brownfield.yaml``."""

    workspace: Annotated[Slug, Meta(description="Name of the workspace.")]
    connections: Annotated[
        Mapping[Identifier, ConnectionSpec],
        Meta(max_length=1_000, description="Logical names for the places where the legacy system keeps its data."),
    ] = field(default_factory=dict)
    serving: Annotated[ServingSpec, Meta(description="The workspace's own listener.")] = ServingSpec()
    access: Annotated[AccessSpec, Meta(description="Who may do what.")] = AccessSpec()
    security: Annotated[SecuritySpec, Meta(description="Encryption at rest.")] = SecuritySpec()
    quarantine: Annotated[QuarantineSpec, Meta(description="How refused records are kept.")] = QuarantineSpec()


class Changes(NamedTuple):
    """What differs between two loads of a workspace.

    Parameters
    ----------
    added, removed, changed
        Names of integrations, sorted.
    workspace
        Whether ``brownfield.yaml`` itself differs (listener, access, connections).
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    workspace: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSpec:
    """One workspace as it was read, whole and checked.

    Parameters
    ----------
    folder
        Where ``brownfield.yaml`` lies.
    digest
        SHA-256, in hexadecimal, of ``brownfield.yaml`` as it was read.
    """

    name: str
    folder: Path
    connections: Mapping[str, ConnectionSpec]
    serving: ServingSpec
    access: AccessSpec
    security: SecuritySpec
    quarantine: QuarantineSpec
    integrations: Mapping[str, IntegrationSpec]
    document: Document
    digest: str

    def changes_since(self, earlier: "WorkspaceSpec") -> Changes:
        """Compare with an earlier load, by the digests of what was read."""
        mine, theirs = self.integrations, earlier.integrations
        return Changes(
            added=tuple(sorted(mine.keys() - theirs.keys())),
            removed=tuple(sorted(theirs.keys() - mine.keys())),
            changed=tuple(sorted(n for n in mine.keys() & theirs.keys() if mine[n].digest != theirs[n].digest)),
            workspace=self.digest != earlier.digest,
        )
