"""Files that only the owner may read, written whole or not at all."""

import os
import secrets
from pathlib import Path

__all__ = ["part_name", "private_folder", "sync_folder", "write_private"]


def private_folder(path: Path) -> Path:
    """Create a folder, and what is missing above it, that only its owner may enter (mode 0700).

    An existing folder is left as it is: its owner decided.
    """
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path


def part_name(path: Path) -> Path:
    """Name beside `path`, hidden and unpredictable, under which it is written before it is renamed into place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 so that readers see the old content or the new, never half of it."""
    part = part_name(path)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
