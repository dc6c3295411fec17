"""One thing to know about a workspace, and what makes findings about the keys of a document."""

from typing import Literal, TypeAlias

import msgspec

from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.integration import Document, KeyPath, dotted

__all__ = ["At", "Finding", "Level", "from_error"]

Level: TypeAlias = Literal["error", "warning", "notice"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know about a workspace.

    Parameters
    ----------
    level
        ``error``, ``warning`` or ``notice``.
    where
        ``file:line``.
    path
        Of the key, such as ``fallback.chain[0].table``; empty for a file as a whole.
    message
        What is the case.
    next_step
        What to do about it; may be empty.
    """

    level: Level
    where: str
    path: str
    message: str
    next_step: str

    def __str__(self) -> str:
        parts = ": ".join(part for part in (self.where, self.level, self.path, self.message) if part)
        return f"{parts.rstrip('.')}. {self.next_step}".rstrip() if self.next_step else parts


def from_error(error: BrownfieldError, level: Level = "error") -> Finding:
    """Turn an error into a finding, keeping its parts."""
    return Finding(
        level=level,
        where=error.where or "",
        path=error.path or "",
        message=str(DeclarationError(error.what, expected=error.expected, got=error.got)),
        next_step=error.next_step or "",
    )


class At:
    """Makes findings about the keys of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def __call__(self, level: Level, path: KeyPath, message: str, next_step: str = "") -> Finding:
        """Make a finding about a key."""
        return Finding(
            level=level, where=self._document.where(path), path=dotted(path), message=message, next_step=next_step
        )

    def error(self, level: Level, path: KeyPath, error: BrownfieldError) -> Finding:
        """Report an error about what a key names; an error that knows its own place keeps it."""
        found = from_error(error, level)
        if error.where is not None:
            return msgspec.structs.replace(found, path=error.path or dotted(path))
        inner = path if error.path is None else (*path, error.path)
        return msgspec.structs.replace(found, where=self._document.where(inner), path=dotted(inner))
