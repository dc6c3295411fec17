"""Measure on another machine: pack candidates and rows into one file, and judge what it brings back.

In: a model, rows, limits. Out: a ``.pyz`` that runs with Python, numpy and onnxruntime alone; then, of its result, a
:class:`~brownfield.fit.found.Fit` of that machine. Refused: files, rows or limits other than those that were packed.
"""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.errors import DeclarationError
from brownfield.fit.accuracy import AGREEMENT, compare
from brownfield.fit.build import BuildFailed, bring, build, write_calibration
from brownfield.fit.candidates import FP32, Candidate, Recipe, Session, engines, recipes
from brownfield.fit.choose import Choice, Noise, Row, Verdict, Wanted, choose
from brownfield.fit.found import Fit, Machine
from brownfield.fit.measure import Timing
from brownfield.fit.parcel import pack, unpack
from brownfield.fit.rows import Rows, Split
from brownfield.fit.scaling import scaling_of
from brownfield.fit.slices import compare_slices
from brownfield.fit.upgrade import advised, point_of
from brownfield.integration import PriceBook
from brownfield.model import inspect_onnx
from brownfield.store import private_folder, write_private

__all__ = ["judge_probe", "pack_probe"]

_FORM = 1
_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = (
    *("__init__.py", "errors.py", "confinement.py", "endings.py", "host.py"),
    *("fit/measure.py", "fit/parcel.py", "fit/rows.py"),
)
_FOLDERS = ("statistics", "model/process")
_BARE = ("fit/__init__.py", "model/__init__.py")
_KEPT = "task.json"
_TIMING = {"runs": 480, "time_limit_s": 15.0}
_MOST_BYTES = 4 << 30
_MOST_FINAL = 2000


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    folder: str
    recipe: Recipe


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe is told, and what is kept here of it."""

    form: int
    search: str
    models: tuple[_Model, ...]
    failed: tuple[Row, ...]
    session: dict[str, Any]
    engines: tuple[dict[str, Any], ...]
    memory_mib: int | None
    batched: bool
    timing: dict[str, float]
    files: dict[str, str]
    key: str = ""


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    session: dict[str, Any]
    cause: str = ""
    failure: str = ""
    timing: Timing | None = None
    isolated: bool | None = None
    curve_us: dict[str, float] = {}


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe brings back."""

    key: str
    host: Machine
    rows: tuple[_Measured, ...]
    noise: Noise | None = None
    memory_mib: int | None = None


def pack_probe(  # noqa: PLR0913 (the parts of a probe, each by name)
    source: Path,
    rows: Rows,
    wanted: Wanted,
    *,
    folder: Path,
    file: Path,
    seed: int = 0,
    given: Mapping[str, Path] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Build the candidates here, and write them with the rows and the measuring code into one file.

    Parameters
    ----------
    source, rows, wanted, seed, given, progress
        As :func:`brownfield.fit.search` takes them.
    folder
        Keeps model files, and what was packed.
    file
        The probe; readable by its owner alone, for it holds the rows.

    Raises
    ------
    DeclarationError
        When the file exists already, or its folder does not.
    """
    if file.exists():
        raise DeclarationError(where=str(file), expected="no file yet", got="one")
    if not file.absolute().parent.is_dir():
        raise DeclarationError(where=str(file), expected="a folder to write into", got="none")
    private_folder(folder)
    split = _split(rows, seed)
    models, failed = _built(source, split, folder, rows, given or {}, progress)
    content = _code()
    for model in models:
        place = source if model.recipe == FP32 else folder / model.folder
        content |= {f"{model.folder}/{each.name}": each.read_bytes() for each in _files(place)}
    content["rows.npz"] = _arrays({**pack("search", split.selection.samples), **pack("final", split.final.samples)})
    task = _Task(
        form=_FORM,
        search=_digest(source, rows, wanted, seed),
        models=tuple(models),
        failed=tuple(failed),
        session=msgspec.to_builtins(Session()),
        engines=tuple(_changed(each) for each in engines(calibrated=not rows.invented)),
        memory_mib=wanted.memory_mib,
        batched=rows.batched,
        timing=_TIMING,
        files={name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    )
    task = msgspec.structs.replace(task, key=hashlib.sha256(msgspec.json.encode(task, order="sorted")).hexdigest())
    write_private(folder / _KEPT, msgspec.json.encode(task))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("__main__.py", (_PACKAGE / "fit" / "probe_program.py").read_bytes())
        packed.writestr(_KEPT, msgspec.json.encode(task))
        for name, data in content.items():
            packed.writestr(name, data)
    write_private(file, whole.getvalue())
    return file


def judge_probe(  # noqa: PLR0913 (the parts of a verdict, each by name)
    result: Path,
    source: Path,
    rows: Rows,
    wanted: Wanted,
    *,
    folder: Path,
    seed: int = 0,
    prices: PriceBook | None = None,
) -> Fit:
    """Judge what a probe measured, as if it had been measured here.

    Parameters
    ----------
    result
        As the probe wrote it.
    source, rows, wanted, folder, seed
        As :func:`pack_probe` took them.
    prices
        The site's book.

    Raises
    ------
    DeclarationError
        When nothing was packed, the result is none of the probe that was packed last, or model, rows, limits or seed
        have changed since.
    """
    task = _packed(folder, _digest(source, rows, wanted, seed))
    found, arrays = _brought_back(result, task.key)
    split = _split(rows, seed)
    table = _table(found, arrays, task, split, wanted, folder=folder, source=source, seed=seed)
    if table is None:
        raise _not_ours(result, "one of other models or rows")
    if found.noise is None:
        why = f"the model itself does not run there: {table[-1].failure}"
        choice = Choice(verdict=Verdict.DOES_NOT_FIT, why=why, reasons={"fp32": table[-1].failure})
    else:
        choice = choose(table, wanted, found.noise, found.memory_mib)
    chosen = next((row for row in table if row.candidate.name == (choice.chosen or choice.nearest)), None)
    fit = Fit(
        choice=choice,
        rows=tuple(table),
        wanted=wanted,
        machine=found.host,
        noise=found.noise,
        calibration_rows=len(split.calibration),
        selection_rows=len(split.selection),
        final_rows=len(split.final),
        invented_rows=rows.invented,
        complete=True,
        resumed=0,
        seed=seed,
        seconds=0.0,
        model_folder=_folder_of(chosen, task, folder, source),
    )
    if choice.verdict != Verdict.DOES_NOT_FIT:
        return fit
    same = [row for row in table if chosen is not None and _on_one_thread(row) == _on_one_thread(chosen)]
    points = [point_of(row.candidate.session.threads, row.timing) for row in same if row.timing is not None]
    return advised(fit, rows, scaling_of(points) if points else None, prices)


def _table(  # noqa: PLR0913 (what a table is made of)
    found: _Result,
    arrays: Mapping[str, npt.NDArray[Any]],
    task: _Task,
    split: Split,
    wanted: Wanted,
    *,
    folder: Path,
    source: Path,
    seed: int,
) -> list[Row] | None:
    """Rows of the table; None where models or numbers of answers are not those that were packed."""
    metric = wanted.metric if split.final.labels is not None else AGREEMENT
    models = {model.name: model for model in task.models}
    table = list(task.failed)
    try:
        reference = unpack("reference", arrays)
        for number, each in enumerate(found.rows):
            model = models[each.model]
            row = _row(each, model, folder / model.folder if model.recipe != FP32 else source)
            if each.timing is not None:
                answers = unpack(f"a{number}", arrays)
                if not len(answers) == len(reference) == len(split.final):
                    return None
                right = compare(reference, answers, split.final, metric=metric, seed=seed)
                groups = compare_slices(reference, answers, split.final, metric=metric, seed=seed)
                row = msgspec.structs.replace(row, accuracy=right, slices=groups)
            table.append(row)
    except (KeyError, ValueError, TypeError):
        return None
    return table if found.rows else None


def _built(
    source: Path,
    split: Split,
    folder: Path,
    rows: Rows,
    given: Mapping[str, Path],
    progress: Callable[[str, int, int | None], None] | None,
) -> tuple[list[_Model], list[Row]]:
    """Files for processors with and without fast int8: which of them the target has, it will say."""
    import onnx

    operators = [node.op_type for node in onnx.load(source / "model.onnx", load_external_data=False).graph.node]
    calibrated = not rows.invented and len(split.calibration) > 0
    wanted = [recipe for vnni in (True, False) for recipe in recipes(operators, vnni=vnni, calibrated=calibrated)]
    if calibrated:
        for name, file in given.items():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            wanted.append(Recipe(kind="given", label=name, digest=digest))
    models, failed = [], []
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=folder) as work:
        calibration = Path(work) / "calibration.npz"
        write_calibration(calibration, split.calibration)
        for recipe in dict.fromkeys(wanted):
            if progress is not None:
                progress(f"build {recipe.name}", 0, None)
            digest = hashlib.sha256(msgspec.json.encode([recipe, _model_digest(source)])).hexdigest()[:12]
            model = _Model(name=recipe.name, folder=f"models/{digest}", recipe=recipe)
            try:
                if recipe.kind == "given":
                    bring(given[recipe.label], source, folder / model.folder)
                elif recipe != FP32:
                    build(recipe, source, folder / model.folder, calibration=calibration)
            except BuildFailed as error:
                why = error.what or str(error)
                failed.append(Row(candidate=Candidate(recipe=recipe), stage="build", cause="BuildFailed", failure=why))
                continue
            models.append(model)
    return models, failed


def _code() -> dict[str, bytes]:
    files = [_PACKAGE / name for name in _CODE]
    files += [file for name in _FOLDERS for file in sorted((_PACKAGE / name).rglob("*.py"))]
    bare = {f"brownfield/{name}": b'"""Packed without its front."""\n' for name in _BARE}
    return {f"brownfield/{file.relative_to(_PACKAGE).as_posix()}": file.read_bytes() for file in files} | bare


def _files(folder: Path) -> list[Path]:
    """Model and weights beside it, without what a bundle holds besides."""
    model = folder / "model.onnx"
    return [model, *(folder / name for name in inspect_onnx(model).external_files)]


def _changed(session: Session) -> dict[str, Any]:
    """Give what is not as in the default session."""
    usual = msgspec.to_builtins(Session())
    return {key: value for key, value in msgspec.to_builtins(session).items() if value != usual[key]}


def _split(rows: Rows, seed: int) -> Split:
    split = rows.split(seed)
    return split._replace(final=split.final.take(np.arange(min(len(split.final), _MOST_FINAL))))


def _arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    whole = io.BytesIO()
    np.savez(whole, allow_pickle=False, **arrays)
    return whole.getvalue()


def _model_digest(source: Path) -> str:
    return hashlib.sha256((source / "model.onnx").read_bytes()).hexdigest()


def _digest(source: Path, rows: Rows, wanted: Wanted, seed: int) -> str:
    parts = [_FORM, _model_digest(source), rows.digest, wanted, seed]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _packed(folder: Path, search: str) -> _Task:
    try:
        task = msgspec.json.decode((folder / _KEPT).read_bytes(), type=_Task)
    except FileNotFoundError:
        next_step = "Pack one with --pack-probe."
        raise DeclarationError(path="--on", expected="a probe packed here", got="none", next_step=next_step) from None
    if task.search != search:
        raise DeclarationError(
            path="--on",
            expected="the model, rows, limits and seed that were packed",
            got="others",
            next_step="Give the rows and the seed as --pack-probe was given them, or pack again and run that probe.",
        )
    return task


def _brought_back(file: Path, key: str) -> tuple[_Result, dict[str, npt.NDArray[Any]]]:
    try:
        with zipfile.ZipFile(file) as zipped:
            if sum(each.file_size for each in zipped.infolist()) > _MOST_BYTES:
                raise _not_ours(file, "one that is too large")
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found = msgspec.json.decode(arrays.pop("result").tobytes(), type=_Result)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, MemoryError, msgspec.MsgspecError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise _not_ours(file, "no such file" if missing else type(error).__name__) from error
    if found.key != key:
        raise _not_ours(file, "one of another probe")
    return found, arrays


def _not_ours(file: Path, got: str) -> DeclarationError:
    next_step = "Run the probe that was packed last, unchanged."
    return DeclarationError(where=str(file), expected="a result of the packed probe", got=got, next_step=next_step)


def _row(each: _Measured, model: _Model, place: Path) -> Row:
    session = msgspec.structs.replace(Session(), **each.session)
    return Row(
        candidate=Candidate(recipe=model.recipe, session=session),
        stage="final",
        cause=each.cause,
        failure=each.failure,
        timing=each.timing,
        isolated=each.isolated,
        curve_us=each.curve_us,
        size_mib=round((place / "model.onnx").stat().st_size / 2**20, 2),
    )


def _on_one_thread(row: Row) -> Candidate:
    session = msgspec.structs.replace(row.candidate.session, threads=1)
    return msgspec.structs.replace(row.candidate, session=session)


def _folder_of(row: Row | None, task: _Task, folder: Path, source: Path) -> str:
    if row is None:
        return ""
    model = next(each for each in task.models if each.recipe == row.candidate.recipe)
    return str(source if model.recipe == FP32 else folder / model.folder)
