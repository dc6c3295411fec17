"""A backup file: a zip of plain, uncompressed members and a manifest with the SHA-256 of each.

Files go in by name; they come out verified, into a new folder.
Refused rather than cleaned: whatever this module does not write itself (links, compression, odd or doubled names,
anything before, between or behind the members).
"""

import hashlib
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from brownfield.errors import FormatError
from brownfield.store import private_folder

__all__ = ["Manifest", "extract_archive", "write_archive"]

_MANIFEST = "manifest.json"
_MANIFEST_CAP_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_END_RECORD_BYTES = 22
_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its length and SHA-256."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds.

    Parameters
    ----------
    format
        1.
    made_utc
        RFC 3339 text.
    brownfield
        Version that made it.
    files
        Path below the workspace to length and digest.
    """

    format: int
    made_utc: str
    brownfield: str
    files: dict[str, Member]


def write_archive(target: IO[bytes], files: Mapping[str, Path], *, made_utc: str, version: str) -> Manifest:
    """Write files under their names, digests last, so that what is written is what was hashed."""
    members: dict[str, Member] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            digest, length = hashlib.sha256(), 0
            with path.open("rb") as source, archive.open(_info(name), "w", force_zip64=True) as member:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    length += len(chunk)
                    member.write(chunk)
            members[name] = Member(length, digest.hexdigest())
        manifest = Manifest(1, made_utc, version, members)
        archive.writestr(_info(_MANIFEST), msgspec.json.encode(manifest))
    return manifest


def extract_archive(path: Path, folder: Path) -> Manifest:
    """Write a backup's files below a new folder, each checked against its digest.

    Raises
    ------
    FormatError
        When it is no backup of ours, or not as it was written.
    OSError
        When the disk refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, path)
            needed = sum(member.bytes for member in manifest.files.values())
            if needed > shutil.disk_usage(folder.parent).free:
                raise _refusal(path, f"it needs {needed // 2**20} MiB, more than the disk has free")
            private_folder(folder)
            for name, member in manifest.files.items():
                _extract(archive, name, member, folder, path)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, struct.error) as error:
        raise _refusal(path, "it is torn or no zip file") from error
    return manifest


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    return info


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    infos = archive.infolist()
    _check_members(infos, path)
    _check_no_gaps(archive, infos, path)
    if not infos or infos[-1].filename != _MANIFEST or infos[-1].file_size > _MANIFEST_CAP_BYTES:
        raise _refusal(path, "its last member is no manifest")
    try:
        manifest = msgspec.json.decode(archive.read(_MANIFEST), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal(path, "its manifest cannot be read") from error
    if manifest.format != 1:
        raise _refusal(path, f"its format is {manifest.format}, this Brownfield reads 1")
    sizes = {info.filename: info.file_size for info in infos[:-1]}
    if sizes != {name: member.bytes for name, member in manifest.files.items()}:
        raise _refusal(path, "its members are not those of its manifest")
    return manifest


def _check_members(infos: list[zipfile.ZipInfo], path: Path) -> None:
    seen: set[str] = set()
    for info in infos:
        folded = unicodedata.normalize("NFC", info.filename).casefold()
        kind = stat.S_IFMT(info.external_attr >> 16)
        if folded in seen:
            raise _refusal(path, "two members have the same name")
        seen.add(folded)
        if not _is_plain(info.filename):
            raise _refusal(path, "a member's name leads out of the workspace or is odd")
        if kind != stat.S_IFREG or info.flag_bits & 0x1:
            raise _refusal(path, "a member is a link, a folder, a device or encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _refusal(path, "a member is compressed")


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return (
        all(part not in {"", ".", ".."} for part in parts)
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and (parts[0] in {"brownfield.yaml", _MANIFEST, "integrations"} or name == "var/brownfield.db")
    )


def _check_no_gaps(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], path: Path) -> None:
    """Members must follow one another from the first byte to the directory, and nothing may follow the directory."""
    file = archive.fp
    assert file is not None  # noqa: S101 (for the type checker: it is open)
    file.seek(-_END_RECORD_BYTES, os.SEEK_END)
    if file.read(4) != b"PK\5\6":
        raise _refusal(path, "there is something behind the end")
    at = 0
    for info in infos:
        file.seek(at)
        header = file.read(_LOCAL_HEADER.size)
        if info.header_offset != at or len(header) < _LOCAL_HEADER.size:
            raise _refusal(path, "members overlap or leave gaps")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        at += _LOCAL_HEADER.size + name_bytes + extra_bytes + info.compress_size
    if at != archive.start_dir:
        raise _refusal(path, "members overlap or leave gaps")


def _extract(archive: zipfile.ZipFile, name: str, member: Member, folder: Path, path: Path) -> None:
    target = folder / name
    private_folder(target.parent)
    digest, left = hashlib.sha256(), member.bytes
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file, archive.open(name) as source:
        while left > 0 and (chunk := source.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if left or digest.hexdigest() != member.sha256:
        raise _refusal(path, "a member is not what its digest says")


def _refusal(path: Path, why: str) -> FormatError:
    return FormatError(f"not a sound backup: {why}", where=str(path), next_step="Use another backup file.")
