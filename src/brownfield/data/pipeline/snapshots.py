"""The last good copies of a lookup: each a Parquet file and a manifest, beside the one before and swapped as a whole.

The manifest is renamed into place last, and a copy counts only when its bytes have the digest that the manifest names:
after a kill or a failing disk at any step, the copy before is the last good one.
"""

import fcntl
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from brownfield.errors import SourceUnavailable, StoreError
from brownfield.store import is_masked, private_folder, sync_folder, write_private

if TYPE_CHECKING:
    from brownfield.contract import Schema

__all__ = ["Manifest", "Seal", "Snapshots", "age_s", "describe", "lost_keys"]

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Seal:
    """Encrypts and decrypts copies at rest; ``close(content, name)`` and ``open(content, name)`` are inverse."""

    close: Callable[[bytes, str], bytes]
    open: Callable[[bytes, str], bytes]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one copy.

    Parameters
    ----------
    number
        Ascending; the highest that is whole is the last good one.
    contract, contract_digest
        Under which its rows were accepted.
    as_of_utc
        The moment that its rows show, never later than when they were read; None where its source cannot be believed.
    taken_utc
        When it was written.
    state
        What it was read from: ``PRIMARY`` or ``REPLICA``.
    rows
        How many.
    keys
        Fields by which a row is found.
    keys_sha256
        Of the keys in ascending order: equal for equal sets of keys.
    bounds
        Smallest and largest value of each key as text; none for keys that the contract classifies.
    null_percent
        How often each field is missing.
    position
        How far the source was read.
    file, sha256, size_bytes
        The file beside it, as it lies on the disk.
    rows_sha256
        Of the file before it is encrypted: equal for equal rows.
    sealed
        Whether the file is encrypted.
    """

    number: int
    contract: str
    contract_digest: str
    as_of_utc: datetime | None
    taken_utc: datetime
    state: str
    rows: int
    keys: tuple[str, ...]
    keys_sha256: str
    bounds: Mapping[str, tuple[str, str]]
    null_percent: Mapping[str, float]
    position: Any
    file: str
    sha256: str
    rows_sha256: str
    size_bytes: int
    sealed: bool = False


def describe(rows: pa.Table, schema: "Schema", keys: tuple[str, ...]) -> dict[str, Any]:
    """Give the part of a manifest that the rows alone tell.

    Examples
    --------
    >>> from brownfield.contract import Field, Schema
    >>> schema = Schema("products", (Field(name="id", kind="integer", dtype="int64"),))
    >>> facts = describe(pa.table({"id": [2, 1, None]}), schema, ("id",))
    >>> facts["rows"], facts["bounds"], round(facts["null_percent"]["id"], 1)
    (3, {'id': ('1', '2')}, 33.3)
    """
    bounds = {}
    for name in keys:
        ends = pc.min_max(rows[name]) if not is_masked(schema.field(name).classification) else None
        if ends is not None and ends["min"].is_valid:
            bounds[name] = (str(ends["min"].as_py()), str(ends["max"].as_py()))
    ordered = rows.select(list(keys)).sort_by([(name, "ascending") for name in keys])
    digest = hashlib.sha256()
    for batch in ordered.to_batches(max_chunksize=65_536):
        digest.update(msgspec.json.encode([list(map(str, column)) for column in batch.to_pydict().values()]))
    return {
        "rows": rows.num_rows,
        "keys": keys,
        "keys_sha256": digest.hexdigest(),
        "bounds": bounds,
        "null_percent": {
            name: 100 * rows[name].null_count / rows.num_rows if rows.num_rows else 0.0 for name in rows.column_names
        },
    }


class Snapshots:
    """The copies of one lookup.

    Parameters
    ----------
    folder
        ``var/lookups/<integration>/<source>``.
    keep
        How many are kept.
    max_mib
        Most MiB that they take together; a copy that alone is larger is refused.
    seal
        Encrypts them; None where the contract classifies no field.
    """

    def __init__(self, folder: Path, *, keep: int = 2, max_mib: int = 1_024, seal: Seal | None = None) -> None:
        self.folder = folder
        self._keep = keep
        self._max_bytes = max_mib * _MIB
        self._seal = seal

    def manifests(self) -> list[Manifest]:
        """Every manifest that can be read, newest first; nothing is said yet of the files."""
        found = []
        for path in self.folder.glob("*.json") if self.folder.is_dir() else ():
            with suppress(msgspec.MsgspecError, OSError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Manifest))
        return sorted(found, key=lambda each: each.number, reverse=True)

    def write(self, rows: pa.Table, facts: Mapping[str, Any]) -> Manifest:
        """Keep a copy that was found good, and remove the ones that are too many.

        Parameters
        ----------
        rows
            The accepted rows.
        facts
            The manifest's fields but ``number``, ``file``, ``sha256``, ``rows_sha256``,
            ``size_bytes`` and ``sealed``.

        Raises
        ------
        StoreError
            When it is larger than the quota, or the disk refuses; the copies that there were stay.
        """
        stream = io.BytesIO()
        pq.write_table(rows, stream, compression="zstd")
        content = stream.getvalue()
        rows_sha256 = hashlib.sha256(content).hexdigest()
        try:
            private_folder(self.folder)
            with self._alone():
                return self._write(content, rows_sha256, facts)
        except OSError as error:
            raise StoreError(
                f"the copy cannot be written: {error.strerror}", where=str(self.folder), next_step="Free space."
            ) from error

    def _write(self, content: bytes, rows_sha256: str, facts: Mapping[str, Any]) -> Manifest:
        """Write file and manifest; what holds the same rows as the copy before only grows younger."""
        before = next(iter(self.manifests()), None)
        if before is not None and before.rows_sha256 == rows_sha256 and self._is_whole(before):
            manifest = msgspec.structs.replace(before, **facts)
            write_private(self.folder / f"{before.number:06d}.json", msgspec.json.encode(manifest))
            return manifest
        number = 1 if before is None else before.number + 1
        name = f"{number:06d}.parquet"
        content = self._seal.close(content, name) if self._seal else content
        digest = hashlib.sha256(content).hexdigest()
        manifest = Manifest(
            number=number,
            file=name,
            sha256=digest,
            rows_sha256=rows_sha256,
            size_bytes=len(content),
            sealed=self._seal is not None,
            **facts,
        )
        if manifest.size_bytes > self._max_bytes:
            raise StoreError(
                f"the copy takes {manifest.size_bytes / _MIB:.1f} MiB, and {self._max_bytes // _MIB} are allowed",
                where=str(self.folder),
                next_step="Raise snapshots.max_mib; the copy before is kept.",
            )
        write_private(self.folder / name, content)
        write_private(self.folder / f"{number:06d}.json", msgspec.json.encode(manifest))
        sync_folder(self.folder.parent)
        self._prune()
        return manifest

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process writes copies here; one that is killed lets go."""
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def last_good(self) -> tuple[Manifest, pa.Table]:
        """Read the newest copy that is whole.

        Raises
        ------
        SourceUnavailable
            When there is none.
        """
        for manifest, rows in self._whole():
            return manifest, rows
        raise SourceUnavailable(
            "there is no good copy of it yet", where=str(self.folder), next_step="A pull that passes makes one."
        )

    def _whole(self) -> Iterator[tuple[Manifest, pa.Table]]:
        for manifest in self.manifests():
            with suppress(OSError, pa.ArrowException, ValueError):
                content = self._content(manifest)
                if content is None:
                    continue
                if manifest.sealed:
                    if self._seal is None:
                        continue
                    content = self._seal.open(content, manifest.file)
                yield manifest, pq.read_table(io.BytesIO(content))

    def _content(self, manifest: Manifest) -> bytes | None:
        content = (self.folder / Path(manifest.file).name).read_bytes()
        return content if hashlib.sha256(content).hexdigest() == manifest.sha256 else None

    def _is_whole(self, manifest: Manifest) -> bool:
        with suppress(OSError):
            return self._content(manifest) is not None
        return False

    def _prune(self) -> None:
        """Remove the oldest copies beyond the number and the quota, and files that no manifest names."""
        kept: set[str] = set()
        total = 0
        for place, manifest in enumerate(self.manifests()):
            total += manifest.size_bytes
            if place == 0 or (place < self._keep and total <= self._max_bytes):
                kept |= {manifest.file, f"{manifest.number:06d}.json"}
        for path in sorted(self.folder.iterdir()):
            ours = path.suffix in {".json", ".parquet"} and path.stem.isdecimal()
            if (ours and path.name not in kept) or path.name.endswith(".part"):
                with suppress(OSError):
                    path.unlink()


def lost_keys(before: pa.Table, after: pa.Table, keys: tuple[str, ...]) -> int:
    """Count the keys that were there before and are no more.

    Examples
    --------
    >>> lost_keys(pa.table({"id": [1, 2, 3]}), pa.table({"id": [3, 4]}), ("id",))
    2
    """
    old, new = (table.select(list(keys)).group_by(list(keys)).aggregate([]) for table in (before, after))
    return int(old.join(new, list(keys), join_type="left anti").num_rows)


def age_s(as_of_utc: datetime | None, now_utc: datetime) -> float:
    """Seconds since a moment; infinite for one that is unknown or still to come, which no clock can vouch for.

    Examples
    --------
    >>> from datetime import UTC
    >>> noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    >>> age_s(noon, noon.replace(minute=1)), age_s(noon.replace(hour=13), noon)
    (60.0, inf)
    """
    if as_of_utc is None or as_of_utc > now_utc:
        return math.inf
    return (now_utc - as_of_utc).total_seconds()
