"""A model that is a Python class: its files copied into a bundle and looked at without running them.

In: a module with a class, and the files that the class loads. Out: these files in the bundle's folder, and the
signature, which the class itself says in a sandboxed process. Refused: a module without such a class, and pickles.
Any framework may stand behind the class; what it needs stands in the bundle's lock, or beside Brownfield itself.
"""

import ast
import lzma
import os
import shutil
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from numpy.lib import format as npy

from brownfield.model.files import checked_name, open_plain, read_plain
from brownfield.model.formats import A_PICKLE, looks_like
from brownfield.model.manifest import PythonEntry
from brownfield.model.process import Hello, ModelProcess, Program, StartFailed
from brownfield.model.rules import refused
from brownfield.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from brownfield.model.process import ModelTensor

__all__ = ["PythonModel", "check_python_files", "place_python_model", "program_of", "signature_of"]

MAX_MODULE_BYTES = 4 << 20
_METHODS = {"load", "predict"}
_HEAD_BYTES = 512
_ARCHIVE = b"PK"
_LONGEST_HEADER = 1 << 20  # of an array; numpy itself takes any where pickles are allowed
_NO_ARCHIVE = (
    zipfile.BadZipFile, RuntimeError, ValueError, OverflowError, EOFError, OSError, struct.error,
    zlib.error, lzma.LZMAError,
)  # fmt: skip
_NO_HEADER = (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
_START_TIMEOUT_S = 120.0
_BRING = "Files and modules of yours that the class uses come along with --file, packages with the lock."


@dataclass(frozen=True, slots=True)
class PythonModel:
    """A model to be bundled.

    Parameters
    ----------
    module
        The file with the class, such as ``risk.py``.
    class_name
        The class: ``inputs``, ``outputs``, ``load(folder)`` and ``predict(inputs)``.
    files
        What it loads or imports from its own folder: weights, vocabularies, further modules. Never a pickle.
    """

    module: Path
    class_name: str
    files: tuple[Path, ...] = ()

    @property
    def entry(self) -> PythonEntry:
        """As it stands in the manifest."""
        return PythonEntry(self.module.name, self.class_name)


def place_python_model(folder: Path, model: PythonModel, reserved: Iterable[str], python: Path | None) -> Signature:
    """Copy a model's files into an empty folder, start it in a sandboxed process and take its signature from there.

    Parameters
    ----------
    folder
        Of the bundle to be.
    model
        The class and its files.
    reserved
        File names that the bundle keeps for itself.
    python
        Interpreter of the lock's environment; the one that runs this when None.

    Raises
    ------
    BundleRefused
        ``python-class``, ``python-file``, ``python-pickle``, or a rule of the probe.
    """
    kept = set(reserved)
    for source in (model.module, *model.files):
        if checked_name(source.name) in kept:
            raise refused("python-file", got=source.name, next_step="Give the file another name.")
        kept.add(source.name)
        with source.open("rb") as given, (folder / source.name).open("xb") as target:
            shutil.copyfileobj(given, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
    check_python_files(folder, model.entry, [path.name for path in model.files])
    with tempfile.TemporaryDirectory(prefix="brownfield-") as runtime:
        program = program_of(model.entry, python)
        try:
            process = ModelProcess.start(
                folder, runtime_folder=Path(runtime), program=program, ready_timeout_s=_START_TIMEOUT_S
            )
        except StartFailed as error:
            next_step = _BRING if error.cause == "load" else None
            raise refused(f"probe-{error.cause}", got=error.what, next_step=next_step) from error
        with process:
            return signature_of(process.hello)


def check_python_files(folder: Path, entry: PythonEntry, others: Iterable[str]) -> None:
    """Look at the files of a Python model without running any.

    Raises
    ------
    BundleRefused
        ``python-class`` or ``python-pickle``.
    """
    text = read_plain(folder / checked_name(entry.module), limit_bytes=MAX_MODULE_BYTES)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise refused("python-class", path=entry.module, got=_told(error)) from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = classes.get(entry.class_name)
    if found is None:
        got = ", ".join(ascii(name) for name in classes) or "no class"
        raise refused("python-class", path=entry.module, expected=f"a class {entry.class_name!a}", got=got)
    methods = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    if not found.bases and not methods >= _METHODS:
        missing = ", ".join(sorted(_METHODS - methods))
        raise refused("python-class", path=f"{entry.module}:{entry.class_name}", expected=f"a method {missing}")
    for name in others:
        if _is_pickle(folder / name):
            raise refused(
                "python-pickle", path=name, next_step="Save weights as safetensors, ONNX or plain NumPy arrays."
            )


def _told(error: Exception) -> str:
    """Name what makes a module no Python text, and its line where that is known."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    return type(error).__name__ + (f" in line {line}" if line else "")


def program_of(entry: PythonEntry, python: Path | None) -> Program:
    """Say what runs the class: its module and name, and an interpreter."""
    return Program(entry.module, entry.class_name, python)


def signature_of(hello: Hello) -> Signature:
    """Signature of a class, from the greeting of its process."""
    inputs, outputs = (
        tuple(_spec(tensor, batched=hello.batched) for tensor in tensors) for tensors in (hello.inputs, hello.outputs)
    )
    return Signature(inputs, outputs, opset=0, nodes=0)


def _spec(tensor: "ModelTensor", *, batched: bool) -> TensorSpec:
    axes = tuple("rows" if batched and place == 0 else "" for place in range(len(tensor.shape)))
    return TensorSpec(tensor.name, tensor.dtype, tensor.shape, axes)


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, or an archive that holds one (PyTorch's own format, for example)."""
    with open_plain(path) as file:
        head = file.read(_HEAD_BYTES)
        if looks_like(head) == A_PICKLE or (head.startswith(npy.MAGIC_PREFIX) and _holds_objects(file)):
            return True
        if not zipfile.is_zipfile(file):
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                return any(
                    name.endswith((".pkl", ".pickle")) or _is_of_objects(archive, name) for name in archive.namelist()
                )
        except _NO_ARCHIVE:  # numbers that happen to end like one, or one that is begun and that nobody can look into
            return head.startswith(_ARCHIVE)


def _is_of_objects(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a member (of an ``.npz``, say) is an array of Python objects."""
    with archive.open(name) as member:
        return member.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX and _holds_objects(member)


def _holds_objects(file: IO[bytes]) -> bool:
    """Whether an array's header says Python objects, which lie there as a pickle; also where it cannot be read."""
    file.seek(0)
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except _NO_HEADER:
        return True
    return bool(dtype.hasobject)
