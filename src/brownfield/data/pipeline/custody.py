"""How refused records are kept: encrypted where the contract classifies them, for a declared time, up to a size."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from brownfield.errors import QuarantineFull
from brownfield.security import Keyring, decrypt, encrypt, read_keyring
from brownfield.store import is_masked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.clock import Clock
    from brownfield.contract import Schema
    from brownfield.integration import IntegrationSpec, WorkspaceSpec
    from brownfield.store import Quarantined, Refused, Transaction

__all__ = ["Custody", "clear_positions", "custody_of", "is_classified"]

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Custody:
    """What a workspace declares for all its refused records.

    Parameters
    ----------
    keys
        Encrypt raw bytes of classified records; without them these bytes are not kept.
    keep_d
        Days after which raw bytes and previews are deleted.
    max_bytes
        Raw bytes that all integrations may keep together.
    """

    keys: Keyring | None = None
    keep_d: float = 90.0
    max_bytes: int = 512 * _MIB

    def sealed(self, record: "Refused", integration: str, source: str) -> "Refused":
        """Give a classified record as it may be kept: encrypted, or without its bytes where there is no key."""
        raw_bytes = len(record.raw or b"")
        if self.keys is None or record.raw is None:
            return replace(record, raw=None, raw_bytes=raw_bytes)
        key = self.keys.active
        sealed = encrypt(record.raw, key, _context(integration, source, record.record_id))
        return replace(record, raw=sealed, raw_bytes=raw_bytes, key_id=key.key_id)

    def opened(self, entry: "Quarantined") -> bytes | None:
        """Give the bytes of a record as its source gave them; None where they were not kept whole.

        Raises
        ------
        DecryptionFailed
            When the key that encrypted them is not declared, or they were changed.
        """
        if entry.raw is None or not entry.whole:
            return None
        if not entry.key_id:
            return entry.raw
        return decrypt(entry.raw, self.keys, _context(entry.integration, entry.source, entry.record_id))

    def check_room(self, kept_bytes: int, where: str) -> None:
        """Stop a run before its refused records fill the store, or the memory.

        Raises
        ------
        QuarantineFull
            When they would be more than is declared; nothing of the run is kept, and nothing is dropped.
        """
        if kept_bytes > self.max_bytes:
            raise QuarantineFull(
                where=where,
                expected=f"refused records of at most {self.max_bytes // _MIB:,} MiB in all (quarantine.max_mib)",
                got=f"{kept_bytes / _MIB:,.1f} MiB",
                next_step="Nothing of this run was kept. Replay or discard refused records and let them expire, "
                "or allow more.",
            )

    def expire(self, tx: "Transaction", integration: str, clock: "Clock") -> int:
        """Delete what was kept longer than declared, and say so in the audit log; returns the records."""
        expired = tx.quarantine.expire(clock.now_utc() - timedelta(days=self.keep_d), integration)
        if expired:
            detail: dict[str, Any] = {"records": expired, "keep_d": str(self.keep_d)}
            tx.audit.append(actor="brownfield", action="quarantine.expire", subject=integration, detail=detail)
        return expired


def custody_of(workspace: "WorkspaceSpec") -> Custody:
    """Read how a workspace keeps refused records.

    Raises
    ------
    DeclarationError
        When an encryption key cannot be read.
    """
    declared = workspace.quarantine
    return Custody(read_keyring(workspace.security, workspace.folder), declared.keep_d, declared.max_mib * _MIB)


def is_classified(schemas: "Iterable[Schema]") -> bool:
    """Say whether any field of these schemas is classified."""
    return any(is_masked(field.classification) for schema in schemas for field in schema.fields)


def clear_positions(integration: "IntegrationSpec", source: str) -> list[str]:
    """Name the classified fields by which a feed is read on: their values would be kept in clear as its position."""
    cursor = integration.sources[source].cursor
    schema = integration.contract.schemas.get(source)
    if cursor is None or schema is None:
        return []
    read_by = {cursor.column, *((cursor.key,) if isinstance(cursor.key, str) else cursor.key)}
    return [field.name for field in schema.fields if field.name in read_by and is_masked(field.classification)]


def _context(integration: str, source: str, record_id: str) -> str:
    return f"quarantine/{integration}/{source}/{record_id}"
