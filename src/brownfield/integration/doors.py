"""``doors``: how callers reach an integration; each key is the name of an installed door."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from msgspec import Meta, field

from brownfield.integration.reader import BAD, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath, describe

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["DoorsSpec", "HttpDoor", "PriorityName"]

PriorityName: TypeAlias = Literal["interactive", "batch", "shadow"]
"""What a request is for: under load shadow is shed first, then batch."""


class HttpDoor(Spec, frozen=True, kw_only=True):
    """Named-fields JSON and the Open Inference Protocol V2, on the workspace's HTTP listener."""

    priority: Annotated[PriorityName, Meta(description="Highest priority of requests at this door.")] = "interactive"


class DoorsSpec(Spec, frozen=True, kw_only=True):
    """The doors of one integration, each with the options of its kind; HTTP alone by default."""

    options: Annotated[Mapping[str, Any], Meta(description="Options of each door, by its name.")] = field(
        default_factory=lambda: {"http": HttpDoor()}
    )

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read each key as the name of an installed door."""
        if not isinstance(value, dict):
            return reader.note(path, "a mapping with a key for each door", describe(value))
        options = {}
        for name, keys in value.items():
            options_class = reader.installed("doors", name, (*path, name))
            options[name] = BAD if options_class is BAD else options_class.from_declared(reader, keys, (*path, name))
        if any(option is BAD for option in options.values()):
            return BAD
        return cls(options=options)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:
        """Return one key for each installed door."""
        doors = {name: {"$ref": f"#/$defs/{options.__name__}"} for name, options in sorted(registry.doors.items())}
        return {**schemas[cls.__name__], "properties": doors}
