"""What a search has measured, a line each, so that a killed one goes on where it stopped.

In: a key that names everything the measurements depend on. A file of another key is begun anew; a torn last line is
dropped. Only complete measurements are written, each synced to disk.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

__all__ = ["Journal"]

_Kind = TypeVar("_Kind")


class _Line(msgspec.Struct, frozen=True):
    stage: str
    name: str
    value: msgspec.Raw


class Journal:
    """Measurements by stage and name.

    Parameters
    ----------
    path
        The file; its folder exists.
    key
        Of the search.

    Attributes
    ----------
    resumed
        How many measurements were there already.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._known: dict[tuple[str, str], bytes] = {}
        good = self._read(key)
        self.resumed = len(self._known)
        self._file = path.open("r+b" if good else "wb")
        self._file.truncate(good)
        self._file.seek(good)
        if not good:
            self._append({"key": key})

    def get(self, stage: str, name: str, kind: type[_Kind]) -> _Kind | None:
        """Measurement, or None when there is none yet."""
        known = self._known.get((stage, name))
        return None if known is None else msgspec.json.decode(known, type=kind)

    def add(self, stage: str, name: str, value: Any) -> None:
        """Keep a measurement."""
        self._known[stage, name] = encoded = msgspec.json.encode(value)
        self._append(_Line(stage, name, msgspec.Raw(encoded)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: Any) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, key: str) -> int:
        """Read what is whole; number of its bytes, 0 for a file of another search."""
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
            if not lines or msgspec.json.decode(lines[0]) != {"key": key}:
                return 0
        except (FileNotFoundError, msgspec.MsgspecError):
            return 0
        good = len(lines[0])
        for line in lines[1:]:
            try:
                read = msgspec.json.decode(line, type=_Line)
            except msgspec.MsgspecError:
                break
            if not line.endswith(b"\n"):
                break
            self._known[read.stage, read.name] = bytes(read.value)
            good += len(line)
        return good
