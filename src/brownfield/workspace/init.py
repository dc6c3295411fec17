"""Begin a workspace: with an ONNX model or a Python class, or with a contract and a fallback before there is a model.

In: a folder, and perhaps a model and sample records. Out: the files of a workspace that passes ``brownfield check``
and can be served at once. Refused: a folder that already holds a workspace; nothing is left behind then.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.errors import BrownfieldError, BundleRefused, DeclarationError
from brownfield.integration import load_document
from brownfield.model import (
    Answer,
    Environments,
    Golden,
    Signature,
    Tensors,
    TensorSpec,
    as_golden,
    compute,
    place_model,
    program_for,
    sample_tensors,
    write_bundle,
)
from brownfield.workspace.brought import Brought
from brownfield.workspace.draft import as_text, draft_contract, slug
from brownfield.workspace.sample_file import read_sample

__all__ = ["SIZES", "Begun", "init_empty", "init_from_model"]

_WORKSPACE = """\
# A Brownfield workspace: what is declared here and in integrations/*/integration.yaml is all there is.
workspace: {name}
serving: {{host: 127.0.0.1, port: 8080}}
"""

_WITH_MODEL = """\
# {name} answers with the model in bundles/{name}.
integration: {text}
purpose: Answer with the model that was brought.
contract: contract.odcs.yaml
model: {{path: bundles/{name}}}
# When the model cannot answer in time, the fallback does. Until a chain is declared the caller gets a refusal instead:
# a table of answers by key, or a constant with a value for every response field of the contract.
fallback: {{deadline_ms: 10000}}
doors: {{http: {{}}}}
"""

_WITHOUT_MODEL = """\
# {name} answers with its fallback until a model is declared (model: {{path: bundles/NAME}}).
integration: {text}
purpose: Score a purchase.
contract: contract.odcs.yaml
fallback:
  deadline_ms: 1000
  chain:
    - constant: {{score: 0.5, review: true}}
doors: {{http: {{}}}}
"""

_CONTRACT = """\
# The contract comes before the model: say what is sent and what is expected, and callers can begin.
apiVersion: v3.2.0
kind: DataContract
id: {name}
version: 0.1.0
status: draft
schema:
  - name: request
    logicalType: object
    properties:
      - {{name: store_id, logicalType: integer, required: true, logicalTypeOptions: {{minimum: 1}}}}
      - {{name: amount, logicalType: number, required: true, logicalTypeOptions: {{minimum: 0, maximum: 1000000}}}}
      - name: items
        logicalType: array
        items: {{logicalType: string, logicalTypeOptions: {{maxLength: 64}}}}
        logicalTypeOptions: {{maxItems: 200}}
  - name: response
    logicalType: object
    properties:
      - {{name: score, logicalType: number, required: true, logicalTypeOptions: {{minimum: 0, maximum: 1}}}}
      - {{name: review, logicalType: boolean, required: true}}
"""

_UNTRAINED = (
    "the weights of {file} are drawn at random, so that its answers mean nothing: no --weights were given, and build() "
    "loads none"
)
_CONTRACT_FILE = "contract.odcs.yaml"
_SEED = 20_260_101
_ROWS = 3
SIZES = (1, 16, 512)
"""What open dimensions of invented records are tried with."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What was begun.

    Parameters
    ----------
    folder
        The workspace.
    name
        Its integration, also the V2 name of its model.
    batched
        Whether a request may hold many records.
    warnings
        What a person should know before relying on it.
    """

    folder: Path
    name: str
    batched: bool
    warnings: tuple[str, ...] = ()


def init_empty(folder: Path, name: str | None = None) -> Begun:
    """Begin a workspace without a model.

    Parameters
    ----------
    folder
        Must not hold a workspace yet.
    name
        Of the integration; the folder's name as a slug when left out.

    Raises
    ------
    DeclarationError
        When the folder already holds a workspace.
    """
    name = slug(name or folder.resolve().name)
    with _staged(folder) as staged:
        _write_declarations(staged, folder, name, _WITHOUT_MODEL, _CONTRACT.format(name=as_text(name)))
    return Begun(folder, name, batched=True)


def init_from_model(  # noqa: PLR0913 (what is brought, and where from, each by name)
    folder: Path,
    model: Path | Brought,
    name: str | None = None,
    sample: Path | None = None,
    *,
    wheels: Path | None = None,
    online: bool = False,
    weights: Path | None = None,
) -> Begun:
    """Begin a workspace that serves an ONNX model, what becomes of a PyTorch module, or a Python class.

    Parameters
    ----------
    folder
        Must not hold a workspace yet.
    model
        The ONNX file (weights beside it are copied along), the file of a PyTorch module (``.py``, see
        :func:`brownfield.fit.export_example`), or what else was brought.
    name
        Of the integration; the folder's name as a slug when left out.
    sample
        JSON file with records to keep as golden records: a V2 request, a record, or a list of records. When left out,
        records are invented, and a model that cannot answer those is a warning.
    wheels, online
        Where packages of a lock come from, see :meth:`brownfield.model.Environments.build`.
    weights
        Of a PyTorch module.

    Raises
    ------
    SourceRefused
        When no ONNX can be made of a module.
    BundleRefused
        When the model is not admitted, or cannot answer the sample.
    DeclarationError
        When the sample does not fit the graph, or the folder already holds a workspace.
    """
    name = slug(name or folder.resolve().name)
    brought = model if isinstance(model, Brought) else Brought(model)
    with _staged(folder) as staged, tempfile.TemporaryDirectory(prefix="brownfield-") as scratch:
        drafted_from = brought.file_name
        untrained: tuple[str, ...] = ()
        if isinstance(brought.model, Path) and brought.model.suffix == ".py":
            from brownfield.fit import Source, export_example

            module = Source(kind="module", file=brought.model, weights=weights)
            exported = export_example(module, staged / "exported")
            untrained = (_UNTRAINED.format(file=brought.model.name),) if exported.untrained else ()
            brought = Brought(Path(exported.folder) / "model.onnx")
        environments = Environments(folder / "var" / "environments")
        if brought.lock:
            environments.build(brought.lock, wheels=wheels, online=online)
        program = program_for(brought.model, brought.lock, environments)
        signature = place_model(Path(scratch), brought.model, python=program.python)
        run = partial(compute, Path(scratch), program=program)
        tried = _try(run, signature, sample)
        fixed = tuple(_fixed_in_vain(run, signature, tried.golden))
        warnings = (*untrained, *tried.warnings, *fixed)
        drafted = _with_ranks(signature, tried.golden)
        if fixed and tried.golden and all(len(array) == 1 for array in tried.golden.inputs.values()):
            drafted = _one_record(drafted)
        text = draft_contract(drafted, name, batched=tried.batched)
        contract = compile_contract(load_document(text, _CONTRACT_FILE).data)
        _write_declarations(staged, folder, name, _WITH_MODEL, text)
        write_bundle(
            staged / "integrations" / name / "bundles" / name,
            name=name,
            version="1",
            model=brought.model,
            lock=brought.lock,
            environments=environments,
            features=identity(contract.schema("request"), contract.schema("response")),
            contract=contract,
            golden=tried.golden,
            provenance={"drafted_from": drafted_from},
        )
    return Begun(folder, name, tried.batched, warnings)


_Run: TypeAlias = Callable[[Sequence[Tensors]], list[Answer]]
"""Runs the model on each of several inputs."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What running the model has shown: whether records stand alone, and what it answers."""

    batched: bool
    golden: Golden | None = None
    warnings: tuple[str, ...] = ()


def _try(run: _Run, signature: Signature, sample: Path | None) -> _Tried:
    """Run the model in a child: on the sample, or on invented tensors until it answers some."""
    tensors = (*signature.inputs, *signature.outputs)
    may_batch = all(each.shape is not None and each.shape[:1] == (None,) for each in tensors)
    if sample is not None:
        return _judge(run, read_sample(sample, signature, batched=may_batch), may_batch=may_batch)
    refusal = ""
    open_ended = any(size is None for each in signature.inputs for size in (each.shape or ())[1:])
    for size in SIZES if open_ended else SIZES[:1]:
        invented = sample_tensors(signature.inputs, _ROWS if may_batch else 1, _SEED, size=size)
        try:
            return _judge(run, invented, may_batch=may_batch)
        except BundleRefused as error:
            if error.rule not in ("probe-run", "probe-nan"):
                raise
            refusal = error.got or ""
    warning = f"the model did not answer invented records, so the bundle has no golden records ({refusal})"
    return _Tried(signature.batched, warnings=(warning, "bring records of your own with --sample FILE"))


def _judge(run: _Run, inputs: Tensors, *, may_batch: bool) -> _Tried:
    """Golden records, and whether each record is answered the same whoever stands beside it.

    Every record of a few is run again among copies of itself, at its own place: a model that computes across records
    answers differently then, and its records must not share a call.

    Raises
    ------
    BundleRefused
        ``probe-run`` or ``probe-nan`` when the model does not answer.
    """
    lengths = {len(array) for array in inputs.values()} if may_batch else set()
    if len(lengths) != 1 or lengths == {0}:
        return _Tried(batched=False, golden=as_golden(inputs, run([inputs])[0]))
    rows = lengths.pop()
    few = {name: array[:_ROWS] if rows > 1 else _with_neighbour(array) for name, array in inputs.items()}
    count = min(rows, _ROWS) if rows > 1 else 2
    copies = [
        {name: np.repeat(array[row : row + 1], count, axis=0) for name, array in few.items()} for row in range(count)
    ]
    alone = {name: array[:1] for name, array in few.items()}
    given, first, together, *among_copies = run([inputs, alone, few, *copies])
    return _Tried(
        batched=_counts(first, 1) and all(_same(together, other, row, count) for row, other in enumerate(among_copies)),
        golden=as_golden(inputs, given),
    )


def _with_neighbour(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One record, and another made of the same values in reverse."""
    return np.concatenate([array, array.ravel()[::-1].reshape(array.shape)])


def _counts(answer: Answer, rows: int) -> bool:
    return not isinstance(answer, BrownfieldError) and all(array.shape[:1] == (rows,) for array in answer.values())


def _same(left: Answer, right: Answer, row: int, rows: int) -> bool:
    if isinstance(left, BrownfieldError) or isinstance(right, BrownfieldError):
        return False
    one = slice(row, row + 1)  # a row alone of texts would be no array
    return _counts(left, rows) and all(_close(array[one], right[name][one]) for name, array in left.items())


def _close(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    return bool(np.allclose(left, right, rtol=1e-4, atol=1e-6, equal_nan=True))


def _fixed_in_vain(run: _Run, signature: Signature, golden: Golden | None) -> Iterator[str]:
    """Warn of outputs that have a row for each record, although the graph fixes their number of rows."""
    fixed = [each for each in signature.outputs if each.shape and each.shape[0] is not None]
    if golden is None or not fixed or any((each.shape or (0,))[0] is not None for each in signature.inputs):
        return
    [answer] = run([{name: np.repeat(array[:1], _ROWS, axis=0) for name, array in golden.inputs.items()}])
    if isinstance(answer, BrownfieldError):
        return
    for each in fixed:
        if answer[each.name].shape[:1] == (_ROWS,) != (each.shape or ())[:1]:
            yield (
                f"the graph says that the output {each.name!a} has {(each.shape or (0,))[0]} row, and the model gives "
                "one for each record: a request of several records gets no prediction. Give that dimension a name in "
                "the graph (dim_param), and begin anew"
            )


def _one_record(signature: Signature) -> Signature:
    """Take one record at a time: what would break the graph's word is refused before it reaches the model."""
    inputs = tuple(TensorSpec(each.name, each.dtype, (1, *(each.shape or ())[1:])) for each in signature.inputs)
    return Signature(inputs, signature.outputs, signature.opset, signature.nodes, signature.external_files)


def _with_ranks(signature: Signature, golden: Golden | None) -> Signature:
    """Give outputs whose number of dimensions the graph leaves open the one that a run has shown."""
    outputs = tuple(
        TensorSpec(each.name, each.dtype, (None,) * golden.outputs[each.name].ndim)
        if each.shape is None and golden is not None
        else each
        for each in signature.outputs
    )
    return Signature(signature.inputs, outputs, signature.opset, signature.nodes, signature.external_files)


def _write_declarations(staged: Path, folder: Path, name: str, integration: str, contract: str) -> None:
    home = staged / "integrations" / name
    home.mkdir(parents=True)
    (home / "integration.yaml").write_text(integration.format(name=name, text=as_text(name)), encoding="utf-8")
    (home / _CONTRACT_FILE).write_text(contract, encoding="utf-8")
    workspace = as_text(slug(folder.resolve().name))
    (staged / "brownfield.yaml").write_text(_WORKSPACE.format(name=workspace), encoding="utf-8")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a folder beside the workspace-to-be, whose files are moved into it when everything went well."""
    for each in (folder, *folder.absolute().parents):
        if each.exists() and not each.is_dir():
            raise DeclarationError(
                where=str(folder),
                expected="a folder, or a place for one",
                got="a file" if each == folder else f"a place below the file {each}",
                next_step="Choose another folder; nothing was changed.",
            )
    for name in ("brownfield.yaml", "integrations"):
        if (folder / name).exists():
            raise DeclarationError(
                where=str(folder),
                expected="a folder without a workspace",
                got=f"one with {name}",
                next_step="Choose another folder; nothing was changed.",
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        staged = Path(temporary)
        yield staged
        folder.mkdir(exist_ok=True)
        (staged / "integrations").rename(folder / "integrations")
        (staged / "brownfield.yaml").rename(folder / "brownfield.yaml")
