"""Measure what advice rests on: times by threads, repeated requests, and how far a rule gets.

In: a search in which nothing fits, and its rows. Out: the same :class:`~brownfield.fit.found.Fit` with its advice.
"""

import hashlib
from pathlib import Path

import msgspec
import numpy as np

from brownfield.errors import BrownfieldError
from brownfield.fit.advice import Facts, advise
from brownfield.fit.candidates import Session
from brownfield.fit.choose import Row, Verdict
from brownfield.fit.found import Fit
from brownfield.fit.measure import Timing, trial
from brownfield.fit.rows import Rows
from brownfield.fit.scaling import Scaling, ThreadPoint, scaling_of
from brownfield.fit.search import Progress
from brownfield.integration import PriceBook
from brownfield.statistics import Interval, proportion_interval

__all__ = ["advised", "point_of", "with_advice"]

_RUNS, _SECONDS = 960, 10.0
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})


def with_advice(
    fit: Fit, source: Path, rows: Rows, prices: PriceBook | None = None, *, progress: Progress | None = None
) -> Fit:
    """Add what would help; a search that fits or says nothing is returned as it is.

    Parameters
    ----------
    fit
        The search.
    source, rows
        As the search took them.
    prices
        The site's book.
    progress
        As the search took it.
    """
    if fit.choice.verdict != Verdict.DOES_NOT_FIT:
        return fit
    nearest = next((row for row in fit.rows if row.candidate.name == fit.choice.nearest), None)
    split = rows.split(fit.seed)
    scaling = None if nearest is None else _scaling(fit, nearest, source, split.selection, progress)
    return advised(fit, rows, scaling, prices)


def advised(fit: Fit, rows: Rows, scaling: Scaling | None, prices: PriceBook | None) -> Fit:
    """Add advice to a search in which nothing fits, with the times by threads that are known."""
    facts = Facts(
        scaling=scaling,
        repeats=None if rows.invented else repeat_share(rows),
        rule=None if rows.labels is None or fit.wanted.metric != "accuracy" else rule_accuracy(rows, fit.seed),
        int8=bool(_INT8 & set(fit.machine.cpu_flags)),
    )
    return msgspec.structs.replace(fit, advice=advise(fit.rows, fit.wanted, fit.choice, facts, prices))


def _scaling(fit: Fit, nearest: Row, source: Path, rows: Rows, progress: Progress | None) -> Scaling | None:
    """Time the nearest candidate with 1, 2, 4, ... threads, up to the usable cores."""
    points, threads = [], 1
    while threads <= fit.machine.cores:
        if progress is not None:
            progress(f"{threads} threads", 0, None)
        session = msgspec.structs.replace(nearest.candidate.session, threads=threads)
        try:
            points.append(_point(Path(fit.model_folder), session, source, rows))
        except BrownfieldError:
            break  # it ran before: with more threads it needs more than there is
        threads *= 2
    return scaling_of(points) if points else None


def _point(folder: Path, session: Session, source: Path, rows: Rows) -> ThreadPoint:
    with trial(source, folder, session, rows, memory_mib=None, runs=_RUNS, time_limit_s=_SECONDS) as (timing, _):
        return point_of(session.threads, timing)


def point_of(threads: int, timing: Timing) -> ThreadPoint:
    """Give the times of a trial as a point of the curve."""
    p50_ms, p99_ms = timing.p50_us.value / 1000, timing.p99_us[0] / 1000
    return ThreadPoint(threads=threads, p50_ms=p50_ms, p99_ms=p99_ms, mean_ms=timing.mean_us / 1000)


def repeat_share(rows: Rows) -> float:
    """Share of the rows that are the same, tensor by tensor, as an earlier one.

    Examples
    --------
    >>> repeat_share(Rows.from_tensors({"x": np.array([[1.0], [2.0], [1.0], [1.0]])}, batched=True))
    0.5
    """
    seen: set[bytes] = set()
    for sample in rows.samples:
        whole = hashlib.sha256()
        for name, array in sample.items():
            text = repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes()
            whole.update(f"{name} {array.shape} ".encode() + text)
        seen.add(whole.digest())
    return 1 - len(seen) / len(rows)


def rule_accuracy(rows: Rows, seed: int) -> Interval | None:
    """How often the most frequent label of the search's rows is right on the rows that judge, with exact bounds."""
    split = rows.split(seed)
    known, judged = split.selection.labels, split.final.labels
    if known is None or judged is None or known.ndim != 1:
        return None
    values, counts = np.unique(known, return_counts=True)
    return proportion_interval(int((judged == values[counts.argmax()]).sum()), len(judged))
