"""The ledger of runs, counts and positions, and the quarantine."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create the tables that batch work needs."""
    op.create_table(
        "run",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("integration", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("contract", sa.String(256), nullable=False),
        sa.Column("contract_digest", sa.String(64), nullable=False),
        sa.Column("started_utc", sa.String(27), nullable=False),
        sa.Column("finished_utc", sa.String(27)),
        sa.Column("status", sa.String(16), nullable=False),
    )
    op.create_index("run_by_integration", "run", ["integration", "started_utc"])
    op.create_table(
        "run_source",
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("rows_in", sa.Integer, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("quarantined", sa.Integer, nullable=False),
        sa.Column("repaired", sa.Integer, nullable=False),
        sa.CheckConstraint("rows_in = accepted + quarantined", name="every_row_counted_once"),
    )
    op.create_table(
        "run_rule",
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("code", sa.String(32), primary_key=True),
        sa.Column("rule", sa.String(256), primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
    )
    op.create_table(
        "position",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("updated_utc", sa.String(27), nullable=False),
    )
    _create_quarantine()


def _create_quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("record_id", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("position", sa.Text),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("field", sa.String(256), nullable=False),
        sa.Column("rule", sa.String(256), nullable=False),
        sa.Column("violations", sa.Text, nullable=False),
        sa.Column("contract", sa.String(256), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("first_seen_utc", sa.String(27), nullable=False),
        sa.Column("last_seen_utc", sa.String(27), nullable=False),
        sa.Column("raw", sa.LargeBinary),
        sa.Column("raw_bytes", sa.Integer, nullable=False),
        sa.Column("preview", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
    )
    op.create_index("quarantine_by_rule", "quarantine", ["integration", "source", "state", "code", "rule"])
    op.create_index("quarantine_by_run", "quarantine", ["run_id"])
