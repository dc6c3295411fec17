"""Bring a PyTorch model, or what a program trains, into a search: as ONNX that answers as the module does.

In: the declared program, the tensors of the present bundle, rows. Out: an :class:`Imported`. Refused with
:class:`SourceRefused`: a program that fails, other tensors than the bundle's, and ONNX that answers otherwise than the
module on real rows. The program runs once; the same program, rows and seed give the files that are there already.
"""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.endings import how_it_ended
from brownfield.errors import BrownfieldError, BundleRefused, ModelFailed
from brownfield.fit.rows import Rows
from brownfield.model import Signature, TensorSpec, compute, place_model
from brownfield.store import private_folder, write_private

__all__ = ["Imported", "Source", "SourceRefused", "export_example", "import_model"]

_EXPORTER = Path(__file__).parent / "exporter.py"
_ROOT = str(Path(__file__).resolve().parents[2])
_TRIED = 32
_TOLERANCE = 1e-3
_MOST_BYTES = 8 << 30
_MODEL = "model"
_DRAWN = "model/drawn"

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Tensors(NamedTuple):
    """What goes into a model and comes out of it."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


class SourceRefused(ModelFailed):
    """No model could be made of a declared program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A declared program.

    Parameters
    ----------
    kind
        ``module`` (Python, ``build()``), ``torchscript``, or ``train`` (Python, ``train(rows, labels)``).
    file
        The program; its folder is all that it may read beside the rows.
    weights
        Of a module; None where ``build()`` brings them.
    exporter
        ``auto``, ``dynamo`` or ``classic``.
    """

    kind: str
    file: Path
    weights: Path | None = None
    exporter: str = "auto"

    @property
    def exporters(self) -> list[str]:
        """Exporters to try, in order; the newer one cannot take TorchScript and needs a package of its own."""
        if self.kind == "torchscript":
            return ["classic"]
        if self.exporter != "auto":
            return [self.exporter]
        return ["dynamo", "classic"] if find_spec("onnxscript") is not None else ["classic"]


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What was made of a program.

    Parameters
    ----------
    folder
        With the ``model.onnx`` to be fitted.
    others
        Further models that the program gave, such as a student: files by name.
    how
        In a sentence.
    untrained
        Whether the weights are drawn at random: none were given, and building it twice gives two models.
    """

    folder: str
    others: Mapping[str, str]
    how: str
    untrained: bool = False


def import_model(  # noqa: PLR0913 (the parts of an import, each by name)
    source: Source,
    rows: Rows,
    *,
    like: Tensors,
    folder: Path,
    training: Rows | None = None,
    seed: int = 0,
    timeout_s: float = 600.0,
    memory_mib: int = 16384,
) -> Imported:
    """Run a program in a confined child and keep the ONNX that it gives.

    Parameters
    ----------
    source
        The program.
    rows
        Real requests; a few of them are answered by module and ONNX alike.
    like
        Inputs and outputs of the present bundle, which the model must have too.
    folder
        Keeps what was made.
    training
        What a program that trains is given; other rows than those that judge.
    seed
        Of the child's generators of chance.
    timeout_s, memory_mib
        Limits of the child.

    Raises
    ------
    SourceRefused
        With the reason in one line.
    """
    target = private_folder(folder) / _key(source, rows, training, seed)[:16]
    if not (target / "made.json").is_file():
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".source-", dir=folder) as work:
            tried = _tried(rows)
            options = {"batched": rows.batched, "seed": seed, "memory_mib": memory_mib}
            given = _run(source, tried, like, training, Path(work), options=options, timeout_s=timeout_s)
            staged = Path(work) / "staged"
            staged.mkdir()
            _keep(given, staged, tried if rows.batched else rows.samples[0], like, target)
            staged.rename(target)
    return msgspec.json.decode((target / "made.json").read_bytes(), type=Imported)


def export_example(source: Source, folder: Path, *, timeout_s: float = 600.0, memory_mib: int = 16384) -> Imported:
    """Export a module by the example that its program gives, where there is neither a bundle nor rows yet.

    Parameters
    ----------
    source
        Of the kind ``module``; its file has a function ``example()`` beside ``build()``, which gives arrays by the
        names that the graph's inputs shall have, rows first. ``OUTPUTS`` names the outputs, if it is there.
    folder
        Is made, and holds ``model.onnx``.
    timeout_s, memory_mib
        Limits of the child.

    Raises
    ------
    SourceRefused
        With the reason in one line.
    """
    if source.kind != "module":
        raise SourceRefused("without a bundle only a module can be exported: its file has an example()")
    folder.mkdir(parents=True)
    options = {"batched": True, "seed": 0, "memory_mib": memory_mib}
    given = _run(source, {}, Tensors((), ()), None, folder, options=options, timeout_s=timeout_s)
    own = {name.partition("/")[2]: array for name, array in given.items()}
    tried = {name.partition(".")[2]: array for name, array in own.items() if name.startswith("example.")}
    how = _placed(own, folder / _MODEL, tried, None, _MODEL)
    return Imported(folder=str(folder / _MODEL), others={}, how=how, untrained=_DRAWN in given)


def _key(source: Source, rows: Rows, training: Rows | None, seed: int) -> str:
    whole = hashlib.sha256()
    for file in sorted(source.file.parent.rglob("*.py")):
        whole.update(f"{file.name}\0".encode() + file.read_bytes())
    for read in (source.file, source.weights):
        if read is not None:
            whole.update(hashlib.sha256(read.read_bytes()).digest())
    parts = [source.kind, source.exporters, rows.digest, training.digest if training else "", seed]
    whole.update(msgspec.json.encode(parts))
    return whole.hexdigest()


def _tried(rows: Rows) -> Arrays:
    if rows.batched:
        return rows.joined(min(_TRIED, max(2, len(rows))))
    return {name: array[None] for name, array in rows.samples[0].items()}


def _run(  # noqa: PLR0913 (what a child is given)
    source: Source,
    tried: Arrays,
    like: Tensors,
    training: Rows | None,
    work: Path,
    *,
    options: dict[str, Any],
    timeout_s: float,
) -> Arrays:
    """Start the child, and give the arrays that it gives."""
    given = {f"t.{name}": array for name, array in tried.items()}
    if training is not None:
        given |= {f"x.{name}": array for name, array in _stacked(training).items()}
        given |= {} if training.labels is None else {"y": training.labels}
    if any(array.dtype.kind == "O" for array in given.values()):
        raise SourceRefused("PyTorch takes no texts: the bundle has an input of them", where=source.file.name)
    with (work / "rows.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **given)
    options |= {
        "root": _ROOT,
        "kind": source.kind,
        "folder": str(source.file.parent.resolve()),
        "file": str(source.file.resolve()),
        "weights": str(source.weights.resolve()) if source.weights else "",
        "exporters": source.exporters,
        "inputs": [spec.name for spec in like.inputs],
        "outputs": [spec.name for spec in like.outputs],
        "rows": str((work / "rows.npz").resolve()),
    }
    command = [sys.executable, "-I", "-B", str(_EXPORTER), json.dumps(options)]
    environment = {"LC_ALL": "C.UTF-8", "USER": "brownfield", "HOME": "/nonexistent", "ORT_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(  # noqa: S603 (our own program, no shell)
            command, capture_output=True, check=False, timeout=timeout_s, env=environment, cwd="/"
        )
    except subprocess.TimeoutExpired as error:
        raise SourceRefused(f"the program did not end within {timeout_s:g} s", where=source.file.name) from error
    finally:
        (work / "rows.npz").unlink()
    if done.returncode or len(done.stdout) > _MOST_BYTES:
        ended = how_it_ended(done.returncode)
        raise SourceRefused(f"the program's process ended ({ended})", where=source.file.name)
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if "refused" in arrays:
        raise SourceRefused(f"no model was made: {_text(arrays['refused'])}", where=source.file.name)
    return arrays


def _stacked(rows: Rows) -> Arrays:
    join = np.concatenate if rows.batched else np.stack
    return {name: join([sample[name] for sample in rows.samples]) for name in rows.samples[0]}


def _keep(given: Arrays, staged: Path, tried: Arrays, like: Tensors, target: Path) -> None:
    """Put each model into a folder of its own, the first export that answers as its module does."""
    names = dict.fromkeys(name.partition("/")[0] for name in given)
    told = {}
    for name in names:
        own = {key.partition("/")[2]: array for key, array in given.items() if key.startswith(f"{name}/")}
        told[name] = _placed(own, staged / name, tried, like, name)
    others = {name: str(target / name / "model.onnx") for name in names if name != _MODEL}
    how = f"{told[_MODEL]}; made once, kept in {target.name}"
    made = Imported(folder=str(target / _MODEL), others=others, how=how, untrained=_DRAWN in given)
    write_private(staged / "made.json", msgspec.json.encode(made))


def _placed(own: Arrays, folder: Path, tried: Arrays, like: Tensors | None, name: str) -> str:
    reasons = [f"{key.partition('.')[2]}: {_text(text)}" for key, text in own.items() if key.startswith("failed.")]
    answers = {key.partition(".")[2]: array for key, array in own.items() if key.startswith("answer.")}
    for exporter in ("given", "dynamo", "classic"):
        if exporter not in own:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            signature = place_model(folder, own[exporter].tobytes())
            if like is not None:
                _check_tensors(signature, like)
            if exporter == "given":
                return f"{name} came as ONNX"
            return f"{name} by the {exporter} exporter, {_agreed(folder, tried, answers)}"
        except BundleRefused as error:
            reasons.append(f"{exporter}: the file is refused ({error.rule})")
        except SourceRefused as error:
            reasons.append(f"{exporter}: {error.what}")
    raise SourceRefused(f"no export of {name} can be used: {'; '.join(reasons)}")


def _check_tensors(signature: Signature, like: Tensors) -> None:
    for side in ("inputs", "outputs"):
        found, wanted = getattr(signature, side), getattr(like, side)
        given = {spec.name: spec for spec in found}
        if given.keys() != {spec.name for spec in wanted} or not all(
            _serves(given[spec.name], spec) for spec in wanted
        ):
            shown = ", ".join(f"{spec.name!a} {spec.dtype} {spec.shape}" for spec in wanted)
            raise SourceRefused(f"other {side} than the bundle's {shown}")


def _serves(found: TensorSpec, wanted: TensorSpec) -> bool:
    """Whether a tensor can stand for another: the same type, and no size fixed that was free or is another."""
    if found.dtype != wanted.dtype or found.shape is None or wanted.shape is None:
        return found.dtype == wanted.dtype
    pairs = zip(found.shape, wanted.shape, strict=False)
    return len(found.shape) == len(wanted.shape) and all(size in (None, like) for size, like in pairs)


def _agreed(folder: Path, tried: Arrays, answers: Arrays) -> str:
    """Largest difference between ONNX and module, in words; refused above a thousandth of the scale."""
    given = compute(folder, [tried])[0]
    if isinstance(given, BrownfieldError):
        raise SourceRefused("the engine does not answer the rows with it") from given
    apart = [0.0]
    for name, before in answers.items():
        after = given[name]
        if before.shape != after.shape:
            raise SourceRefused(f"{name!a} has another shape than the module's")
        scale = float(np.abs(before.astype(np.float64)).max(initial=0.0)) or 1.0
        apart.append(float(np.abs(after.astype(np.float64) - before).max(initial=0.0)) / scale)
    largest = float(np.max(apart))  # NaN where either holds one: no agreement
    if not largest <= _TOLERANCE:
        raise SourceRefused(
            f"it differs from the module by {largest:.2g} of the scale, at most {_TOLERANCE:g} is right"
        )
    return f"which differs from the module by {largest:.1g} of the scale"


def _text(array: npt.NDArray[Any]) -> str:
    return array.tobytes().decode(errors="replace")
