"""A bundle: one folder with the model, its features, its golden records and a manifest that names each by SHA-256.

The model is an ONNX graph, or a Python class with its files; a lock may name the packages of an environment of its own.

In: what fitting gives. Out: the folder, written whole or not at all, and the Bundle read back from it.
Refused when opened: anything that the manifest does not say, and any model that does not pass inspection.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.data.features import Features
from brownfield.errors import BundleRefused
from brownfield.model.agreement import check_contract, check_features, check_golden
from brownfield.model.bundle_files import (
    FEATURES,
    LOCK,
    MAX_TEXT_BYTES,
    MODEL,
    check_extra,
    check_file,
    check_files,
    read_features,
    read_golden,
    read_lock,
)
from brownfield.model.compute import as_golden, compute
from brownfield.model.files import FileMark, mark_of, open_plain, read_plain, sha256_of, write_durably
from brownfield.model.golden import GOLDEN, Golden, Tensors
from brownfield.model.manifest import MANIFEST, FileEntry, Manifest, PythonEntry, checked_slug, checked_version
from brownfield.model.onnx_inspect import MAX_MODEL_BYTES, inspect_onnx, inspect_onnx_bytes
from brownfield.model.process import Environments, Program, locked_packages
from brownfield.model.python_model import PythonModel, check_python_files, place_python_model, program_of
from brownfield.model.rules import refused
from brownfield.model.session import ServedSession, session_of
from brownfield.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from brownfield.contract import Contract
    from brownfield.types import Columns

__all__ = [
    "Bundle",
    "digest_of_bundle",
    "open_bundle",
    "place_model",
    "program_for",
    "reopen_bundle",
    "write_bundle",
]

_OWN_FILES = (MODEL, FEATURES, GOLDEN, MANIFEST, LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle; every file was verified when it was opened, and is again before its process is started.

    Parameters
    ----------
    folder
        Where it lies.
    digest
        SHA-256 of its manifest in canonical JSON.
    manifest
        All that is said of it.
    features
        Between records and tensors.
    golden
        Records with known answers; ``None`` when the bundle brings none.
    lock
        Hash-locked packages of an environment of its own; empty when it runs beside Brownfield's.
    marks
        By which a file that has changed since it was verified is known; without one it is verified again.
    """

    folder: Path
    digest: str
    manifest: Manifest
    features: Features = field(repr=False)
    golden: Golden | None = field(repr=False)
    lock: bytes = field(default=b"", repr=False)
    marks: dict[str, FileMark] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the bundle, a slug."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Version that answers carry."""
        return self.manifest.version

    @property
    def contract_digest(self) -> str:
        """Digest of the contract it was made for."""
        return self.manifest.contract_digest

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The graph's inputs."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs."""
        return self.manifest.outputs

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures by name."""
        return self.manifest.metrics

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where it came from."""
        return self.manifest.provenance

    def check_contract(self, contract: "Contract") -> None:
        """Refuse another contract or version (``contract-digest``), or other fields than it had (``contract-fields``).

        The text of a contract may say more than it did (ranges, descriptions): compare the digests to know.
        """
        if contract.reference != self.manifest.contract:
            raise refused(
                "contract-digest",
                where=str(self.folder),
                expected=self.manifest.contract,
                got=contract.reference,
                next_step="Make the bundle again under this contract.",
            )
        check_contract(self.features, contract)

    def check_files(self) -> None:
        """Verify again what has changed since it was verified: for whoever starts its process, before and after.

        It is a look at each file where none has changed. One of the same content, as a copy anew leaves it, passes.
        What remains: a file that is changed and changed back while the process loads it; content that is changed
        without the file system's knowing (a device beneath it, memory that was mapped to be written before); and what
        the model reads, or has mapped, after its start.

        Raises
        ------
        BundleRefused
            ``manifest-digest``, ``bundle-file`` or ``bundle-file-missing``: a file is not the one that was verified.
            ``bundle-file-extra`` where a class could import what nobody verified.
        """
        try:
            for entry in self.manifest.files:
                mark = mark_of(self.folder / entry.path)
                if mark is None or mark != self.marks.get(entry.path):
                    check_file(self.folder, entry, self.marks)
            if self.python:
                check_extra(self.folder, (entry.path for entry in self.manifest.files))
        except BundleRefused as error:
            error.next_step = "The folder was changed since it was verified: put its files back, or a whole bundle."
            raise

    @property
    def session(self) -> ServedSession:
        """How the engine is to run it."""
        return session_of(self.manifest.provenance)

    @property
    def python(self) -> PythonEntry | None:
        """The class that is the model; None for an ONNX graph."""
        return self.manifest.python or None

    @property
    def model_path(self) -> Path:
        """The model's file: the graph, or the module of its class."""
        return self.folder / (self.python.module if self.python else MODEL)

    def program(self, environments: Environments | None) -> Program:
        """Say what runs the model.

        Parameters
        ----------
        environments
            Where environments were built on this host; None where there are none.

        Raises
        ------
        BundleRefused
            ``environment-missing`` when its environment was not built here.
        """
        try:
            return _program(self.python, self.lock, environments, self.session.engine)
        except BundleRefused as error:
            if error.rule == "environment-missing":
                command = f"brownfield bundle {shlex.quote(str(self.folder))} --build-environment --wheels FOLDER"
                error.next_step = f"Build it: {command} (or --online)."
            raise


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
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
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
        staged.chmod(0o755)
        _sync_folder(staged)
        staged.rename(folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return open_bundle(folder)


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle after verifying all of it.

    Parameters
    ----------
    folder
        As :func:`write_bundle` made it.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleRefused
        ``rule`` names the check, see :data:`brownfield.model.RULES`.
    """
    manifest = _read_manifest(folder)
    marks = check_files(folder, manifest)
    features = read_features(folder, manifest)
    listed = {entry.path for entry in manifest.files}
    golden = read_golden(folder, manifest)
    signature = _inspect(folder, manifest, listed)
    check_features(features, signature)
    if golden is not None:
        check_golden(golden, signature)
    lock = read_lock(folder, manifest)
    session = session_of(manifest.provenance)
    if lock:
        _check_lock(lock, manifest.python or None, session.engine)
    return Bundle(
        folder=folder,
        digest=manifest.digest,
        manifest=manifest,
        features=features,
        golden=golden,
        lock=lock,
        marks=marks,
    )


def digest_of_bundle(folder: Path) -> str:
    """Digest that a bundle says it has; its files are not looked at.

    Raises
    ------
    BundleRefused
        There is no manifest, or it is in no form.
    """
    return _read_manifest(folder).digest


def _read_manifest(folder: Path) -> Manifest:
    """Read the manifest; what is wrong with it is said with its place: others are read in the same moment."""
    text = read_plain(folder / MANIFEST, limit_bytes=MAX_TEXT_BYTES)
    try:
        return Manifest.from_json(text)
    except BundleRefused as error:
        error.where = str(folder / MANIFEST)
        raise


def reopen_bundle(
    folder: Path, digest: str, *, to_start: bool = False, marks: Mapping[str, FileMark] | None = None
) -> Bundle:
    """Open a bundle again that was verified before, without the reader of its graph.

    Parameters
    ----------
    folder
        Where it lies.
    digest
        That it had when it was verified.
    to_start
        Whether golden records and lock are read as well, for whoever starts its process; manifest and features are
        enough for whoever only asks it.
    marks
        Of its files, taken before it was verified: what they fit is not verified again when its process is started.

    Raises
    ------
    BundleRefused
        It is another one now.
    """
    manifest = _read_manifest(folder)
    if manifest.digest != digest:
        raise refused("manifest-digest", where=str(folder), path=MANIFEST)
    features = read_features(folder, manifest)
    golden, lock = (read_golden(folder, manifest), read_lock(folder, manifest)) if to_start else (None, b"")
    return Bundle(
        folder=folder,
        digest=digest,
        manifest=manifest,
        features=features,
        golden=golden,
        lock=lock,
        marks=dict(marks or {}),
    )


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
        return place_python_model(folder, model, _OWN_FILES, python)
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
        if name in _OWN_FILES:
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


def _inspect(folder: Path, manifest: Manifest, listed: set[str]) -> Signature:
    """Look at the model's files without running them."""
    optional = {GOLDEN, LOCK} & listed
    if manifest.python:
        check_python_files(folder, manifest.python, sorted(listed - {FEATURES, manifest.python.module, *optional}))
        return Signature(manifest.inputs, manifest.outputs, opset=0, nodes=0)
    signature = inspect_onnx(folder / MODEL)
    if (signature.inputs, signature.outputs) != (manifest.inputs, manifest.outputs):
        raise refused("manifest-form", where=str(folder), path="inputs, outputs", expected="those of the graph")
    if listed != {MODEL, FEATURES, *signature.external_files} | optional:
        raise refused("bundle-file-extra", where=str(folder), next_step="Only the model's own files may be listed.")
    return signature


def program_for(model: Path | bytes | PythonModel, lock: bytes, environments: Environments | None) -> Program:
    """Say what runs a model before there is a bundle of it; see :meth:`Bundle.program`."""
    return _program(model.entry if isinstance(model, PythonModel) else None, lock, environments, "onnxruntime")


def _program(entry: PythonEntry | None, lock: bytes, environments: Environments | None, engine: str) -> Program:
    python = None
    if lock:
        _check_lock(lock, entry, engine)
        if environments is None:
            raise refused("environment-missing", next_step="Name the folder where environments are built.")
        python = environments.find(lock)
    return Program(python=python) if entry is None else program_of(entry, python)


def _check_lock(lock: bytes, entry: PythonEntry | None, engine: str) -> None:
    """Hold a lock to its form, and to what a model's process needs in its environment."""
    needed = {"numpy"} if entry is not None else {"numpy", engine}
    missing = needed - locked_packages(lock).keys()
    if missing:
        raise refused("environment-numpy", path=LOCK, expected=", ".join(sorted(missing)))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
