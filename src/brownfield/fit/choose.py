"""From measurements to a verdict: which candidate serves, why each of the others does not, and what is missing.

In: rows of the table, what is wanted, the noise of the machine. Out: a :class:`Choice`. Pure: the same rows give the
same choice. A candidate that is wrong or slower by the wrong side of its interval is never chosen.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import floor

import msgspec

from brownfield.fit.accuracy import Accuracy
from brownfield.fit.candidates import Candidate
from brownfield.fit.measure import Timing
from brownfield.fit.slices import SliceAccuracy

__all__ = [
    "Choice",
    "Noise",
    "Row",
    "Shortfall",
    "Verdict",
    "Wanted",
    "choose",
    "cores_needed",
    "decided",
    "right_so_far",
    "survivors",
]

UTILISATION = 0.7
"""Share of a core's time that may be planned for: above it, waiting in line decides the answer times."""

_LEAST_MARGIN = 0.05
_NOISE_BOUND = 0.25
_STEAL_BOUND = 0.10
_SAME_ARITHMETIC = 1e-3
_HOPE = 0.5  # of the allowed loss: a value at its limit has an upper bound beyond it
_ALONE = "Its answers depend on who shares the batch: every request must be run alone (max_batch_rows 1)."


class Verdict(StrEnum):
    """How a search ends."""

    FITS = "FITS"
    FITS_WITH_CHANGES = "FITS_WITH_CHANGES"
    DOES_NOT_FIT = "DOES_NOT_FIT"
    INVALID = "INVALID"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the site declares, see ``constraints`` of the declaration."""

    cpu_cores: float = 1.0
    memory_mib: int | None = None
    latency_p99_ms: float | None = None
    expected_rate_per_s: float | None = None
    metric: str = "agreement"
    metric_code: str = ""
    metric_file: str = ""
    max_drop: float = 0.01
    slices: Mapping[str, float] = {}

    @property
    def threads(self) -> int:
        """Most threads that the declared cores allow."""
        return max(1, floor(self.cpu_cores))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a candidate after one stage.

    Parameters
    ----------
    candidate
        What was tried.
    stage
        ``build``, ``screen``, ``refine`` or ``final``: the last one it reached.
    cause, failure
        Why it could not be tried: a word and a sentence; empty when it was.
    timing, accuracy
        As measured; on rows that the search never saw when ``stage`` is ``final``.
    isolated
        Whether its answers are the same alone and in a batch; None where rows never meet, or before the last stage.
    curve_us
        Microseconds for requests of so many rows; empty before the last stage.
    size_mib
        Of the model file.
    slices
        Accuracy in each declared group of rows.
    """

    candidate: Candidate
    stage: str
    cause: str = ""
    failure: str = ""
    timing: Timing | None = None
    accuracy: Accuracy | None = None
    isolated: bool | None = None
    curve_us: Mapping[str, float] = {}
    size_mib: float = 0.0
    slices: tuple[SliceAccuracy, ...] = ()


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """The fp32 model timed against itself: ratio that should be 1, and processor time taken away meanwhile."""

    ratio: float
    steal_share: float

    @property
    def margin(self) -> float:
        """Least gain that counts as one."""
        return max(_LEAST_MARGIN, abs(self.ratio - 1))

    @property
    def complaint(self) -> str:
        """Why nothing measured here says anything; empty when it does."""
        if abs(self.ratio - 1) > _NOISE_BOUND:
            return f"the fp32 model timed against itself gave a ratio of {self.ratio:.2f}, expected 0.75 to 1.25"
        if self.steal_share > _STEAL_BOUND:
            return f"{self.steal_share:.0%} of the processor time was taken away, expected at most {_STEAL_BOUND:.0%}"
        return ""


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """A resource of which too little is declared.

    Parameters
    ----------
    resource
        Key of ``constraints``.
    declared, needed
        In the key's own unit.
    factor
        The larger of the two over the smaller, ``> 1``.
    measured
        Whether ``needed`` was measured; else it follows from measurements by a stated rule.
    how
        Where ``needed`` comes from.
    """

    resource: str
    declared: float
    needed: float
    factor: float
    measured: bool
    how: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a search.

    Parameters
    ----------
    verdict
        See :class:`Verdict`.
    chosen
        Name of the candidate that serves; empty without one.
    why
        The verdict in a sentence.
    changes
        What must be changed for it; with ``FITS_WITH_CHANGES`` alone.
    shortfalls
        What is missing; with ``DOES_NOT_FIT`` alone.
    reasons
        Per candidate of the table, why it was chosen or not.
    nearest
        Candidate with the lowest 99th percentile of those that are right; with ``DOES_NOT_FIT`` alone.
    """

    verdict: Verdict
    chosen: str = ""
    why: str = ""
    changes: tuple[str, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    reasons: Mapping[str, str] = {}
    nearest: str = ""


def choose(rows: Sequence[Row], wanted: Wanted, noise: Noise, memory_needed_mib: int | None = None) -> Choice:
    """Judge the rows of a finished search.

    Parameters
    ----------
    rows
        One per candidate, simplest first.
    wanted
        The limits.
    noise
        Of the machine.
    memory_needed_mib
        Smallest bound under which the fp32 model answers, where it does not under the declared one.
    """
    objections = {row.candidate.name: _objection(row, wanted, noise) for row in rows}
    if noise.complaint:
        why = f"{noise.complaint}: measure again on a quieter machine"
        return Choice(verdict=Verdict.INVALID, why=why, reasons=objections)
    sound = [row for row in rows if not objections[row.candidate.name]]
    fitting = [row for row in sound if _meets(row, wanted) is True]
    for row in sound:
        objections[row.candidate.name] = "" if row in fitting else _unmet(row, wanted)
    if fitting:
        best = _best(fitting, noise.margin)
        return _fits(best, objections, fitting, wanted)
    open_rows = [row for row in sound if _meets(row, wanted) is None]
    if open_rows:
        row = open_rows[0]
        why = f"{row.candidate.name}: {_unmet(row, wanted)}; measure again with more time"
        return Choice(verdict=Verdict.INVALID, why=why, reasons=objections)
    short = _shortfalls(rows, sound, wanted, memory_needed_mib)
    why = "no candidate meets every limit: " + ("; ".join(each.how for each in short) or _first_failure(rows))
    timed = [(row.timing.p99_us[0], row.candidate.name) for row in sound if row.timing is not None]
    nearest = min(timed)[1] if timed else ""
    return Choice(verdict=Verdict.DOES_NOT_FIT, why=why, shortfalls=short, reasons=objections, nearest=nearest)


def decided(row: Row, wanted: Wanted) -> bool:
    """Whether a measurement says on which side of the limits a row lies: if not, it is worth repeating."""
    return _meets(row, wanted) is not None


def survivors(rows: Sequence[Row], wanted: Wanted, most: int) -> list[Row]:
    """Rows worth measuring further: the fp32 model, then the fastest that are neither wrong nor slower for certain."""
    alive = [row for row in rows if row.timing is not None and not _certainly_worse(row, wanted)]
    first = [row for row in alive if row.candidate == Candidate()]
    others = [row for row in alive if row.candidate != Candidate()]
    return first + sorted(others, key=lambda row: _promise(row, wanted))[:most]


def _promise(row: Row, wanted: Wanted) -> tuple[bool, float]:
    """Those that look right before those that do not, then the faster."""
    return (not right_so_far(row, wanted), row.timing.ratio.value if row.timing else 0.0)


def right_so_far(row: Row, wanted: Wanted) -> bool:
    """Whether what was measured gives hope that a row loses no more than is allowed: it is no proof."""
    if row.accuracy is None or _wrong(row, row.accuracy, wanted):
        return False
    return row.candidate.exact or row.accuracy.drop.value <= wanted.max_drop * _HOPE


def _certainly_worse(row: Row, wanted: Wanted) -> str:
    if row.timing is None or row.candidate == Candidate():
        return ""
    wrong = "" if row.accuracy is None else _wrong(row, row.accuracy, wanted)
    if wrong:
        return f"wrong{wrong}"
    if row.timing.ratio.lower > 1 and not (row.candidate.session.arena is False and row.candidate.exact):
        return f"slower: {row.timing.ratio.value:.2f} times the time of fp32"
    return ""


def _wrong(row: Row, accuracy: Accuracy, wanted: Wanted) -> str:
    """How a row is wrong by the favourable end of an interval, overall or in a group of rows."""
    if not accuracy.finite:
        return ": its answers hold NaN, infinity or other shapes"
    if row.candidate.exact:
        difference = accuracy.largest_difference or 0.0
        return f": it differs from fp32 by {difference:.2g} of the scale" if difference > _SAME_ARITHMETIC else ""
    if accuracy.drop.lower > wanted.max_drop:
        return f": {_drop(row)}, at most {wanted.max_drop:g} is declared"
    for each in row.slices:
        if each.drop.lower > wanted.slices.get(each.field, 1.0):
            return f" in {each.sentence}, at most {wanted.slices[each.field]:g} is declared"
    return ""


def _objection(row: Row, wanted: Wanted, noise: Noise) -> str:
    """Why a row cannot be chosen whatever the limits are; empty when it can."""
    worse = row.failure or _certainly_worse(row, wanted)
    if worse:
        return worse
    if row.stage != "final" or row.timing is None or row.accuracy is None:
        return "not measured further: others were better" if row.timing else "not measured: the time was up"
    if row.candidate.session.threads > wanted.threads:
        return f"needs {row.candidate.session.threads} cores, {wanted.cpu_cores:g} are declared"
    return "" if row.candidate.exact else _no_gain(row, row.timing, row.accuracy, wanted, noise)


def _no_gain(row: Row, timing: Timing, accuracy: Accuracy, wanted: Wanted, noise: Noise) -> str:
    """Why int8 or bf16 is not worth it: not proven right, or not proven faster."""
    if accuracy.drop.upper > wanted.max_drop:
        allowed = f"at most {wanted.max_drop:g} is declared"
        return f"not proven right: {_drop(row)} on {accuracy.rows} rows, {allowed}"
    for each in row.slices:
        if each.drop.upper > wanted.slices.get(each.field, 1.0):
            allowed = f"at most {wanted.slices[each.field]:g} is declared"
            return f"not proven right in {each.sentence} on {each.rows} rows, {allowed}"
    if timing.ratio.upper > 1 - noise.margin:
        return f"no gain: {timing.ratio.value:.2f} times the time of fp32"
    return ""


def _drop(row: Row) -> str:
    if row.accuracy is None:
        return ""
    value, lower, upper = row.accuracy.drop
    return f"{row.accuracy.metric} falls by {value:.3g} ({lower:.3g} to {upper:.3g})"


def _meets(row: Row, wanted: Wanted) -> bool | None:
    """Whether a row keeps the limits; None when its interval holds the limit."""
    if row.timing is None or cores_needed(row, wanted) > wanted.cpu_cores:
        return False
    if wanted.latency_p99_ms is None:
        return True
    _, lower, upper = row.timing.p99_us
    limit_us = wanted.latency_p99_ms * 1000
    if upper is not None and upper <= limit_us:
        return True
    return False if lower is not None and lower > limit_us else None


def _unmet(row: Row, wanted: Wanted) -> str:
    if row.timing is None:
        return row.failure
    if _meets(row, wanted) is None:
        _, lower, upper = row.timing.p99_us
        bounds = f"{(lower or 0) / 1000:.3g} to {'?' if upper is None else format(upper / 1000, '.3g')} ms"
        limit = f"{wanted.latency_p99_ms:g} ms is the limit"
        return f"the 99th percentile lies in {bounds} after {row.timing.runs} runs, {limit}"
    if wanted.latency_p99_ms is not None and row.timing.p99_us[0] > wanted.latency_p99_ms * 1000:
        return f"too slow: 99th percentile {row.timing.p99_us[0] / 1000:.3g} ms, limit {wanted.latency_p99_ms:g} ms"
    return f"needs {cores_needed(row, wanted):.2g} cores at the expected rate, {wanted.cpu_cores:g} are declared"


def cores_needed(row: Row, wanted: Wanted) -> float:
    """Cores that the expected rate keeps busy, at the best batch size that the row may use, with room to breathe."""
    if wanted.expected_rate_per_s is None or row.timing is None:
        return 0.0
    per_row_us = [row.timing.mean_us]
    if row.isolated:
        per_row_us += [taken / int(count) for count, taken in row.curve_us.items()]
    return wanted.expected_rate_per_s * min(per_row_us) / 1e6 * row.candidate.session.threads / UTILISATION


def _best(fitting: Sequence[Row], margin: float) -> Row:
    """Fewest changes, then fewest cores, then the default session, then the fastest by more than the noise."""

    def rank(row: Row) -> tuple[bool, int, bool]:
        return (_leaks(row), row.candidate.session.threads, not row.candidate.session.arena)

    lowest = min(rank(row) for row in fitting)
    same = [row for row in fitting if rank(row) == lowest]
    best = same[0]
    for row in same[1:]:
        if row.timing and best.timing and row.timing.ratio.value < best.timing.ratio.value * (1 - 2 * margin):
            best = row
    return best


def _leaks(row: Row) -> bool:
    return row.isolated is False and not row.candidate.exact


def _fits(best: Row, objections: dict[str, str], fitting: Sequence[Row], wanted: Wanted) -> Choice:
    name = best.candidate.name
    reasons = objections
    for row in fitting:
        other = row.candidate.name
        reasons[other] = "fits as well; " + (
            "its answers depend on the batch" if _leaks(row) else f"{name} is preferred"
        )
    reasons[name] = "chosen"
    changes = (_ALONE,) if _leaks(best) else ()
    verdict = Verdict.FITS_WITH_CHANGES if changes else Verdict.FITS
    limits = "every declared limit" if wanted.latency_p99_ms or wanted.memory_mib else "the declared limits"
    return Choice(verdict=verdict, chosen=name, why=f"{name} keeps {limits}", changes=changes, reasons=reasons)


def _shortfalls(
    rows: Sequence[Row], sound: Sequence[Row], wanted: Wanted, memory_needed_mib: int | None
) -> tuple[Shortfall, ...]:
    found: list[Shortfall] = []
    starved = any(row.cause == "memory" for row in rows)
    if not sound and starved and wanted.memory_mib is not None and memory_needed_mib is not None:
        how = f"the fp32 model answers within {memory_needed_mib} MiB, {wanted.memory_mib} are declared"
        found.append(_short("memory_mib", wanted.memory_mib, memory_needed_mib, how=how))
    timed = [(row, row.timing) for row in sound if row.timing is not None]
    if timed and wanted.latency_p99_ms is not None:
        row, timing = min(timed, key=lambda each: each[1].p99_us[0])
        needed = timing.p99_us[0] / 1000
        if needed > wanted.latency_p99_ms:
            declared = f"{wanted.latency_p99_ms:g} declared"
            how = f"the best 99th percentile is {needed:.3g} ms ({row.candidate.name}), {declared}"
            found.append(_short("latency_p99_ms", wanted.latency_p99_ms, needed, how=how))
    if timed:
        cores, name = min((cores_needed(row, wanted), row.candidate.name) for row, _ in timed)
        if cores > wanted.cpu_cores:
            how = f"the expected rate keeps {cores:.2g} cores busy ({name}, {UTILISATION:.0%} of each planned for)"
            found.append(_short("cpu_cores", wanted.cpu_cores, cores, measured=False, how=how))
    return tuple(found)


def _short(resource: str, declared: float, needed: float, *, how: str, measured: bool = True) -> Shortfall:
    return Shortfall(
        resource=resource, declared=declared, needed=needed, factor=needed / declared, measured=measured, how=how
    )


def _first_failure(rows: Sequence[Row]) -> str:
    return next((row.failure for row in rows if row.failure), "none was measured to the end")
