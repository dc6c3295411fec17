"""Durable ledgers of a workspace: what was done, what was refused, what was admitted, what was changed.

What stands on the database is imported on first use: it brings SQLAlchemy and Alembic, which the processes that serve
do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from brownfield.store.files import private_folder, sync_folder, write_private
from brownfield.store.journal import Journal, JournalPolicy
from brownfield.store.journal_reading import read_journal
from brownfield.store.lock import workspace_lock
from brownfield.store.masking import is_masked, mask_value
from brownfield.store.today import Today

if TYPE_CHECKING:
    from brownfield.store.audit import AuditEntry, AuditHead, AuditVerdict
    from brownfield.store.database import MigrationPlan, check_whole, copy_database, migration_plan
    from brownfield.store.inbox import Inbox
    from brownfield.store.ledger import Delivery, Run, SourceCounts, SourceState
    from brownfield.store.lookups import LookupEvent, LookupState
    from brownfield.store.outbox import OutboxEntry, OutboxState
    from brownfield.store.parts import Part
    from brownfield.store.quarantine import Parked, Quarantined, QuarantineState, Refused, Selection
    from brownfield.store.registry import Admission
    from brownfield.store.store import Store, Transaction, open_store

__all__ = [
    "Admission",
    "AuditEntry",
    "AuditHead",
    "AuditVerdict",
    "Delivery",
    "Inbox",
    "Journal",
    "JournalPolicy",
    "LookupEvent",
    "LookupState",
    "MigrationPlan",
    "OutboxEntry",
    "OutboxState",
    "Parked",
    "Part",
    "QuarantineState",
    "Quarantined",
    "Refused",
    "Run",
    "Selection",
    "SourceCounts",
    "SourceState",
    "Store",
    "Today",
    "Transaction",
    "check_whole",
    "copy_database",
    "is_masked",
    "mask_value",
    "migration_plan",
    "open_store",
    "private_folder",
    "read_journal",
    "sync_folder",
    "workspace_lock",
    "write_private",
]

_MODULES = {
    "audit": ("AuditEntry", "AuditHead", "AuditVerdict"),
    "database": ("MigrationPlan", "check_whole", "copy_database", "migration_plan"),
    "inbox": ("Inbox",),
    "ledger": ("Delivery", "Run", "SourceCounts", "SourceState"),
    "lookups": ("LookupEvent", "LookupState"),
    "outbox": ("OutboxEntry", "OutboxState"),
    "parts": ("Part",),
    "quarantine": ("Parked", "Quarantined", "QuarantineState", "Refused", "Selection"),
    "registry": ("Admission",),
    "store": ("Store", "Transaction", "open_store"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
