"""What the process that reads lookups tells the gateway: which table holds now, what it was read from, and when."""

from datetime import datetime
from pathlib import Path

import msgspec

__all__ = ["FILE", "ServedStatus", "read_status"]

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
        The table beside this file, and the digest of its bytes; empty where there is none.
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


def read_status(folder: Path) -> ServedStatus | None:
    """Read the state of a lookup; None before it was written."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=ServedStatus)
    except (OSError, msgspec.MsgspecError):
        return None
