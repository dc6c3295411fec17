"""``connections``: logical names for the places where the legacy system keeps its data.

A plug-in for a further kind brings an options class like the two here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from brownfield.errors import DeclarationError
from brownfield.integration.delivery import SinkFlags, SourceFlags
from brownfield.integration.kinds import RelativePath
from brownfield.integration.reader import BAD, Reader, Schemas, Spec
from brownfield.integration.references import Reference, read_reference
from brownfield.integration.words import KeyPath, describe

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["ConnectionSpec", "FolderConnection", "SqliteConnection"]


class SqliteConnection(Spec, frozen=True, kw_only=True):
    """A SQLite database file, opened read-only."""

    holds: ClassVar[Literal["table", "path"]] = "table"
    gives: ClassVar[SourceFlags] = SourceFlags()
    takes: ClassVar[SinkFlags] = SinkFlags(transactional=True)

    path: Annotated[
        RelativePath | Reference,
        Meta(description="The database file, below the workspace, or by reference where it lies elsewhere."),
    ]


class FolderConnection(Spec, frozen=True, kw_only=True):
    """A folder in which a legacy system leaves files."""

    holds: ClassVar[Literal["table", "path"]] = "path"
    gives: ClassVar[SourceFlags] = SourceFlags()
    takes: ClassVar[SinkFlags] = SinkFlags(atomic_publish=True)

    path: Annotated[
        RelativePath | Reference,
        Meta(description="The folder, below the workspace, or by reference where it lies elsewhere."),
    ]


class ConnectionSpec(Spec, frozen=True, kw_only=True):
    """One named place: its kind, and the options of that kind."""

    kind: Annotated[str, Meta(description="What kind of place it is; the installed plug-ins decide which there are.")]
    options: Annotated[Any, Meta(description="The options of the kind.")]

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read ``kind`` first, then the other keys as that kind's options."""
        if not isinstance(value, dict):
            return reader.note(path, "a mapping with the key kind", describe(value))
        options_class = reader.installed("connections", value.get("kind"), (*path, "kind"))
        if options_class is BAD:
            return BAD
        options = options_class.from_declared(reader, {k: v for k, v in value.items() if k != "kind"}, path)
        return BAD if options is BAD else cls(kind=value["kind"], options=options)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:
        """Return one branch for each installed kind."""
        branches = []
        for name, options in sorted(registry.connections.items()):
            schema = schemas[options.__name__]
            properties = {"kind": {"const": name}, **schema["properties"]}
            branches.append({**schema, "properties": properties, "required": ["kind", *schema["required"]]})
        return {"oneOf": branches}

    def location(self, workspace_folder: Path) -> Path:
        """Return the file or folder of a connection that has a ``path``.

        Raises
        ------
        DeclarationError
            When the connection has no path, or its reference cannot be read.
        """
        path = getattr(self.options, "path", None)
        if isinstance(path, Reference):
            path = read_reference(path, workspace_folder)
        if path is None:
            raise DeclarationError(f"a connection of the kind {self.kind} has no path")
        return workspace_folder / path
