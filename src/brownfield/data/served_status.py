"""What the process that reads lookups tells the gateway: which table holds now, what it was read from, and when."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from brownfield.errors import DeclarationError
from brownfield.store import is_masked

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec

__all__ = ["FILE", "ServedStatus", "check_sealed", "hides_values", "read_status", "seal_context"]

FILE = "served.json"
"""Beside the copies of a lookup; swapped as a whole."""


class ServedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one lookup as it is served.

    Parameters
    ----------
    state
        What it was read from last: ``PRIMARY``, ``REPLICA``, ``SNAPSHOT``, ``FALLBACK`` or ``REFUSE``.
    as_of_utc
        The moment that the table's rows show; None where it is unknown, or there is no table.
    file, sha256
        The table beside this file, and the digest of its bytes as they lie there; empty where there is none.
    rows_sha256
        Of the table before it is encrypted: equal for equal rows.
    key_id
        The key that encrypted it; empty where it is not encrypted.
    written_utc
        When the lookup was looked at last.
    reason
        Why it is not read from its primary; empty when it is.
    """

    state: str
    as_of_utc: datetime | None
    file: str
    sha256: str
    written_utc: datetime
    reason: str = ""
    rows_sha256: str = ""
    key_id: str = ""


def seal_context(integration: str, source: str) -> str:
    """Say what an encrypted table is, so that no other can be put in its place."""
    return f"served/{integration}/{source}"


def hides_values(integration: "IntegrationSpec", source: str) -> bool:
    """Say whether the table for requests holds fields that the contract classifies: taken ones, or its key."""
    taken = {name for each in integration.enrich if each.source == source for name in each.take}
    kept = taken.union(integration.sources[source].keys)
    return any(
        field.name in kept and is_masked(field.classification) for field in integration.contract.schema(source).fields
    )


def check_sealed(integration: "IntegrationSpec", source: str, *, has_key: bool) -> None:
    """Refuse a table for requests that may only be kept encrypted, where there is no key for it.

    Raises
    ------
    DeclarationError
        When the contract classifies a field of the table, and no key is declared.
    """
    if not has_key and hides_values(integration, source):
        raise DeclarationError(
            where=f"{integration.name}.{source}",
            path="security.encryption_key",
            expected="a key, for the table for requests holds fields that the contract classifies",
            got="none",
            next_step="Declare security: {encryption_key: ...} in brownfield.yaml, or do not take these fields.",
        )


def read_status(folder: Path) -> ServedStatus | None:
    """Read the state of a lookup; None before it was written."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=ServedStatus)
    except (OSError, msgspec.MsgspecError):
        return None
