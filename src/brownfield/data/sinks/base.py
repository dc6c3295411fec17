"""What a sink is: a place in the legacy system in which an effect is made, once, however often it is asked for.

``apply`` makes the effect of one batch under an identifier, ``find`` tells how far it came. Both are safe to repeat:
a worker that was killed anywhere asks for the same effect again, and it is there once.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import rfc8785

from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Applied", "Batch", "Found", "Position", "Sink", "check_effect_id", "effect_id"]

Batch: TypeAlias = "pa.RecordBatch | pa.Table"

Position: TypeAlias = Mapping[str, Any]
"""How far the source was read when the batch was made: JSON-able."""

_EFFECT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")


class Found(StrEnum):
    """How far an effect came."""

    ABSENT = "absent"
    STAGED = "staged"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Applied:
    """What asking for an effect did.

    Parameters
    ----------
    rows
        Records of the effect.
    repeated
        True when the effect was there already, so that nothing was written.
    """

    rows: int
    repeated: bool


class Sink(Protocol):
    """One place that is written, with one owner at a time."""

    def take_over(self) -> int:
        """Become the owner: whoever was it before is refused from now on. Gives the new epoch, from 1.

        Raises
        ------
        SinkUnavailable
            When the sink cannot be reached.
        DeclarationError
            When it lacks what the declaration names.
        """
        ...

    def apply(self, effect_id: str, batch: Batch, position: Position | None = None) -> Applied:
        """Make the effect, unless it is there; the position is kept with it, in the same step.

        Raises
        ------
        SinkUnavailable
            When the sink cannot be reached or written. The effect is there whole or not at all: ask again with the
            same identifier.
        SinkRefused, InputRefused
            When it does not admit the records.
        Fenced
            When another owner has taken over.
        """
        ...

    def find(self, effect_id: str) -> Found:
        """Tell how far an effect came.

        Raises
        ------
        SinkUnavailable
            When the sink cannot be reached.
        """
        ...

    def position(self) -> Position | None:
        """Tell how far the source was read with the last effect; None before the first."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def effect_id(
    *, integration: str, source: str, begin: Position | None, end: Position, contract: str, model: str = ""
) -> str:
    """Name the effect of one stretch of a source: the same on each attempt, another for another model or contract.

    Parameters
    ----------
    integration, source
        Their names.
    begin, end
        Position before and behind the stretch.
    contract, model
        Their versions.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> first = effect_id(integration="claims", source="till", begin=None, end={"after": [7]}, contract="claims@1.0.0")
    >>> first == effect_id(integration="claims", source="till", begin=None, end={"after": [7]}, contract="claims@1.0.0")
    True
    >>> first == effect_id(integration="claims", source="till", begin=None, end={"after": [8]}, contract="claims@1.0.0")
    False
    """
    named = [integration, source, None if begin is None else dict(begin), dict(end), contract, model]
    return hashlib.sha256(rfc8785.dumps(named)).hexdigest()


def check_effect_id(name: str) -> None:
    """Refuse an identifier that is not made of 1 to 64 ASCII letters, digits, ``_`` and ``-``.

    Raises
    ------
    DeclarationError
        Without the identifier in its message.
    """
    if not _EFFECT_ID.fullmatch(name):
        raise DeclarationError(
            path="effect_id", expected="1 to 64 ASCII letters, digits, _ and -, the first no mark", got="another text"
        )
