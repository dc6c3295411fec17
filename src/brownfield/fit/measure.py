"""Time a candidate against the model it came from, in fresh processes, turn about, within the declared memory.

In: two folders with ``model.onnx``, a session, rows. Out: a :class:`Timing`. What a candidate does wrong (it does not
load, dies, needs too much memory) is the error of :mod:`brownfield.model.process` that says so.
The two processes live side by side and are asked in short blocks, first one, then the other: what slows the machine
down slows both. Times are those of the engine alone, as its process measured them.
Packed into a probe this file runs on the target as well: it needs numpy, the engine and the process room alone.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from brownfield.errors import BrownfieldError, WorkerUnavailable
from brownfield.fit.rows import Rows
from brownfield.model.process import Caller, ModelProcess, RunFailed
from brownfield.statistics import Interval, quantile_interval

if TYPE_CHECKING:
    from brownfield.fit.candidates import Session
    from brownfield.fit.rows import Tensors

__all__ = ["CURVE_ROWS", "Timing", "answers", "cost_curve", "isolated", "memory_needed", "running", "trial"]

CURVE_ROWS = (1, 8, 32)
_BLOCKS = 48
_LEAST_BLOCKS = 12
_WARM_UP_RUNS = 5
_RUN_TIMEOUT_S = 60.0
_READY_TIMEOUT_S = 60.0
_LARGEST_MEMORY_MIB = 65536
_ISOLATION_TOLERANCE = 1e-3
_LOUD = 8.0
_NEIGHBOURS = 7
_ALONE = 8

Answers: TypeAlias = list[dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a candidate takes for one row, and what it needs.

    Parameters
    ----------
    runs
        Measured calls of each of the two.
    p50_us, p99_us
        In the engine, with 95 % order-statistic bounds; a bound is None where the runs are too few for it.
    mean_us
        In the engine.
    ratio
        To the fp32 model's time in the same minute: median over blocks of the quickest call of each, with 95 %
        order-statistic bounds.
    reference_p50_us
        Of the fp32 model in the same minute.
    peak_mib
        Largest resident memory of the process.
    ready_s
        From the start of the process until the model was loaded.
    steal_share
        Share of processor time that the host of this machine took away meanwhile.
    """

    runs: int
    p50_us: Interval
    p99_us: tuple[float, float | None, float | None]
    mean_us: float
    ratio: Interval
    reference_p50_us: float
    peak_mib: float
    ready_s: float
    steal_share: float


@contextmanager
def running(
    folder: Path, session: "Session", memory_mib: int | None = None
) -> Iterator[tuple[ModelProcess, Caller, float]]:
    """Run a model file in a fresh process: the process, a connection to it, and the seconds it took to become ready."""
    with tempfile.TemporaryDirectory(prefix="brownfield-fit-") as runtime:
        began = time.monotonic()
        process = ModelProcess.start(
            folder,
            runtime_folder=Path(runtime),
            threads=session.threads,
            arena=session.arena,
            engine=session.engine,
            precision=session.precision,
            memory_mib=memory_mib,
            ready_timeout_s=_READY_TIMEOUT_S,
        )
        ready_s = time.monotonic() - began
        try:
            with Caller(process.socket_path) as caller:
                yield process, caller, ready_s
        finally:
            process.kill()


@contextmanager
def trial(  # noqa: PLR0913 (a trial's parts; all but the first three are keywords)
    reference: Path,
    folder: Path,
    session: "Session",
    rows: Rows,
    *,
    memory_mib: int | None,
    runs: int,
    time_limit_s: float,
) -> Iterator[tuple[Timing, Caller]]:
    """Time a candidate and the fp32 model turn about, and keep the candidate's process for further questions.

    Parameters
    ----------
    reference, folder
        With the ``model.onnx`` of the fp32 model and of the candidate.
    session
        Of the candidate; the fp32 model runs in the default one, without a bound on memory.
    rows
        Asked one by one, in turn.
    memory_mib
        Bound on the candidate's private memory.
    runs
        Calls of each that are wanted.
    time_limit_s
        After which no further block begins, once there are a few.
    """
    with running(folder, session, memory_mib) as (process, tried, ready_s):
        with running(reference, type(session)()) as (_, asked, _):
            for caller in (asked, tried):
                _block(caller, rows, 0, _WARM_UP_RUNS)
            before = _processor_times()
            blocks = _turn_about(asked, tried, rows, -(-runs // _BLOCKS), time_limit_s)
            steal = _steal_share(before, _processor_times())
        yield _timing(blocks, _peak_mib(process), ready_s, steal), tried


def cost_curve(caller: Caller, rows: Rows, runs: int = 15) -> dict[str, float]:
    """Median microseconds in the engine for requests of 1, 8 and 32 rows; of 1 alone where rows cannot be joined.

    It ends before the first size that the declared memory does not admit: a candidate is not worse for that.
    """
    curve: dict[str, float] = {}
    for count in CURVE_ROWS if rows.batched and caller.hello.batched else (1,):
        request = rows.joined(count) if rows.batched else rows.samples[0]
        try:
            taken = [caller.ask(request, timeout_s=_RUN_TIMEOUT_S).run_us for _ in range(runs + 2)]
        except (RunFailed, WorkerUnavailable):
            if not curve:
                raise
            break
        curve[str(count)] = float(np.median(taken[2:]))
    return curve


def answers(caller: Caller, rows: Rows) -> Answers:
    """Give the outputs for each row alone."""
    return [dict(caller.ask(sample, timeout_s=_RUN_TIMEOUT_S)) for sample in rows.samples]


def isolated(caller: Caller, rows: Rows) -> bool | None:
    """Whether a row is answered alike alone and beside others, loud ones among them; None where rows never meet.

    Parameters
    ----------
    caller
        Of the candidate's process.
    rows
        A few of them are asked; where inputs are floats, one neighbour is eight times as loud as it was.
    """
    if not rows.batched or not caller.hello.batched:
        return None
    picked = rows.joined(min(_NEIGHBOURS, len(rows)) + 1)
    loud: Tensors = {
        name: np.concatenate([array[:-1], array[-1:] * array.dtype.type(_LOUD)]) if array.dtype.kind == "f" else array
        for name, array in picked.items()
    }
    together = caller.ask(loud)
    for row in range(min(_ALONE, len(next(iter(loud.values())))) - 1):
        alone = caller.ask({name: array[row : row + 1] for name, array in loud.items()})
        for name, answer in alone.items():
            beside = together[name][row : row + 1]
            if answer.dtype.kind != "f":
                if not np.array_equal(answer, beside):
                    return False
                continue
            scale = float(np.abs(answer.astype(np.float64)).max(initial=0.0)) or 1.0
            if not np.allclose(answer, beside, rtol=_ISOLATION_TOLERANCE, atol=_ISOLATION_TOLERANCE * scale):
                return False
    return True


def memory_needed(folder: Path, session: "Session", rows: Rows, above_mib: int) -> int | None:
    """Smallest bound on private memory, within 5 %, under which a model answers; None when none was found.

    Parameters
    ----------
    folder
        With ``model.onnx``.
    session
        Of the engine.
    rows
        The first is asked.
    above_mib
        A bound that is known to be too small.
    """
    low, high = above_mib, above_mib * 2
    while not _answers_within(folder, session, rows, high):
        low, high = high, high * 2
        if high > _LARGEST_MEMORY_MIB:
            return None
    while high - low > max(1, 0.05 * low):
        middle = (low + high) // 2
        low, high = (low, middle) if _answers_within(folder, session, rows, middle) else (middle, high)
    return high


def _answers_within(folder: Path, session: "Session", rows: Rows, memory_mib: int) -> bool:
    try:
        with running(folder, session, memory_mib) as (_, caller, _):
            caller.ask(rows.samples[0], timeout_s=_RUN_TIMEOUT_S)
    except BrownfieldError:
        return False
    return True


def _turn_about(
    asked: Caller, tried: Caller, rows: Rows, per_block: int, time_limit_s: float
) -> list[tuple[list[int], list[int]]]:
    """Microseconds of both, block by block; who begins changes from block to block."""
    until = time.monotonic() + time_limit_s
    blocks: list[tuple[list[int], list[int]]] = []
    while len(blocks) < _BLOCKS and (len(blocks) < _LEAST_BLOCKS or time.monotonic() < until):
        start, swapped = len(blocks) * per_block, len(blocks) % 2
        first = _block(tried if swapped else asked, rows, start, per_block)
        second = _block(asked if swapped else tried, rows, start, per_block)
        blocks.append((second, first) if swapped else (first, second))
    return blocks


def _block(caller: Caller, rows: Rows, start: int, count: int) -> list[int]:
    samples = rows.samples
    caller.ask(samples[start % len(samples)], timeout_s=_RUN_TIMEOUT_S)  # brings its memory near again
    return [
        max(1, caller.ask(samples[(start + index) % len(samples)], timeout_s=_RUN_TIMEOUT_S).run_us)
        for index in range(count)
    ]


def _timing(blocks: list[tuple[list[int], list[int]]], peak_mib: float, ready_s: float, steal: float) -> Timing:
    taken = np.array([run for _, block in blocks for run in block], dtype=np.float64)
    ratios = [min(block) / min(beside) for beside, block in blocks]  # what other programs take is in neither
    p99 = quantile_interval(taken, 0.99)
    return Timing(
        runs=len(taken),
        p50_us=quantile_interval(taken, 0.5),
        p99_us=(p99.value, _finite(p99.lower), _finite(p99.upper)),
        mean_us=float(taken.mean()),
        ratio=quantile_interval(ratios, 0.5),
        reference_p50_us=float(np.median([run for beside, _ in blocks for run in beside])),
        peak_mib=round(peak_mib, 1),
        ready_s=round(ready_s, 3),
        steal_share=round(steal, 4),
    )


def _finite(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None


def _peak_mib(process: ModelProcess) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _processor_times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]]


def _steal_share(before: list[int], after: list[int]) -> float:
    spent: list[int] = [late - early for early, late in zip(before, after, strict=True)]
    total = sum(spent[:8])
    return spent[7] / total if len(spent) >= 8 and total else 0.0  # noqa: PLR2004 (the eighth is steal)
