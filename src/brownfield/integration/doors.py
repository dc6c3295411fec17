"""``doors``: how callers reach an integration; each key is the name of an installed door."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, field

from brownfield.integration.reader import BAD, Path, Reader, Spec, describe

__all__ = ["DoorsSpec", "HttpDoor"]


class HttpDoor(Spec, frozen=True, kw_only=True):
    """Named-fields JSON and the Open Inference Protocol V2, on the workspace's HTTP listener."""


class DoorsSpec(Spec, frozen=True, kw_only=True):
    """The doors of one integration, each with the options of its kind; HTTP alone by default."""

    options: Annotated[Mapping[str, Any], Meta(description="Options of each door, by its name.")] = field(
        default_factory=lambda: {"http": HttpDoor()}
    )

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: Path) -> "DoorsSpec":
        """Read each key as the name of an installed door."""
        if not isinstance(value, dict):
            return reader.note(path, "a mapping with a key for each door", describe(value))  # type: ignore[no-any-return]
        options = {}
        for name, keys in value.items():
            options_class = reader.installed("doors", name, (*path, name))
            options[name] = BAD if options_class is BAD else options_class.from_declared(reader, keys, (*path, name))
        if any(option is BAD for option in options.values()):
            return BAD  # type: ignore[no-any-return]
        return cls(options=options)
