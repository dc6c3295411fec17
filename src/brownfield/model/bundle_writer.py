"""Writes bundles: a folder whole or not at all, with everything in it named by its digest.

In: what fitting gives. Out: the folder, and the Bundle read back from it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.data.features import Features
from brownfield.errors import BundleRefused
from brownfield.model.agreement import check_contract, check_features
from brownfield.model.bundle import Bundle, open_bundle, program_for
from brownfield.model.bundle_files import FEATURES, LOCK, MODEL, OWN_FILES
from brownfield.model.compute import as_golden, compute
from brownfield.model.files import open_plain, sha256_of, write_durably
from brownfield.model.golden import GOLDEN, Golden, Tensors
from brownfield.model.manifest import MANIFEST, FileEntry, Manifest, checked_slug, checked_version
from brownfield.model.onnx_inspect import MAX_MODEL_BYTES, inspect_onnx, inspect_onnx_bytes
from brownfield.model.process import Environments
from brownfield.model.python_model import PythonModel, place_python_model
from brownfield.model.rules import refused
from brownfield.model.signature import Signature

if TYPE_CHECKING:
    from brownfield.contract import Contract
    from brownfield.types import Columns

__all__ = ["place_model", "write_bundle"]


def write_bundle(  # noqa: PLR0913 (the parts of a bundle, each by name)
    folder: Path,
    *,
    name: str,
    version: str,
    model: Path | bytes | PythonModel,
    features: Features,
    contract: "Contract",
    lock: bytes = b"",
    environments: Environments | None = None,
    golden_columns: "Columns | None" = None,
    golden_inputs: Tensors | None = None,
    golden: Golden | None = None,
    metrics: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    created_at_utc: str | None = None,
) -> Bundle:
    """Write a bundle, whole or not at all, and open it.

    Parameters
    ----------
    folder
        Where it shall lie; must not exist.
    name, version
        A slug, and the version that answers will carry.
    model
        The ONNX file (weights beside it are copied along), its bytes, or a Python class.
    features
        Learned features, or the identity.
    contract
        The contract that the features were made for.
    lock
        Hash-locked packages of the environment that the model runs in; Brownfield's own when empty.
    environments
        Where that environment was built.
    golden_columns
        Request columns to keep with the answers that the model gives to them, computed here in a child process.
    golden_inputs
        The same as tensors of the model.
    golden
        The same, computed before.
    metrics, provenance
        Figures, and where it came from.
    created_at_utc
        RFC 3339; leave it out for a bundle that is the same whenever it is made.

    Returns
    -------
    Bundle
        As :func:`open_bundle` reads it.

    Raises
    ------
    BundleRefused
        When the model, or the agreement between its parts, is refused; then nothing is left behind.
    FileExistsError
        When the folder exists.
    """
    checked_slug(name)
    checked_version(version)
    with _written_whole(folder) as staged:
        program = program_for(model, lock, environments)
        signature = place_model(staged, model, python=program.python)
        check_features(features, signature)
        check_contract(features, contract)
        if golden_inputs is None and golden_columns is not None:
            rows = len(next(iter(golden_columns.values()))) if features.batched else 1
            golden_inputs = features.encode(golden_columns, rows)
        if golden is None and golden_inputs is not None:
            golden = as_golden(golden_inputs, compute(staged, [golden_inputs], program=program)[0])
        write_durably(staged / FEATURES, features.to_json())
        if lock:
            write_durably(staged / LOCK, lock)
        if golden is not None:
            write_durably(staged / GOLDEN, golden.to_json())
        manifest = Manifest(
            name=name,
            version=version,
            files=tuple(FileEntry(path.name, *sha256_of(path)) for path in sorted(staged.iterdir())),
            contract=contract.reference,
            contract_digest=contract.digest,
            features_digest=features.digest,
            inputs=signature.inputs,
            outputs=signature.outputs,
            metrics=dict(metrics or {}),
            provenance=dict(provenance or {}),
            created_at_utc=created_at_utc,
            python=model.entry if isinstance(model, PythonModel) else msgspec.UNSET,
        )
        write_durably(staged / MANIFEST, manifest.to_json())
        open_bundle(staged)
    return open_bundle(folder)


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to be filled, which then is there under its name, or not at all."""
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield staged
        staged.chmod(0o755)
        _sync_folder(staged)
        staged.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def place_model(folder: Path, model: Path | bytes | PythonModel, *, python: Path | None = None) -> Signature:
    """Copy a model and its files into an empty folder; return its signature.

    An ONNX graph becomes ``model.onnx``, with its weights beside it; a Python class is started once, by ``python``, to
    say what it takes and gives.

    Raises
    ------
    BundleRefused
        When it does not pass :func:`inspect_onnx`, or what holds for Python classes.
    """
    if isinstance(model, PythonModel):
        return place_python_model(folder, model, OWN_FILES, python)
    if isinstance(model, bytes):
        write_durably(folder / MODEL, model)
        return inspect_onnx(folder / MODEL)
    data = _given(model)
    try:
        signature = inspect_onnx_bytes(data, model.parent)
    except BundleRefused as error:
        error.where = error.where or str(model)
        raise
    write_durably(folder / MODEL, data)
    for name in signature.external_files:
        if name in OWN_FILES:
            raise refused("onnx-external-data", got=f"weights in a file named {name!r}")
        with open_plain(model.parent / name) as source, (folder / name).open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
    return inspect_onnx(folder / MODEL)


def _given(model: Path) -> bytes:
    """Read a person's own file: links to it are as good, as download caches make them; the bundle holds a copy."""
    with model.open("rb") as file:
        data = file.read(MAX_MODEL_BYTES + 1)
    if len(data) > MAX_MODEL_BYTES:
        raise refused("bundle-file-size", where=str(model), expected=f"up to {MAX_MODEL_BYTES} bytes")
    return data


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
