"""The search: build every candidate, time all of them shortly, the better ones longer, the best on rows never seen.

In: the folder of a model, rows, limits. Out: a :class:`Fit` with a verdict and a row for every candidate. Whatever a
candidate does (fail to be built, to load, to answer; crash; eat memory) is its row. Killed in the middle, the next
call with the same arguments goes on from the journal.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from brownfield.errors import BrownfieldError
from brownfield.fit.accuracy import AGREEMENT, compare
from brownfield.fit.build import BuildFailed, bring, build, rank, write_calibration
from brownfield.fit.candidates import (
    FP32,
    ONNXRUNTIME,
    OPENVINO,
    Candidate,
    Recipe,
    Session,
    engines,
    recipes,
    sessions,
)
from brownfield.fit.choose import Choice, Noise, Row, Verdict, Wanted, choose, decided, right_so_far, survivors
from brownfield.fit.found import Fit, Machine
from brownfield.fit.journal import Journal
from brownfield.fit.layers import counts, promising
from brownfield.fit.measure import Answers, Timing, answers, cost_curve, isolated, memory_needed, running, trial
from brownfield.fit.metric import Metric
from brownfield.fit.rows import Rows
from brownfield.fit.slices import compare_slices
from brownfield.host import read_host
from brownfield.model.process import Caller
from brownfield.store import private_folder

__all__ = ["Progress", "search"]

Progress: TypeAlias = Callable[[str, int, int | None], None]

_FORM = 2
_RUNS = {"noise": 480, "glance": 48, "screen": 240, "refine": 240, "final": 960}
_SECONDS = {"noise": 10.0, "glance": 2.0, "screen": 5.0, "refine": 8.0, "final": 40.0}
_MOST_SCREENED, _MOST_REFINED, _MOST_FINAL = 5, 1, 4
_GLANCED_ROWS = 20
_UNKNOWN = "the most harmful one"
_USUAL_LIMIT_S = 540.0  # with what comes before and after a search, under ten minutes
_FINAL_SHARE = 0.4
_LEAST_FINAL_S = 15.0
_MODEL = "model.onnx"


def search(  # noqa: PLR0913 (the parts of a search, each by name)
    source: Path,
    rows: Rows,
    wanted: Wanted,
    *,
    folder: Path,
    seed: int = 0,
    time_limit_s: float = _USUAL_LIMIT_S,
    progress: Progress | None = None,
    tried: Iterable[Recipe] | None = None,
    run_in: Iterable[Session] | None = None,
    given: Mapping[str, Path] | None = None,
) -> Fit:
    """Search for the candidate that serves best within the limits.

    Parameters
    ----------
    source
        Folder with ``model.onnx``.
    rows
        To calibrate with, search by and judge by.
    wanted
        The limits.
    folder
        Keeps journal and model files from call to call.
    seed
        Of the split and the bootstraps.
    time_limit_s
        Wall time; the last stage has at least two fifths of it. What could not be measured in it makes the verdict
        INVALID, and the next call goes on.
    progress
        Called with what is done, how far, of how much.
    tried
        Recipes instead of those that suit the graph.
    run_in
        Sessions instead of those that suit the machine; the default one is always tried.
    given
        Further model files by name, such as a distilled student: candidates like any other.
    """
    private_folder(folder)
    brought = {name: (file, hashlib.sha256(file.read_bytes()).hexdigest()) for name, file in (given or {}).items()}
    ask = progress or (lambda *_: None)
    return _Search(source, rows, wanted, folder, seed, time_limit_s, ask, brought).run(tried, run_in)


class _TimeUp(Exception):
    """The wall time is spent."""


class _Search:
    def __init__(  # noqa: PLR0913, PLR0917 (as `search`)
        self,
        source: Path,
        rows: Rows,
        wanted: Wanted,
        folder: Path,
        seed: int,
        time_limit_s: float,
        progress: Progress,
        given: Mapping[str, tuple[Path, str]],
    ) -> None:
        self._source, self._rows, self._wanted, self._seed = source, rows, wanted, seed
        self._limit_s, self._progress, self._began = time_limit_s, progress, time.monotonic()
        self._split = rows.split(seed)
        self._given = given
        self._machine = Machine.of(read_host())
        self._key = self._make_key()
        self._folder = folder
        self._journal = Journal(folder / "journal.jsonl", self._key)
        self._calibration = folder / "calibration.npz"
        self._models = folder / "models" / self._key[:16]
        self._table: dict[str, Row] = {}
        self._reference: dict[str, Answers] = {}
        self._share_s = 0.0

    def run(self, tried: Iterable[Recipe] | None, run_in: Iterable[Session] | None) -> Fit:
        noise, complete, needed = None, True, None
        others = [each for each in (sessions(self._machine.cores) if run_in is None else run_in) if each != Session()]
        try:
            noise = self._noise()
            if noise is not None:
                try:
                    wanted = list(tried) if tried is not None else self._suitable()
                    self._screen(self._built([*wanted, *self._brought()]) + self._engines(run_in))
                    self._leave_out_layers()
                    self._stage("refine", self._refinements(others))
                except _TimeUp:
                    complete = False
                self._stage("final", self._finalists(), last=True)
                needed = self._memory_needed()
        except _TimeUp:
            complete = False
        finally:
            self._journal.close()
            self._calibration.unlink(missing_ok=True)  # rows may be personal data: none is left behind
        return self._fit(noise, needed, complete=complete)

    def _fit(self, noise: Noise | None, needed: int | None, *, complete: bool) -> Fit:
        table = tuple(self._table.values())
        if noise is None and complete:
            why = f"the model itself does not run: {table[0].failure}"
            choice = Choice(verdict=Verdict.DOES_NOT_FIT, why=why, reasons={"fp32": table[0].failure})
        elif noise is None or not (complete or any(row.stage == "final" for row in table)):
            why = "the time was up before anything was measured to the end; the next call goes on from here"
            choice = Choice(verdict=Verdict.INVALID, why=why)
        else:
            choice = choose(table, self._wanted, noise, needed)
        chosen = self._table.get(choice.chosen or choice.nearest)
        return Fit(
            choice=choice,
            rows=table,
            wanted=self._wanted,
            machine=self._machine,
            noise=noise,
            calibration_rows=len(self._split.calibration),
            selection_rows=len(self._split.selection),
            final_rows=len(self._split.final),
            invented_rows=self._rows.invented,
            complete=complete,
            resumed=self._journal.resumed,
            seed=self._seed,
            seconds=round(time.monotonic() - self._began, 1),
            model_folder=str(self._path(chosen.candidate.recipe)) if chosen else "",
        )

    def _make_key(self) -> str:
        model = hashlib.sha256((self._source / _MODEL).read_bytes()).hexdigest()
        given = {name: digest for name, (_, digest) in self._given.items()}
        parts = [_FORM, model, self._rows.digest, self._rows.invented, self._wanted, self._seed, self._machine, given]
        return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()

    def _suitable(self) -> list[Recipe]:
        import onnx

        graph = onnx.load(self._source / _MODEL, load_external_data=False).graph
        vnni = bool({"avx512_vnni", "avx_vnni", "asimddp"} & set(self._machine.cpu_flags))
        calibrated = not self._rows.invented and len(self._split.calibration) > 0
        return list(recipes([node.op_type for node in graph.node], vnni=vnni, calibrated=calibrated))

    def _engines(self, run_in: Iterable[Session] | None) -> list[Candidate]:
        """Candidates of the file as it came in the other engine."""
        wanted = engines(calibrated=not self._rows.invented) if run_in is None else run_in
        return [Candidate(session=each) for each in wanted if each.engine == OPENVINO and each.plain]

    def _screen(self, candidates: list[Candidate]) -> None:
        """Time candidates on all rows to search by: where there are many, those that a glance leaves."""
        if len(candidates) > _MOST_SCREENED:
            self._stage("glance", candidates)
            seen = [self._table[candidate.name] for candidate in candidates]
            candidates = [row.candidate for row in survivors(seen, self._wanted, _MOST_SCREENED)]
        self._stage("screen", candidates)

    def _leave_out_layers(self) -> None:
        """Keep ever more of the layers that harm most in fp32, until an int8 that is fast and wrong is right."""
        found = promising(list(self._table.values()), self._wanted)
        if found is None:
            return
        recipe = found.candidate.recipe
        layers = self._ranked(recipe)
        for count in counts(len(layers)) if layers else ():
            made = self._built([msgspec.structs.replace(recipe, left_out=tuple(layers[:count]))])
            self._stage("screen", made)
            row = self._table[made[0].name] if made else None
            if row is None or row.timing is None or row.timing.ratio.value > 1:
                return
            if right_so_far(row, self._wanted):
                return

    def _ranked(self, recipe: Recipe) -> list[str]:
        """Layers of a recipe, the most harmful first; empty, and a row that says why, where that cannot be found."""
        known = self._journal.get("rank", recipe.name, list[str])
        if known is None:
            self._check_time(_FINAL_SHARE)
            self._show(f"layers of {recipe.name}")
            try:
                known = rank(recipe, self._source, **self._inputs(recipe))
            except BuildFailed as error:
                self._check_time(_FINAL_SHARE)  # it may be the time that was too short
                candidate = Candidate(recipe=msgspec.structs.replace(recipe, left_out=(_UNKNOWN,)))
                self._table[candidate.name] = _failed(candidate, "build", error)
                return []
            self._journal.add("rank", recipe.name, known)
        return known

    def _inputs(self, recipe: Recipe) -> dict[str, Any]:
        """Give what every process that makes a file is told."""
        tensors = hashlib.sha256("+".join(recipe.operators).encode()).hexdigest()[:12]
        return {
            "calibration": self._calibration,
            "ranges": self._models / f"ranges-{recipe.calibrator}-{tensors}.json",
            "timeout_s": max(5.0, min(self._limit_s / 4, self._left_s(_FINAL_SHARE))),
        }

    def _brought(self) -> list[Recipe]:
        """Files that somebody brought; on invented rows nothing can be said of them."""
        each = self._given.items() if not self._rows.invented else ()
        return [Recipe(kind="given", label=name, digest=digest) for name, (_, digest) in each]

    def _noise(self) -> Noise | None:
        """Time fp32 against itself; None, and a row that says why, when it does not run."""
        known = self._journal.get("noise", "fp32", Noise)
        if known is None or known.complaint:
            self._show("fp32 against itself")
            try:
                with self._trial("noise", self._source, Session(), memory_mib=None) as (timing, _):
                    known = Noise(ratio=timing.ratio.value, steal_share=timing.steal_share)
            except BrownfieldError as error:
                self._table["fp32"] = _failed(Candidate(), "screen", error)
                return None
            self._journal.add("noise", "fp32", known)
        return known

    def _built(self, wanted: Iterable[Recipe]) -> list[Candidate]:
        """Candidates whose file could be made; the others are rows."""
        made = []
        if not self._calibration.exists():
            write_calibration(self._calibration, self._split.calibration)
        for recipe in wanted:
            candidate = Candidate(recipe=recipe)
            row = self._journal.get("build", candidate.name, Row)
            if row is None:
                self._show(f"build {candidate.name}")
                row = self._build(candidate)
                if row is not None:
                    self._journal.add("build", candidate.name, row)
            if row is None:
                made.append(candidate)
            else:
                self._table[candidate.name] = row
        return made

    def _build(self, candidate: Candidate) -> Row | None:
        self._check_time(_FINAL_SHARE)
        if candidate.recipe == FP32:
            return None
        try:
            if candidate.recipe.kind == "given":
                bring(self._given[candidate.recipe.label][0], self._source, self._path(candidate.recipe))
                return None
            build(candidate.recipe, self._source, self._path(candidate.recipe), **self._inputs(candidate.recipe))
        except BuildFailed as error:
            self._check_time(_FINAL_SHARE)
            return _failed(candidate, "build", error)
        return None

    def _path(self, recipe: Recipe) -> Path:
        name = hashlib.sha256(msgspec.json.encode(recipe)).hexdigest()[:12]
        return self._source if recipe == FP32 else self._models / name

    def _refinements(self, others: list[Session]) -> list[Candidate]:
        """Best recipes in the other sessions; those that need too much memory without the arena."""
        best = [row.candidate for row in survivors(self._screened(), self._wanted, _MOST_REFINED)]
        starved = [row.candidate for row in self._table.values() if row.cause == "memory"]
        both = [*best, *starved]
        refined = [
            Candidate(recipe=each.recipe, session=msgspec.structs.replace(session, **_engine_of(each.session)))
            for each in both
            for session in others
            if session.engine == ONNXRUNTIME and (each in best or not session.arena)
        ]
        return [each for each in refined if each.session.arena or each.session.engine == ONNXRUNTIME]

    def _screened(self) -> list[Row]:
        """Rows that a glance did not leave behind."""
        return [row for row in self._table.values() if row.stage != "glance"]

    def _finalists(self) -> list[Candidate]:
        within = [row for row in self._screened() if row.candidate.session.threads <= self._wanted.threads]
        plain = [row for row in within if row.candidate.session.plain]
        other = [row for row in within if not row.candidate.session.plain]
        best = survivors(plain, self._wanted, _MOST_FINAL)
        enough = any(row.timing and _within(row.timing, self._wanted) for row in best)
        if not enough:  # more threads and no arena are second to fewer: tried where the plain ones do not do
            best += survivors(other, self._wanted, _MOST_FINAL // 2)
        return [row.candidate for row in best]

    def _stage(self, stage: str, candidates: list[Candidate], *, last: bool = False) -> None:
        for number, candidate in enumerate(candidates):
            row = self._journal.get(stage, candidate.name, Row)
            if row is None or (last and not decided(row, self._wanted)):
                self._check_time(0.0 if last else _FINAL_SHARE)
                self._show(f"{stage} {number + 1}/{len(candidates)}, {candidate.name}")
                self._share_s = self._left_s() / (len(candidates) - number) / 2
                row = self._try(stage, candidate)
                self._journal.add(stage, candidate.name, row)
            self._table[candidate.name] = row

    def _try(self, stage: str, candidate: Candidate) -> Row:
        """Time a candidate, then ask it the rows of the stage, in processes under the declared limit of memory."""
        folder, session = self._path(candidate.recipe), candidate.session
        part = self._split.final if stage == "final" else self._split.selection
        try:
            reference = self._reference_answers(stage == "final", part)
            if stage == "glance":
                part = part.take(np.arange(min(_GLANCED_ROWS, len(part))))
                reference = reference[: len(part)]
            with self._trial(stage, folder, session, memory_mib=self._wanted.memory_mib) as (timing, caller):
                given = answers(caller, part)
                alone = isolated(caller, part) if stage == "final" else None
                curve = cost_curve(caller, part) if stage == "final" else {}
        except BrownfieldError as error:
            return _failed(candidate, stage, error)
        return Row(
            candidate=candidate,
            stage=stage,
            timing=timing,
            accuracy=compare(reference, given, part, metric=self._metric, seed=self._seed),
            isolated=alone,
            curve_us=curve,
            size_mib=round((folder / _MODEL).stat().st_size / 2**20, 2),
            slices=compare_slices(reference, given, part, metric=self._metric, seed=self._seed),
        )

    @property
    def _metric(self) -> str | Metric:
        if self._rows.labels is None:
            return AGREEMENT
        name, code = self._wanted.metric, self._wanted.metric_code
        return Metric(name=name, code=code, file=self._wanted.metric_file) if code else name

    def _trial(
        self, stage: str, folder: Path, session: Session, *, memory_mib: int | None
    ) -> AbstractContextManager[tuple[Timing, Caller]]:
        return trial(
            self._source,
            folder,
            session,
            self._split.selection,
            memory_mib=memory_mib,
            runs=_RUNS[stage],
            time_limit_s=self._seconds(stage),
        )

    def _seconds(self, stage: str) -> float:
        """How long to time a candidate; in the last stage half its share of what is left, for there are answers too."""
        scaled = _SECONDS[stage] * min(1.0, self._limit_s / _USUAL_LIMIT_S)
        return max(min(scaled, _LEAST_FINAL_S), min(_SECONDS[stage], self._share_s)) if stage == "final" else scaled

    def _reference_answers(self, final: bool, part: Rows) -> Answers:  # noqa: FBT001 (one of two parts)
        name = "final" if final else "selection"
        if name not in self._reference:
            with running(self._source, Session()) as (_, caller, _):
                self._reference[name] = answers(caller, part)
        return self._reference[name]

    def _memory_needed(self) -> int | None:
        row = self._table.get("fp32")
        if row is None or row.cause != "memory" or self._wanted.memory_mib is None:
            return None
        known = self._journal.get("memory", "fp32", dict[str, int | None])
        if known is None:
            self._show("memory that fp32 needs")
            found = memory_needed(self._source, Session(), self._split.selection, self._wanted.memory_mib)
            known = {"memory_mib": found}
            self._journal.add("memory", "fp32", known)
        return known["memory_mib"]

    def _check_time(self, kept_share: float) -> None:
        if self._left_s(kept_share) < 0:
            raise _TimeUp

    def _left_s(self, kept_share: float = 0.0) -> float:
        return self._limit_s * (1 - kept_share) - (time.monotonic() - self._began)

    def _show(self, what: str, done: int = 0, total: int | None = None) -> None:
        self._progress(what, done, total)


def _engine_of(session: Session) -> dict[str, str]:
    return {"engine": session.engine, "precision": session.precision}


def _within(timing: Timing, wanted: Wanted) -> bool:
    return wanted.latency_p99_ms is None or timing.p99_us[0] <= wanted.latency_p99_ms * 1000


def _failed(candidate: Candidate, stage: str, error: BrownfieldError) -> Row:
    cause = str(getattr(error, "cause", "") or type(error).__name__)
    ended = str(getattr(error, "ended", ""))
    what = error.what or str(error)
    failure = f"{what} ({ended})" if ended and ended not in what else what
    return Row(candidate=candidate, stage=stage, cause=cause, failure=failure)
