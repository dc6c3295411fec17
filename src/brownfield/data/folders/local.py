"""``local``: a folder of this machine, entered by descriptor, so that no link on the way leads out of it."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path
from typing import BinaryIO

from brownfield.data.folders.base import Entry, inside, parent_of
from brownfield.errors import DeclarationError

__all__ = ["LocalFolder"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalFolder:
    """A folder of this machine.

    Parameters
    ----------
    root
        The folder; itself no link.

    Examples
    --------
    >>> import tempfile
    >>> home = tempfile.TemporaryDirectory()
    >>> with LocalFolder(Path(home.name)).opened() as files:
    ...     files.write("a.txt", [b"1", b"2"])
    ...     [(entry.path, entry.size_bytes) for entry in files.files("")]
    [('a.txt', 2)]
    >>> home.cleanup()
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def where(self) -> str:
        """Name the folder (:class:`Folder`)."""
        return str(self.root)

    @contextmanager
    def opened(self) -> Iterator["_LocalFiles"]:
        """Open it for a while (:class:`Folder`)."""
        root = os.open(self.root, _FOLDER)
        try:
            yield _LocalFiles(self.root, root)
        finally:
            os.close(root)


class _LocalFiles:
    """The files of a folder that was opened (:class:`Files`)."""

    def __init__(self, path: Path, root: int) -> None:
        self._path = path
        self._root = root

    def files(self, folder: str) -> list[Entry]:
        """List plain files."""
        above = f"{folder}/" if folder else ""
        return [_entry(above + name, status) for name, status in self._scan(folder) if stat.S_ISREG(status.st_mode)]

    def folders(self, folder: str) -> list[str]:
        """List folders."""
        return [name for name, status in self._scan(folder) if stat.S_ISDIR(status.st_mode)]

    def look(self, path: str) -> Entry | None:
        """Look at a name."""
        try:
            with self._at(parent_of(path)) as folder:
                return _entry(path, os.stat(_name(path), dir_fd=folder, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def resolve(self, path: str) -> str:
        """Follow links."""
        root = self._path.resolve()
        real = (root / inside(path)).resolve()
        if not real.is_relative_to(root):
            raise DeclarationError(where=str(root), path=path, expected="a file inside the folder", got="one outside")
        return real.relative_to(root).as_posix()

    @contextmanager
    def read(self, path: str) -> Iterator[BinaryIO]:
        """Open a plain file."""
        with self._at(parent_of(path)) as folder:
            descriptor = os.open(_name(path), _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(ENOTDIR, "this is not a plain file")
        with os.fdopen(descriptor, "rb") as stream:
            yield stream

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        """Write under ``.part``, sync it and name it; one that fails is abandoned, never synced again."""
        name, part = _name(path), f"{_name(path)}.part"
        with self._at(parent_of(path)) as folder:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            file = os.open(part, _NEW, 0o640, dir_fd=folder)
            try:
                try:
                    for data in parts:
                        left = memoryview(data)
                        while left:
                            left = left[os.write(file, left) :]
                    os.fsync(file)
                finally:
                    os.close(file)
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise

    def move(self, old: str, new: str) -> None:
        """Rename a file."""
        with self._at(parent_of(old)) as source, self._at(parent_of(new)) as target:
            with suppress(FileNotFoundError):
                os.stat(_name(new), dir_fd=target, follow_symlinks=False)
                raise FileExistsError(f"{new} is there already")
            os.rename(_name(old), _name(new), src_dir_fd=source, dst_dir_fd=target)

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._at(parent_of(path)) as folder:
            os.unlink(_name(path), dir_fd=folder)

    def make(self, folder: str) -> None:
        """Make a folder."""
        made = ""
        for part in inside(folder).split("/"):
            with self._at(made) as above, suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=above)
            made = f"{made}/{part}" if made else part
        with self._at(made):
            pass

    def sync(self, folder: str) -> None:
        """Sync the names."""
        with self._at(folder) as opened:
            os.fsync(opened)

    def _scan(self, folder: str) -> list[tuple[str, os.stat_result]]:
        found = []
        with self._at(folder) as opened:
            for name in os.listdir(opened):  # noqa: PTH208 (by descriptor: no link is followed)
                with suppress(FileNotFoundError):  # it went meanwhile
                    found.append((name, os.stat(name, dir_fd=opened, follow_symlinks=False)))
        return found

    @contextmanager
    def _at(self, folder: str) -> Iterator[int]:
        """Enter a folder part by part; each part that is a link is refused."""
        opened = os.dup(self._root)
        try:
            for part in inside(folder).split("/") if folder else []:
                below = os.open(part, _FOLDER, dir_fd=opened)
                os.close(opened)
                opened = below
            yield opened
        finally:
            os.close(opened)


def _name(path: str) -> str:
    return inside(path).rpartition("/")[2]


def _entry(path: str, status: os.stat_result) -> Entry:
    return Entry(path, status.st_size, status.st_mtime_ns)
