"""Which files make up each table, what the last reading of a source saw, and which files were delivered."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Create the tables that reading on from a position needs."""
    op.create_table(
        "part",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("dataset", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("file", sa.String(128), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    )
    op.create_table(
        "source_state",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("rows_total", sa.Integer, nullable=False),
        sa.Column("rows_last", sa.Integer, nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("origin", sa.String(4352), primary_key=True),
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
    )
