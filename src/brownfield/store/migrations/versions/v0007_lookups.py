"""Where each lookup stands in its chain, its changes, and what each run read it from."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Create the tables of fail-over."""
    op.create_table(
        "lookup_state",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("as_of_utc", sa.String(27)),
        sa.Column("updated_utc", sa.String(27), nullable=False),
    )
    op.create_table(
        "lookup_event",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at_utc", sa.String(27), nullable=False),
        sa.Column("integration", sa.String(128), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("was", sa.String(16), nullable=False),
        sa.Column("now", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(512), nullable=False),
    )
    op.create_table(
        "run_lookup",
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("as_of_utc", sa.String(27)),
    )
