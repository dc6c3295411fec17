"""Try a model in a throw-away process before it may answer anybody: it must load, answer, and answer as it did before.

Comes in: a bundle with its golden records. Goes out: a report. Refused with :class:`~brownfield.errors.BundleRefused`
and a rule of :data:`PROBE_RULES`: a model that crashes, takes too long, takes too much memory, or answers otherwise
than when the bundle was made. Whatever it does, it does it confined, and the process is gone afterwards.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brownfield.errors import BrownfieldError, BundleRefused, DeadlineExceeded, ModelFailed, WorkerUnavailable
from brownfield.model.process import (
    Caller,
    Hello,
    ModelProcess,
    Program,
    RunFailed,
    SandboxPolicy,
    StartFailed,
    Zygote,
    call,
)
from brownfield.model.signature import TensorSpec

if TYPE_CHECKING:
    from brownfield.model.session import ServedSession

__all__ = ["PROBE_RULES", "ProbeReport", "probe", "warm_up"]

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

PROBE_RULES: Mapping[str, str] = {
    "probe-crash": "The process ended while it loaded the model or answered.",
    "probe-load": "The engine refuses the model.",
    "probe-memory": "The model needs more memory than it may have.",
    "probe-mismatch": "The answers to the golden records are not those that were recorded.",
    "probe-nan": "An answer to a golden record is not a finite number.",
    "probe-run": "The engine fails on a golden record.",
    "probe-sandbox": "The host cannot confine the process as strictly as declared.",
    "probe-shape": "An answer has another name, type or shape than the one that was recorded.",
    "probe-timeout": "Loading or answering takes too long.",
}
"""Identifier to meaning."""

_ROWS_ALONE = 4
_CURVE_S = 0.25  # that trying calls of more and more records may take
_CURVE_ROWS = 128
_CALLS_OF_A_SIZE = 3  # of which the quickest counts: engines plan and take memory in the first
_LAST_BREATH_S = 5.0  # for a process whose connection broke off to be gone
_RTOL, _ATOL = 1e-3, 1e-5
_BF16_TOLERANCE = 2.0**-6


class _Golden(Protocol):
    @property
    def inputs(self) -> Tensors: ...
    @property
    def outputs(self) -> Tensors: ...


class _Features(Protocol):
    @property
    def batched(self) -> bool: ...


class _Bundle(Protocol):
    @property
    def folder(self) -> Path: ...
    @property
    def features(self) -> _Features: ...
    @property
    def golden(self) -> _Golden | None: ...
    @property
    def inputs(self) -> Sequence[TensorSpec]: ...
    @property
    def outputs(self) -> Sequence[TensorSpec]: ...
    @property
    def session(self) -> "ServedSession": ...


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a model did when it was tried.

    Parameters
    ----------
    hello
        What its process said of itself.
    load_s, answer_s
        Seconds until it was ready, and for the golden records in one call.
    peak_mib
        Memory in use after answering.
    largest_difference
        Between recorded and present answers, absolute; 0 without golden records.
    batch_isolated
        Whether records answered alone and in a batch agree: False means that requests must never share a batch
        (start it with ``max_batch_rows=1``). None when neither the model nor its features say that it takes batches, or
        where no two golden records differ.
    cost_curve_us
        Microseconds in the engine by the records of a call: of 1, 2, 4, ... as far as a quarter of a second went;
        none of a model whose call alone takes longer.
        Empty when the model takes no batches, and without golden records.
    warnings
        What the host lacks to confine it, and the like.
    """

    hello: Hello
    load_s: float
    answer_s: float
    peak_mib: float
    largest_difference: float
    batch_isolated: bool | None
    cost_curve_us: Mapping[int, float]
    warnings: tuple[str, ...]


def probe(  # noqa: PLR0913 (the limits of one trial; all but the first are keywords)
    bundle: _Bundle,
    *,
    program: Program = Program(),  # noqa: B008 (frozen)
    timeout_s: float = 60.0,
    memory_mib: int | None = None,
    threads: int = 1,
    sandbox: SandboxPolicy = SandboxPolicy(),  # noqa: B008 (frozen)
    rtol: float = _RTOL,
    atol: float = _ATOL,
    zygote: Zygote | None = None,
    runtime_folder: Path | None = None,
) -> ProbeReport:
    """Load the model in a process of its own, ask it the golden records, compare, end the process.

    Parameters
    ----------
    bundle
        With ``folder`` (holding the model's files), ``golden`` (``inputs`` and ``outputs`` by name, or None), the
        ``features`` that say whether it is ``batched``, and the ``session`` that it is served in.
    program
        What runs the model, see :meth:`~brownfield.model.Bundle.program`.
    timeout_s
        For loading, and again for answering.
    memory_mib
        Bound on the private memory of the process, None for no bound.
    threads
        Threads of the engine.
    sandbox
        How it is confined.
    rtol, atol
        How far numbers may differ from the recorded ones: ``atol + rtol * |recorded|``. Whole numbers, booleans and
        texts must be equal. In bf16 they may differ by 1 in 64 of the largest: another processor sums up in another
        order.
    zygote
        What its process is forked from where that can be; see :class:`~brownfield.model.process.ModelProcess`.
    runtime_folder
        A private folder for its socket; a temporary one by default, which stays when this process is killed.

    Raises
    ------
    BundleRefused
        By a rule of :data:`PROBE_RULES`; when a signal ended the process, the message names it.
    """
    began = time.monotonic()
    limits: dict[str, Any] = {
        "program": program,
        "memory_mib": memory_mib,
        "threads": threads,
        "sandbox": sandbox,
        "zygote": zygote,
    }
    rtol, atol = _tolerances(bundle, rtol, atol)
    limits |= {"runtime_folder": runtime_folder, **bundle.session.started_with}
    with _process(bundle.folder, timeout_s, **limits) as process:
        load_s = time.monotonic() - began
        if program.module:
            _check_signature(bundle, process.hello)
        difference, answer_s, isolated = 0.0, 0.0, None
        golden = bundle.golden
        if golden is not None:
            began = time.monotonic()
            answers = _ask(process, golden.inputs, timeout_s)
            answer_s = time.monotonic() - began
            difference = _compare(golden.outputs, answers, rtol, atol)
            if process.hello.batched or bundle.features.batched:
                isolated = _isolated(process, golden.inputs, answers, timeout_s, (rtol, atol))
        warnings = list(process.hello.sandbox["warnings"])
        if golden is None:
            warnings.append("the bundle has no golden records: nothing was compared")
        if isolated is False:
            warnings.append("an answer depends on the other records of its batch: requests must not share batches")
        peak_mib = process.resident_mib
        most_rows = bundle.session.rows_within(_CURVE_ROWS) if isolated is not False and not bundle.session.alone else 1
        curve_us = _cost_curve_us(process, golden.inputs, most_rows) if golden is not None else {}
    warnings += [f"a Python model tried in vain: {attempt}" for attempt in process.attempts]
    return ProbeReport(process.hello, load_s, answer_s, peak_mib, difference, isolated, curve_us, tuple(warnings))


def _check_signature(bundle: _Bundle, hello: Hello) -> None:
    """Hold what a class says of itself here to what it said when the bundle was made."""
    for recorded, said in ((bundle.inputs, hello.inputs), (bundle.outputs, hello.outputs)):
        if [(spec.name, spec.dtype, spec.shape) for spec in recorded] != [(t.name, t.dtype, t.shape) for t in said]:
            raise _refused("probe-shape", expected="the tensors that the manifest names", got="others")


def warm_up(bundle: _Bundle, process: ModelProcess, *, timeout_s: float = 60.0) -> None:
    """Ask a new process the golden records before anybody else does: it is warm then, and answers as recorded.

    Parameters
    ----------
    bundle
        As for :func:`probe`; without golden records nothing is asked.
    process
        Ready, and not yet told to anybody.
    timeout_s
        For the answer.

    Raises
    ------
    BundleRefused
        By a rule of :data:`PROBE_RULES`.
    """
    golden = bundle.golden
    if golden is not None:
        _compare(golden.outputs, _ask(process, golden.inputs, timeout_s), *_tolerances(bundle, _RTOL, _ATOL))


def _tolerances(bundle: _Bundle, rtol: float, atol: float) -> tuple[float, float]:
    if bundle.session.precision == "bf16" and bundle.golden is not None:
        return _BF16_TOLERANCE, _BF16_TOLERANCE * _scale(bundle.golden.outputs)
    return rtol, atol


@contextmanager
def _process(
    folder: Path, timeout_s: float, *, runtime_folder: Path | None = None, **limits: Any
) -> Iterator[ModelProcess]:
    """Run a process for the length of a ``with`` block; its socket lies in a private folder."""
    private = nullcontext(runtime_folder) if runtime_folder else tempfile.TemporaryDirectory(prefix="brownfield-probe-")
    with private as runtime:
        try:
            process = ModelProcess.start(folder, runtime_folder=Path(runtime), ready_timeout_s=timeout_s, **limits)
        except StartFailed as error:
            raise _refused(f"probe-{error.cause}", f"{folder}: {error.what}") from error
        try:
            yield process
        finally:
            process.kill()


def _ask(process: ModelProcess, inputs: Tensors, timeout_s: float) -> dict[str, NDArray[Any]]:
    try:
        return call(process.socket_path, inputs, timeout_s=timeout_s)
    except DeadlineExceeded as error:
        raise _refused("probe-timeout", f"no answer to the golden records within {timeout_s:g} s") from error
    except WorkerUnavailable as error:
        raise _lost(process) from error
    except RunFailed as error:
        raise _refused("probe-memory" if error.cause == "memory" else "probe-run", error.what) from error
    except ModelFailed as error:
        raise _refused("probe-run", str(error)) from error


def _lost(process: ModelProcess) -> BundleRefused:
    """Say why a connection broke off: the process ended, or what came was no answer."""
    try:
        return _refused("probe-crash", f"the process ended while it answered ({process.wait(_LAST_BREATH_S)})")
    except TimeoutError:
        return _refused("probe-run", "the process sent something else than an answer to the golden records")


def _compare(recorded: Tensors, answers: Tensors, rtol: float, atol: float) -> float:
    """Largest absolute difference; refused when any is too large."""
    if set(recorded) != set(answers):
        raise _refused("probe-shape", expected=_names(recorded), got=_names(answers))
    largest = 0.0
    for name, expected in recorded.items():
        got = answers[name]
        if _form(got) != _form(expected):
            raise _refused("probe-shape", f"output {name!r}", expected=_form(expected), got=_form(got))
        if got.dtype.kind == "f" and not np.isfinite(got).all():
            raise _refused("probe-nan", f"output {name!r} holds NaN or infinity")
        if not _agree(expected, got, rtol, atol):
            rows = _differing(expected, got, rtol, atol)
            raise _refused("probe-mismatch", f"output {name!r} differs from its record (golden records {rows})")
        if got.dtype.kind == "f" and got.size:
            largest = max(largest, float(np.abs(got.astype("f8") - expected.astype("f8")).max()))
    return largest


def _scale(recorded: Tensors) -> float:
    return max((float(np.abs(a).max()) for a in recorded.values() if a.dtype.kind == "f" and a.size), default=0.0)


def _isolated(
    process: ModelProcess, inputs: Tensors, together: Tensors, timeout_s: float, tolerance: tuple[float, float]
) -> bool | None:
    """Whether the first records get the same answers alone as in the whole batch, whatever the graph calls its rows.

    Records that are all alike prove nothing: the mean of their answers is the answer of each. Engines compute one row
    by other kernels than several, which round otherwise; a softmax makes more of it. An answer that is no further off
    than that is held to the one that the record gets at the same place among as many copies of itself: the kernels are
    the same then, and what still differs comes from the neighbours.
    """
    lengths = {len(array) if array.ndim else 0 for array in inputs.values()}
    rows = lengths.pop() if len(lengths) == 1 else 0
    if rows == 0 or all(np.array_equal(array, np.broadcast_to(array[:1], array.shape)) for array in inputs.values()):
        return None
    for row in range(min(rows, _ROWS_ALONE)):
        record = {name: array[row : row + 1] for name, array in inputs.items()}
        try:
            alone = _ask(process, record, timeout_s)
        except BundleRefused as refused:
            if process.hello.batched or refused.rule != "probe-run":
                raise
            return False  # it takes so many records as it was recorded with, and no other number
        beside = {name: array[row : row + 1] for name, array in together.items() if array.ndim}
        if _all_agree(beside, alone, *tolerance):
            continue
        if not _all_agree(beside, alone, tolerance[0], max(tolerance[1], tolerance[0] * _scale(beside))):
            return False
        copies = _ask(process, {name: np.repeat(array, rows, axis=0) for name, array in record.items()}, timeout_s)
        if not _all_agree(beside, {name: array[row : row + 1] for name, array in copies.items()}, *tolerance):
            return False
    return True


def _all_agree(expected: Tensors, got: Tensors, rtol: float, atol: float) -> bool:
    return all(name in expected and _agree(expected[name], array, rtol, atol) for name, array in got.items())


def _cost_curve_us(process: ModelProcess, inputs: Tensors, most_rows: int) -> dict[int, float]:
    """Time calls of more and more records, golden ones over and over; a size that fails ends it and is no fault."""
    curve_us: dict[int, float] = {}
    golden_rows = len(next(iter(inputs.values()))) if process.hello.batched and inputs else 0
    if not golden_rows:
        return curve_us
    ends = time.monotonic() + _CURVE_S
    rows, next_us = 1, 0.0
    with suppress(BrownfieldError), Caller(process.socket_path, timeout_s=_CURVE_S) as caller:
        while rows <= most_rows and time.monotonic() + _CALLS_OF_A_SIZE * next_us / 1e6 < ends:
            chosen = np.arange(rows) % golden_rows
            tensors = {name: array[chosen] for name, array in inputs.items()}
            for _ in range(_CALLS_OF_A_SIZE):
                time_us = float(max(1, caller.ask(tensors, timeout_s=max(1e-3, ends - time.monotonic())).run_us))
                curve_us[rows] = min(time_us, curve_us.get(rows, time_us))
            rows, next_us = 2 * rows, 2 * curve_us[rows]
    return curve_us


def _agree(expected: NDArray[Any], got: NDArray[Any], rtol: float, atol: float) -> bool:
    if expected.shape != got.shape:
        return False
    if got.dtype.kind == "f":
        return bool(np.allclose(got, expected, rtol=rtol, atol=atol))
    return bool(np.array_equal(got, expected))


def _differing(expected: NDArray[Any], got: NDArray[Any], rtol: float, atol: float) -> str:
    """Numbers of the records that differ, the first ten."""
    pairs = zip(np.atleast_1d(expected), np.atleast_1d(got), strict=True)
    rows = [row for row, (e, g) in enumerate(pairs) if not _agree(np.asarray(e), np.asarray(g), rtol, atol)]
    return ", ".join(map(str, rows[:10])) + (" and more" if len(rows) > 10 else "")  # noqa: PLR2004 (the ten named)


def _form(array: NDArray[Any]) -> str:
    return f"{'str' if array.dtype.kind in 'OUS' else array.dtype.name}{list(array.shape)}"


def _names(tensors: Tensors) -> str:
    return "outputs " + ", ".join(sorted(tensors))


def _refused(rule: str, what: str = "", **details: str | None) -> BundleRefused:
    return BundleRefused(what or PROBE_RULES[rule].rstrip("."), rule=rule, **details)
