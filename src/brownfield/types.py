"""Record, Batch, Columns and Decision: the few shapes that travel between rooms."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Batch", "Columns", "Decision", "Reason", "Record"]

Record: TypeAlias = Mapping[str, Any]
"""One record as a mapping of field name to plain value; ``None`` is a missing value."""

Batch: TypeAlias = "pa.RecordBatch"
"""Many records as Arrow columns: what travels between rooms on the batch path."""

Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""The same records column by column (lists or arrays of equal length): what features read on both paths."""


class Reason(StrEnum):
    """Why this answer was given: the resolution reasons of OpenFeature, and two of ours (FALLBACK, SHADOW)."""

    STATIC = "STATIC"
    DEFAULT = "DEFAULT"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    CACHED = "CACHED"
    DISABLED = "DISABLED"
    STALE = "STALE"
    ERROR = "ERROR"
    UNKNOWN = "UNKNOWN"
    FALLBACK = "FALLBACK"
    SHADOW = "SHADOW"


class Decision(msgspec.Struct, frozen=True, omit_defaults=False, kw_only=True):
    """Who answered, why and under which contract; it stands in every answer on every door.

    Parameters
    ----------
    id
        Hexadecimal identifier of this decision; the key under which outcomes are joined later.
    integration
        Name of the integration.
    source
        ``model``, or the fallback that answered, such as ``table`` or ``constant``.
    version
        Version of the bundle that answered; empty when no model did.
    reason
        One of :class:`Reason`.
    degraded
        True whenever the answer is not the model's own.
    contract
        ``id@version`` of the contract.
    cause
        Why the model did not answer (``deadline``, ``worker``, ``output``, ``breaker``, ``overload``, ``no_model``,
        ``model``, ``poison``, ``lookup``); empty when it did.
    """

    id: str
    integration: str
    source: str
    version: str
    reason: Reason
    degraded: bool
    contract: str
    cause: str = ""
