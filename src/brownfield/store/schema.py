"""The tables of the store, as the newest migration leaves them.

A test compares them with what the migrations build, so this file and ``migrations/`` cannot drift apart.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

__all__ = [
    "METADATA",
    "admission",
    "approval",
    "attempt",
    "audit",
    "delivery",
    "inbox",
    "lookup_event",
    "lookup_state",
    "outbox",
    "part",
    "position",
    "quarantine",
    "quarantine_reason",
    "run",
    "run_lookup",
    "run_rule",
    "run_source",
    "source_state",
]

METADATA = sa.MetaData()


class UtcStamp(sa.TypeDecorator[datetime]):
    """An aware UTC time as fixed-width text, so that text order is time order."""

    impl = sa.String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Return the stored text of a time."""
        return None if value is None else stamp(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Return the aware time of a stored text."""
        return None if value is None else datetime.fromisoformat(value)


class JsonText(sa.TypeDecorator[Any]):
    """Any JSON value as text."""

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """Return the stored text of a value."""
        return None if value is None else msgspec.json.encode(value, order="sorted").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 (SQLAlchemy's signature)
        """Return the value of a stored text."""
        return None if value is None else msgspec.json.decode(value)


def stamp(at: datetime) -> str:
    """Text of an aware time: UTC, microseconds, always 27 characters.

    Examples
    --------
    >>> stamp(datetime(2026, 11, 21, 4, tzinfo=UTC))
    '2026-11-21T04:00:00.000000Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn one row into keyword arguments for its record class."""
    return {str(key): value for key, value in row.items()}


run = sa.Table(
    "run",
    METADATA,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("integration", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("contract", sa.String(256), nullable=False),
    sa.Column("contract_digest", sa.String(64), nullable=False),
    sa.Column("started_utc", UtcStamp, nullable=False),
    sa.Column("finished_utc", UtcStamp),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Index("run_by_integration", "integration", "started_utc"),
)

run_source = sa.Table(
    "run_source",
    METADATA,
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("rows_in", sa.Integer, nullable=False),
    sa.Column("accepted", sa.Integer, nullable=False),
    sa.Column("quarantined", sa.Integer, nullable=False),
    sa.Column("repaired", sa.Integer, nullable=False),
    sa.Column("mapping", sa.String(64), nullable=False, server_default=""),
    sa.CheckConstraint("rows_in = accepted + quarantined", name="every_row_counted_once"),
)

run_rule = sa.Table(
    "run_rule",
    METADATA,
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("code", sa.String(32), primary_key=True),
    sa.Column("rule", sa.String(256), primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
)

position = sa.Table(
    "position",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("position", JsonText, nullable=False),
    sa.Column("updated_utc", UtcStamp, nullable=False),
)

source_state = sa.Table(
    "source_state",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("rows_total", sa.Integer, nullable=False),
    sa.Column("rows_last", sa.Integer, nullable=False),
    sa.Column("shape", JsonText, nullable=False),
)

delivery = sa.Table(
    "delivery",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("origin", sa.String(4352), primary_key=True),
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("mtime_ns", sa.BigInteger),
    sa.Column("rows", sa.Integer, nullable=False, server_default="0"),
    sa.Column("code", sa.String(32), nullable=False, server_default=""),
    sa.Column("head", sa.LargeBinary, nullable=False, server_default=""),
)

inbox = sa.Table(
    "inbox",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("message", sa.String(64), primary_key=True),
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    sa.Column("committed_utc", UtcStamp, nullable=False),
    sa.Index("inbox_by_age", "integration", "source", "committed_utc"),
)

attempt = sa.Table(
    "attempt",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("message", sa.String(64), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_utc", UtcStamp, nullable=False),
)

part = sa.Table(
    "part",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("dataset", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("file", sa.String(128), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("sink", sa.String(128), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("effect_id", sa.String(64), nullable=False, unique=True),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("file", sa.String(128), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("batch_rows", sa.Integer, nullable=False),
    sa.Column("batches_done", sa.Integer, nullable=False),
    sa.Column("position", JsonText),
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("entered_utc", UtcStamp, nullable=False),
    sa.Column("tried_utc", UtcStamp),
    sa.Column("finished_utc", UtcStamp),
    sa.Index("outbox_by_state", "integration", "state", "sink", "number"),
)

approval = sa.Table(
    "approval",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("sink", sa.String(128), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("approved_utc", UtcStamp, nullable=False),
)

quarantine = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("record_id", sa.String(64), primary_key=True),
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    sa.Column("position", JsonText),
    sa.Column("stage", sa.String(32), nullable=False),
    sa.Column("contract", sa.String(256), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("first_seen_utc", UtcStamp, nullable=False),
    sa.Column("last_seen_utc", UtcStamp, nullable=False),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("raw_bytes", sa.Integer, nullable=False),
    sa.Column("preview", JsonText),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False, server_default="0"),
    sa.Column("key_id", sa.String(16), nullable=False, server_default=""),
    sa.Column("park_key", sa.String(64), nullable=False, server_default=""),
    sa.Column("head", sa.LargeBinary, nullable=False, server_default=""),
    sa.Index("quarantine_by_run", "run_id"),
    sa.Index("quarantine_by_state", "integration", "source", "state", "seq"),
    sa.Index("quarantine_by_key", "integration", "source", "park_key"),
)

quarantine_reason = sa.Table(
    "quarantine_reason",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("record_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("code", sa.String(32), nullable=False),
    sa.Column("field", sa.String(256), nullable=False),
    sa.Column("rule", sa.String(256), nullable=False),
    sa.Index("quarantine_reason_by_rule", "integration", "source", "code", "rule"),
)

lookup_state = sa.Table(
    "lookup_state",
    METADATA,
    sa.Column("integration", sa.String(128), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("standing", JsonText, nullable=False),
    sa.Column("as_of_utc", UtcStamp),
    sa.Column("updated_utc", UtcStamp, nullable=False),
)

lookup_event = sa.Table(
    "lookup_event",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at_utc", UtcStamp, nullable=False),
    sa.Column("integration", sa.String(128), nullable=False),
    sa.Column("source", sa.String(128), nullable=False),
    sa.Column("was", sa.String(16), nullable=False),
    sa.Column("now", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(512), nullable=False),
)

run_lookup = sa.Table(
    "run_lookup",
    METADATA,
    sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
    sa.Column("source", sa.String(128), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("as_of_utc", UtcStamp),
)

admission = sa.Table(
    "admission",
    METADATA,
    sa.Column("admission_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("integration", sa.String(128), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("admitted_utc", UtcStamp, nullable=False),
    sa.Column("probe", JsonText, nullable=False),
    sa.Index("admission_by_integration", "integration", "admitted_utc"),
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at_utc", sa.String(27), nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(512), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False, unique=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)
