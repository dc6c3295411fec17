"""Which columns of different silos hold the same keys: candidates with evidence, ranked, for a person to decide.

Pure. Evidence is names, kinds and shares; no value of a silo stands in it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from brownfield.workspace.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Candidate", "Known", "propose_joins"]

_LEAST = 0.5
_KEY_LIKE = 0.95
_SAMPLE_KEYS = 20_000
_ROUGH_NAME = 0.5
_KINDS = {"integer": "key", "string": "key", "date": "date", "timestamp": "timestamp", "number": "number"}
_FILLERS = frozenset({"id", "no", "nr", "num", "number", "key", "code", "cd", "fk", "pk", "the", "ref"})


@dataclass(frozen=True, slots=True)
class Known:
    """One silo: its columns as they were profiled, and the sample."""

    source: str
    profiles: Sequence[Profile]
    sample: pa.Table


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two columns that may hold one key.

    Parameters
    ----------
    left, right
        ``source.column``; the right side names its records, or comes nearer to it.
    score
        From 0 to 1.
    name
        Likeness of the names, from 0 to 1.
    same_kind
        Whether both hold the same kind of values.
    overlap, overlap_normalised
        Share of the left sample's distinct values that the right sample has: as they are, and without blanks, case
        and leading zeros.
    cardinality
        ``1:1``, ``n:1`` or ``n:m``, in the samples.
    """

    left: str
    right: str
    score: float
    name: float
    same_kind: bool
    overlap: float
    overlap_normalised: float
    cardinality: str

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """The evidence in one line."""
        kind = "one kind" if self.same_kind else "two kinds"
        return (
            f"score {self.score:.2f}: names {self.name:.2f} alike, {kind}, {self.overlap:.0%} of the values found "
            f"({self.overlap_normalised:.0%} normalised), {self.cardinality}"
        )


def propose_joins(silos: Sequence[Known], most: int = 50) -> list[Candidate]:
    """Rank the pairs of columns that may hold one key, the best first.

    Examples
    --------
    >>> from brownfield.workspace.profile import profile_table
    >>> items = pa.table({"id": pa.array(range(100)), "item": pa.array([str(n) for n in range(100)])})
    >>> lines = pa.table({"line": pa.array(range(200)), "ITEM_NO": pa.array([f"000{n % 90} " for n in range(200)])})
    >>> known = [Known(name, profile_table(table), table) for name, table in (("items", items), ("lines", lines))]
    >>> best = propose_joins(known)[0]
    >>> best.left, best.right, best.overlap, best.overlap_normalised, best.cardinality
    ('lines.ITEM_NO', 'items.item', 0.0, 1.0, 'n:1')
    """
    found = [candidate for left, right in permutations(silos, 2) for candidate in _between(left, right)]
    best: dict[frozenset[str], Candidate] = {}
    for each in sorted(found, key=lambda each: (-each.score, each.left, each.right)):
        best.setdefault(frozenset({each.left, each.right}), each)
    return list(best.values())[:most]


def _between(left: Known, right: Known) -> Iterator[Candidate]:
    lefts, rights = _keys(left), _keys(right)
    for one in left.profiles:
        for other in right.profiles:
            name = _likeness(one.name, other.name)
            kinds = {_KINDS.get(one.kind), _KINDS.get(other.kind)}
            if one.name not in lefts or other.name not in rights or len(kinds) > 1 or None in kinds:
                continue
            if name < _ROUGH_NAME and (other.unique_share < _KEY_LIKE or one.distinct < _SAMPLE_KEYS // 1_000):
                continue
            candidate = _judged(left.source, one, lefts[one.name], right.source, other, rights[other.name], name)
            if candidate.score >= _LEAST:
                yield candidate


def _judged(  # noqa: PLR0913, PLR0917 (two sides, three things each)
    left: str, one: Profile, mine: "tuple[set[str], set[str]]", right: str, other: Profile,
    theirs: "tuple[set[str], set[str]]", name: float,
) -> Candidate:  # fmt: skip
    raw = len(mine[0] & theirs[0]) / len(mine[0]) if mine[0] else 0.0
    normalised = len(mine[1] & theirs[1]) / len(mine[1]) if mine[1] else 0.0
    unique = other.unique_share >= _KEY_LIKE
    both = unique and one.unique_share >= _KEY_LIKE
    cardinality = "1:1" if both else "n:1" if unique else "n:m"
    same = one.kind == other.kind
    score = 0.4 * name + 0.35 * normalised + 0.15 * other.unique_share + 0.1 * same
    if name < _ROUGH_NAME:
        score *= 0.6  # small numbers are found among any numbers: values alone say little
    return Candidate(
        f"{left}.{one.name}", f"{right}.{other.name}", round(score, 3), round(name, 2), same, round(raw, 3),
        round(normalised, 3), cardinality,
    )  # fmt: skip


def _keys(known: Known) -> "Mapping[str, tuple[set[str], set[str]]]":
    """Distinct values of each column that may be a key: as they are, and normalised."""
    keys = {}
    for profile in known.profiles:
        if _KINDS.get(profile.kind) != "key" or profile.distinct < 2:  # noqa: PLR2004 (a constant is no key)
            continue
        distinct = known.sample[profile.name].drop_null().unique().cast(pa.string()).to_pylist()
        raw = {value for value in distinct if value not in profile.suspects}
        keys[profile.name] = (raw, {_normalised(value) for value in raw})
    return keys


def _normalised(value: str) -> str:
    plain = value.strip().casefold()
    return plain.lstrip("0") or plain[-1:]


def _likeness(left: str, right: str) -> float:
    """Likeness of two names from 0 to 1, whatever their case, marks and words such as id or no."""
    one, other = _words(left), _words(right)
    if one == other:
        return 1.0
    whole = SequenceMatcher(None, "".join(one), "".join(other)).ratio()
    mine, theirs = set(one) - _FILLERS, set(other) - _FILLERS
    if mine and mine == theirs:
        return 0.9
    shared = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0
    return max(whole * 0.8, shared * 0.8)


def _words(name: str) -> tuple[str, ...]:
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return tuple(re.findall(r"[a-z]+|[0-9]+", parts.lower()))
