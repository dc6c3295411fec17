"""Which messages of a queue were committed, and how often each of the others was tried."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Create the tables that queues need."""
    op.create_table(
        "inbox",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("message", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("committed_utc", sa.String(27), nullable=False),
    )
    op.create_index("inbox_by_age", "inbox", ["integration", "source", "committed_utc"])
    op.create_table(
        "attempt",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("message", sa.String(64), primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_utc", sa.String(27), nullable=False),
    )
