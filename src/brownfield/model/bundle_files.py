"""The files that a bundle's manifest names: held to it, and read.

In: the folder and its manifest. Out: marks of verified files, features, golden records, the lock.
Refused: a file that is another one than the manifest says, that it does not name, or that is in no form.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from brownfield.data.features import Features
from brownfield.errors import BundleRefused, DeclarationError
from brownfield.model.files import FileMark, mark_of, open_plain, read_plain, sha256_of, size_of
from brownfield.model.golden import GOLDEN, Golden
from brownfield.model.manifest import MANIFEST, FileEntry, Manifest
from brownfield.model.rules import refused

__all__ = [
    "FEATURES",
    "LOCK",
    "MAX_TEXT_BYTES",
    "MODEL",
    "OWN_FILES",
    "check_extra",
    "check_file",
    "check_files",
    "copy_graph",
    "read_features",
    "read_golden",
    "read_lock",
]

MODEL = "model.onnx"
FEATURES = "features.json"
LOCK = "requirements.lock"
OWN_FILES = (MODEL, FEATURES, GOLDEN, MANIFEST, LOCK)
MAX_TEXT_BYTES = 256 << 20
_MAX_LOCK_BYTES = 4 << 20


def check_files(folder: Path, manifest: Manifest) -> dict[str, FileMark]:
    """Verify every file that the manifest names, and that there is no other; give their marks."""
    listed = {entry.path: entry for entry in manifest.files}
    model = manifest.python.module if manifest.python else MODEL
    if len(listed) != len(manifest.files) or not {model, FEATURES} <= listed.keys():
        raise refused("manifest-form", where=str(folder), path="files")
    check_extra(folder, listed)
    marks: dict[str, FileMark] = {}
    for entry in manifest.files:
        check_file(folder, entry, marks)
    return marks


def check_extra(folder: Path, listed: Iterable[str]) -> None:
    """Refuse a file that is not listed."""
    found = {entry.name for entry in os.scandir(folder)} - {MANIFEST}
    for extra in sorted(found.difference(listed)):
        raise refused("bundle-file-extra", where=str(folder), got=ascii(extra))


def check_file(folder: Path, entry: FileEntry, marks: dict[str, FileMark]) -> None:
    """Hold a file to its size, then to its digest, which would take hours of a giant full of holes; keep its mark."""
    path = folder / entry.path
    mark = mark_of(path)  # before it is read: what changes meanwhile is read again
    size = size_of(path)
    if size != entry.size:
        raise refused(
            "manifest-digest", where=str(folder), path=entry.path, expected=f"{entry.size} bytes", got=str(size)
        )
    if sha256_of(path) != (entry.sha256, entry.size):
        raise refused("manifest-digest", where=str(folder), path=entry.path)
    if mark is not None:
        marks[entry.path] = mark


def copy_graph(folder: Path, manifest: Manifest, target: Path) -> Path:
    """Copy the graph and its weights into a folder, whole, and hold the copy to the manifest; one that is there too.

    Raises
    ------
    BundleRefused
        ``manifest-digest``, ``bundle-file`` or ``bundle-file-missing``: a file is not the one that was verified.
    """
    own = [entry for entry in manifest.files if entry.path not in {FEATURES, GOLDEN, LOCK}]
    if target.exists():
        try:
            check_extra(target, [entry.path for entry in own])
            for entry in own:
                check_file(target, entry, {})
        except BundleRefused:
            shutil.rmtree(target)
        else:
            return target
    with tempfile.TemporaryDirectory(prefix=".copy-", dir=target.parent) as work:
        staged = Path(work) / "staged"
        staged.mkdir(mode=0o700)
        for entry in own:
            with open_plain(folder / entry.path) as given, (staged / entry.path).open("xb") as kept:
                shutil.copyfileobj(given, kept, 1 << 20)
            check_file(staged, entry, {})
        staged.rename(target)
    return target


def read_features(folder: Path, manifest: Manifest) -> Features:
    """Read the features, and hold them to their digest."""
    try:
        features = Features.from_json(read_plain(folder / FEATURES, limit_bytes=MAX_TEXT_BYTES))
    except DeclarationError as error:
        raise refused("features-form", where=str(folder), got=str(error)) from error
    if features.digest != manifest.features_digest:
        raise refused("features-digest", where=str(folder))
    return features


def read_golden(folder: Path, manifest: Manifest) -> Golden | None:
    """Read the golden records; None where the manifest names none."""
    text = _read_listed(folder, manifest, GOLDEN, MAX_TEXT_BYTES)
    return None if text is None else Golden.from_json(text)


def read_lock(folder: Path, manifest: Manifest) -> bytes:
    """Read the lock; empty where the manifest names none."""
    return _read_listed(folder, manifest, LOCK, _MAX_LOCK_BYTES) or b""


def _read_listed(folder: Path, manifest: Manifest, name: str, limit_bytes: int) -> bytes | None:
    """Read a file that the manifest may name, and hold it to that."""
    for entry in manifest.files:
        if entry.path == name:
            data = read_plain(folder / name, limit_bytes=limit_bytes)
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise refused("manifest-digest", where=str(folder), path=name)
            return data
    return None
