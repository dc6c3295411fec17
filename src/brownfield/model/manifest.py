"""The manifest of a bundle: what is in it, for which contract, and where it came from.

One text form only: keys sorted, indented by one space; so a text that is not what Brownfield would write is refused.
The bundle's digest is the SHA-256 of the manifest in canonical JSON (RFC 8785); it names every other file by digest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import rfc8785

from brownfield.model.files import checked_name
from brownfield.model.rules import refused
from brownfield.model.signature import TensorSpec

__all__ = ["MANIFEST", "FileEntry", "Manifest", "PythonEntry", "checked_slug", "checked_version"]

MANIFEST = "manifest.json"
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its flat name, its SHA-256 in hexadecimal and its size in bytes."""

    path: str
    sha256: str
    size: int


class PythonEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is a Python class: the file of its module, and the class's name."""

    module: str
    class_name: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that is said of a bundle.

    Parameters
    ----------
    name, version
        A slug, and the version that answers carry.
    files
        Every file but the manifest itself, sorted by name.
    contract, contract_digest
        ``id@version`` and digest of the contract it was made for.
    features_digest
        Digest of the features.
    inputs, outputs
        The graph's signature.
    metrics
        Figures by name, such as ``recall_at_10``.
    provenance
        Where it came from, as plain values.
    created_at_utc
        RFC 3339, or ``None`` where a bundle shall be the same whenever it is made.
    hash
        Always ``sha256``.
    schema_version
        Layout of the bundle.
    python
        The class that is the model; left out where an ONNX graph is.
    """

    name: str
    version: str
    files: tuple[FileEntry, ...]
    contract: str
    contract_digest: str
    features_digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metrics: Mapping[str, float] = {}
    provenance: Mapping[str, Any] = {}
    created_at_utc: str | None = None
    hash: str = "sha256"
    schema_version: int = 1
    python: PythonEntry | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        checked_slug(self.name)
        checked_version(self.version)
        for entry in self.files:
            checked_name(entry.path)
            if not _SHA256.fullmatch(entry.sha256) or entry.size < 0:
                raise refused("manifest-form", path=f"files.{entry.path}")

    def to_json(self) -> bytes:
        """Return the one text form."""
        try:
            text = json.dumps(msgspec.to_builtins(self), sort_keys=True, indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise refused("manifest-form", expected="plain values and finite numbers", got=str(error)) from error
        return text.encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read the one text form.

        Raises
        ------
        BundleRefused
            ``manifest-schema``, ``manifest-hash``, ``manifest-form``, or the rule of a name in it.
        """
        head = _decoded(text, _Head)
        if head.schema_version != 1:
            raise refused("manifest-schema", expected="1", got=str(head.schema_version))
        if head.hash != "sha256":
            raise refused("manifest-hash", got=ascii(head.hash[:40]))
        manifest = _decoded(text, cls)
        if manifest.to_json() != text:
            raise refused("manifest-form", next_step="Let `write_bundle` write it; it is not meant to be edited.")
        return manifest

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON."""
        try:
            return hashlib.sha256(rfc8785.dumps(msgspec.to_builtins(self))).hexdigest()
        except (rfc8785.CanonicalizationError, ValueError) as error:
            raise refused("manifest-form", expected="whole numbers up to 2^53", got=str(error)) from error


_Read = TypeVar("_Read")


def _decoded(text: bytes, kind: type[_Read]) -> _Read:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise refused("manifest-form", got=str(error)) from error


class _Head(msgspec.Struct):
    schema_version: int
    hash: str


def checked_slug(name: str) -> str:
    """Return a name that is a slug, or refuse it.

    Examples
    --------
    >>> checked_slug("store-recommender")
    'store-recommender'
    """
    if not _SLUG.fullmatch(name):
        raise refused("bundle-name", got=ascii(name[:80]))
    return name


def checked_version(version: str) -> str:
    """Return a version that may stand in a path and in an answer, or refuse it.

    Examples
    --------
    >>> checked_version("1.0.0")
    '1.0.0'
    """
    if not _VERSION.fullmatch(version):
        raise refused("bundle-version", got=ascii(version[:80]))
    return version
