"""Settings that live outside the declaration: a secret or an address, named by environment variable or file."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from brownfield.errors import DeclarationError
from brownfield.integration.reader import Contradiction, Reader, Schemas, Spec
from brownfield.integration.words import KeyPath, describe

if TYPE_CHECKING:
    from brownfield.integration.registry import Registry

__all__ = ["MAX_REFERENCE_BYTES", "Reference", "read_reference"]

MAX_REFERENCE_BYTES = 64 * 1024
"""Longest file that a reference may name."""


class Reference(Spec, frozen=True, kw_only=True):
    """Where a value stands that is not written in the declaration."""

    env: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$",
                description="Name of the environment variable that holds the value.",
                extra={"words": "the name of an environment variable"},
            ),
        ]
        | None
    ) = None
    file: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=1024,
                description="File that holds the value, absolute or relative to the workspace; one line end is cut.",
            ),
        ]
        | None
    ) = None

    @classmethod
    def from_declared(cls, reader: Reader, value: Any, path: KeyPath) -> Any:
        """Read the reference; a text in its place may be the secret itself and is not repeated."""
        if not isinstance(value, dict):
            found = "a text" if isinstance(value, str) else describe(value)
            return reader.note(path, "a reference: {env: NAME} or {file: PATH}", found, "Write no secret here.")
        return reader.struct(cls, value, path)

    @classmethod
    def published(cls, schemas: Schemas, registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (the same for all)
        """Return the fields, of which exactly one is given."""
        return {**schemas[cls.__name__], "minProperties": 1, "maxProperties": 1}

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse both and neither."""
        if (self.env is None) == (self.file is None):
            yield Contradiction((), "either env or file", "both" if self.env else "neither")

    def __str__(self) -> str:
        return f"environment variable {self.env}" if self.env else f"file {self.file}"


def read_reference(reference: Reference, folder: Path) -> str:
    """Read the value that a reference names.

    Parameters
    ----------
    reference
        The declared name.
    folder
        The workspace's folder, from which relative files are found.

    Returns
    -------
    str
        The value, never empty, without the line end that editors leave.

    Raises
    ------
    DeclarationError
        When it is not set, empty, too long or unreadable. The value never stands in the message.

    Examples
    --------
    >>> os.environ["EXAMPLE_PATH"] = "/srv/pos.db"
    >>> read_reference(Reference(env="EXAMPLE_PATH"), Path())
    '/srv/pos.db'
    """
    value = os.environ.get(reference.env, "") if reference.env else _read_file(reference, folder)
    if not value:
        raise DeclarationError(
            where=str(reference), expected="a value", got="nothing", next_step="Set it before Brownfield is started."
        )
    return value


def _read_file(reference: Reference, folder: Path) -> str:
    path = folder / str(reference.file)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_REFERENCE_BYTES + 1)
        if len(content) > MAX_REFERENCE_BYTES:
            raise DeclarationError(where=str(reference), expected=f"at most {MAX_REFERENCE_BYTES} bytes", got="more")
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DeclarationError(f"cannot be read: {problem}", where=str(reference)) from error
