"""What lookups add to a request before its features are made: each value with the moment that it shows.

The age of a value is judged when the request is answered: over its bound it is missing, with the reason ``stale``, and
the contract's null policy decides: a stand-in, a missing value that the features know, or no answer by the model.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from brownfield.errors import Unavailable

if TYPE_CHECKING:
    from brownfield.clock import Clock
    from brownfield.contract import Checked, Field
    from brownfield.types import Columns

__all__ = [
    "Enrichment",
    "Found",
    "Joined",
    "LookupNote",
    "LookupUnanswered",
    "Missing",
    "ServedLookup",
    "Take",
    "header",
    "is_degraded",
]


class LookupUnanswered(Unavailable):
    """A lookup has no value for a field that the contract lets nobody do without."""

    code = "BF-ERR-LOOKUP"


class Missing(NamedTuple):
    """A field that was missing, and why: ``stale``, ``no_match``, ``unavailable`` or ``null``."""

    field: str
    reason: str


class LookupNote(NamedTuple):
    """What one lookup said to one request.

    Parameters
    ----------
    source
        The lookup.
    bf_state
        What it was read from.
    bf_as_of
        The oldest moment among its values, RFC 3339; empty where there is none.
    bf_stale_s
        Age of that moment in seconds; None where there is none.
    bf_missing
        Fields that were missing in at least one record, each with the first reason.
    """

    source: str
    bf_state: str
    bf_as_of: str
    bf_stale_s: float | None
    bf_missing: tuple[Missing, ...]

    def plain(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "source": self.source,
            "bf_state": self.bf_state,
            "bf_as_of": self.bf_as_of or None,
            "bf_stale_s": self.bf_stale_s,
            "bf_missing": [each._asdict() for each in self.bf_missing],
        }


class Found(NamedTuple):
    """What a lookup knows of the keys of a request.

    Parameters
    ----------
    state
        What it was read from.
    as_of
        The moment that each record's values show; one for all where it is the same.
    values
        By field, a value for each record.
    reasons
        Why a record has no values: empty where it was found.
    """

    state: str
    as_of: Sequence[datetime | None] | datetime | None
    values: Mapping[str, Sequence[Any]]
    reasons: Sequence[str]


class ServedLookup(Protocol):
    """A lookup at hand: a table in memory, or a service that is asked by key."""

    name: str

    async def find(self, keys: "Columns", rows: int, timeout_s: float) -> Found:
        """Look the keys of a request up; never raises for a source that is gone, and waits for none without time."""
        ...


class Take(NamedTuple):
    """One field that is taken: its contract, and how old it may be."""

    field: "Field"
    stale_after_s: float


class Joined(NamedTuple):
    """One declared join: who is asked, by which fields, and what is taken."""

    lookup: ServedLookup
    keys: tuple[str, ...]
    takes: tuple[Take, ...]
    constants: Mapping[str, Any]


class Enrichment:
    """The declared joins of one integration.

    Parameters
    ----------
    joins
        In declared order.
    clock
        Its wall clock judges ages when the request is answered, its other one says what is left of a deadline.
    """

    def __init__(self, joins: Sequence[Joined], clock: "Clock") -> None:
        self.joins = tuple(joins)
        self._now_utc = clock.now_utc
        self._now_ns = clock.monotonic_ns
        self.states: dict[tuple[str, str], int] = {}
        self.missing: dict[tuple[str, str, str], int] = {}

    async def apply(self, checked: "Checked", timeout_s: float) -> "tuple[dict[str, Any], tuple[LookupNote, ...]]":
        """Add the taken fields to the columns of a request.

        Parameters
        ----------
        checked
            The request.
        timeout_s
            What is left of its deadline; each lookup is told what those before it left of that.

        Returns
        -------
        tuple
            The columns with those of the lookups, and what each lookup said.

        Raises
        ------
        LookupUnanswered
            A value is missing that the contract lets nobody do without; the error's ``notes`` say why.
        """
        columns, notes = dict(checked.columns), []
        refused = ""
        until_ns = self._now_ns() + round(timeout_s * 1e9)
        for join in self.joins:
            left_s = (until_ns - self._now_ns()) / 1e9
            found = await join.lookup.find({name: columns[name] for name in join.keys}, checked.rows, left_s)
            note, lacking = self._take(join, found, columns, checked.rows)
            notes.append(note)
            refused = refused or lacking
        if refused:
            error = LookupUnanswered(f"the lookup of {refused} has no value that may be used", path=refused)
            error.notes = tuple(notes)  # type: ignore[attr-defined]  # carried to the answer of the fallback
            raise error
        return columns, tuple(notes)

    def _take(self, join: Joined, found: Found, columns: dict[str, Any], rows: int) -> tuple[LookupNote, str]:
        """Judge the age of each value, and let the contract's policy decide about the missing ones."""
        now_utc = self._now_utc()
        moments = [found.as_of] * rows if isinstance(found.as_of, datetime | None) else list(found.as_of)
        ages_s = [_age_s(moment, now_utc) for moment in moments]
        state, refused = found.state, ""
        missing: dict[str, str] = {}
        for take in join.takes:
            name, values = take.field.name, list(found.values.get(take.field.name) or [None] * rows)
            for row in range(rows):
                reason = found.reasons[row]
                if not reason and ages_s[row] > take.stale_after_s:
                    reason, values[row] = "stale", None
                if values[row] is None and reason in {"stale", "unavailable"} and name in join.constants:
                    values[row], state = join.constants[name], "FALLBACK"
                if values[row] is not None and not (reason and name not in join.constants):
                    continue
                missing.setdefault(name, reason or "null")
                values[row] = take.field.impute if take.field.null_policy == "impute" else None
                if take.field.null_policy == "reject":
                    refused = refused or name
            columns[name] = values
        for name, reason in missing.items():
            key = (join.lookup.name, name, reason)
            self.missing[key] = self.missing.get(key, 0) + 1
        self.states[join.lookup.name, state] = self.states.get((join.lookup.name, state), 0) + 1
        known = [moment for moment, reason in zip(moments, found.reasons, strict=True) if moment and not reason]
        oldest = min(known, default=None)
        age_s = None if oldest is None else round((now_utc - oldest).total_seconds(), 3)
        told = "" if oldest is None else oldest.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        reasons = tuple(Missing(*each) for each in missing.items())
        return LookupNote(join.lookup.name, state, told, age_s, reasons), refused


def _age_s(moment: datetime | None, now_utc: datetime) -> float:
    """Age in seconds; infinite for a moment that is unknown or still to come: no clock can vouch for it."""
    if moment is None or moment > now_utc:
        return math.inf
    return (now_utc - moment).total_seconds()


def header(notes: Sequence[LookupNote]) -> bytes:
    """Write what lookups said as one header field.

    Examples
    --------
    >>> header([LookupNote("products", "SNAPSHOT", "2026-11-21T04:00:00.000000Z", 3600.0, (Missing("kind", "stale"),))])
    b'products;bf_state=SNAPSHOT;bf_as_of=2026-11-21T04:00:00.000000Z;bf_stale_s=3600.0;bf_missing="kind:stale"'
    """
    parts = []
    for note in notes:
        text = f"{note.source};bf_state={note.bf_state}"
        if note.bf_as_of:
            text += f";bf_as_of={note.bf_as_of};bf_stale_s={note.bf_stale_s}"
        if note.bf_missing:
            listed = " ".join(f"{each.field}:{each.reason}" for each in note.bf_missing)
            text += f';bf_missing="{listed}"'
        parts.append(text)
    return ", ".join(parts).encode("ascii", "backslashreplace")


def is_degraded(notes: Sequence[LookupNote]) -> bool:
    """Whether a lookup said less than its source would: from what was kept, from a fallback, or not at all."""
    return any(note.bf_state in {"SNAPSHOT", "FALLBACK", "REFUSE"} or note.bf_missing for note in notes)
