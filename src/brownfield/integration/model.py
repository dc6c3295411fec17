"""``model``: which bundle answers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from brownfield.integration.kinds import FieldName, RelativePath
from brownfield.integration.reader import Contradiction, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["CacheSpec", "ModelSpec"]


class CacheSpec(Spec, frozen=True, kw_only=True):
    """How long an answer may be given again."""

    ttl_s: Annotated[float, Meta(gt=0, le=2_592_000, description="Seconds for which an answer may be given again.")]
    key_fields: Annotated[
        tuple[FieldName, ...], Meta(description="Request fields that make the key; all of them by default.")
    ] = ()


class ModelSpec(Spec, frozen=True, kw_only=True):
    """A bundle by its folder, or by its name in the registry; a plain text is the folder."""

    path: Annotated[RelativePath, Meta(description="Folder of the bundle, below the integration.")] | None = None
    uri: (
        Annotated[
            str,
            Meta(
                pattern=r"^models:/[a-z0-9][a-z0-9-]{0,62}(?:/[0-9]{1,9}|@[a-z][a-z0-9_-]{0,62})$",
                description="Version or alias in the registry: models:/name/3 or models:/name@champion.",
                extra={"words": "models:/name/version or models:/name@alias"},
            ),
        ]
        | None
    ) = None
    cache: Annotated[CacheSpec, Meta(description="How long an answer may be given again.")] | None = None
    keep_loaded: Annotated[
        bool, Meta(description="Loaded at the start and never evicted; otherwise on demand, while there is memory.")
    ] = True

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read a mapping, or the folder alone."""
        if isinstance(value, str):
            value = {"uri" if value.startswith("models:/") else "path": value}
        return reader.struct(cls, value, path)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (the same for all)
        """Return the short form and the long one."""
        return {
            "anyOf": [
                {"type": "string", "description": "Folder of the bundle, or models:/name@alias."},
                schemas[cls.__name__],
            ]
        }

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse both and neither of path and uri."""
        if (self.path is None) == (self.uri is None):
            yield Contradiction((), "either path or uri", "neither" if self.path is None else "both")
