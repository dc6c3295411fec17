"""A model as a person brings it on the command line, and the environment that it runs in.

In: ``risk.onnx``, or ``risk.py:Risk`` with files, and perhaps a lock with wheels. Out: what a bundle is made of, and
the environments of the workspace, in which the lock's has been built.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brownfield.errors import DeclarationError
from brownfield.integration import WORKSPACE_FILE
from brownfield.model import Environments, PythonModel

__all__ = ["Brought", "environments_of", "read_brought"]

_ENVIRONMENTS = Path("var") / "environments"


@dataclass(frozen=True, slots=True)
class Brought:
    """A model, and the lock of the environment that it wants; empty for Brownfield's own."""

    model: Path | PythonModel
    lock: bytes = b""

    @property
    def file_name(self) -> str:
        """Name of the graph's or the module's file."""
        return self.model.name if isinstance(self.model, Path) else self.model.module.name


def read_brought(model: str, files: Sequence[Path] = (), lock: Path | None = None) -> Brought:
    """Read what was brought.

    Parameters
    ----------
    model
        An ONNX file, or ``MODULE.py:CLASS``.
    files
        What the class loads or imports from its own folder.
    lock
        Requirements file with hashes.

    Raises
    ------
    DeclarationError
        A file is not there, or files are given beside a graph.

    Examples
    --------
    >>> read_brought("nowhere.onnx")
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: --model: expected a file, got 'nowhere.onnx'
    """
    module, colon, class_name = model.rpartition(":")
    path = Path(module if colon else model)
    given = [("--model", path), *(("--file", file) for file in files), *([("--lock", lock)] if lock else [])]
    for option, file in given:
        if not file.is_file():
            raise DeclarationError(path=option, expected="a file", got=ascii(str(file)))
    if not colon and files:
        raise DeclarationError(path="--file", expected="a Python class as --model, MODULE.py:CLASS", got=ascii(model))
    brought = PythonModel(path, class_name, tuple(files)) if colon else path
    return Brought(brought, lock.read_bytes() if lock else b"")


def environments_of(workspace: Path) -> Environments:
    """Environments of a workspace, or of the workspace that a folder (such as a bundle) lies in.

    Raises
    ------
    DeclarationError
        No workspace is there.
    """
    for folder in (workspace.resolve(), *workspace.resolve().parents):
        if (folder / WORKSPACE_FILE).is_file():
            return Environments(folder / _ENVIRONMENTS)
    raise DeclarationError(
        where=str(workspace),
        expected=f"a folder below one with {WORKSPACE_FILE}",
        got="none",
        next_step="An environment belongs to a workspace: put the bundle below integrations/NAME/bundles.",
    )
