"""A bundle: one folder with the model, its features, its golden records and a manifest that names each by SHA-256.

The model is an ONNX graph, or a Python class with its files; a lock may name the packages of an environment of its own.

In: a folder. Out: the Bundle read from it.
Refused when opened: anything that the manifest does not say, and any model that does not pass inspection.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from brownfield.model.files import FileMark, mark_of, read_plain
from brownfield.model.golden import GOLDEN, Golden
from brownfield.model.manifest import MANIFEST, Manifest, PythonEntry
from brownfield.model.onnx_inspect import inspect_onnx
from brownfield.model.process import Environments, Program, locked_packages
from brownfield.model.python_model import PythonModel, check_python_files, program_of
from brownfield.model.rules import refused
from brownfield.model.session import ServedSession, session_of
from brownfield.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from brownfield.contract import Contract

__all__ = [
    "Bundle",
    "digest_of_bundle",
    "open_bundle",
    "program_for",
    "reopen_bundle",
]


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
