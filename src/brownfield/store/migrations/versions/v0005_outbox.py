"""What is to be written back and how far that came, and who approved which declaration of it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Create the tables that writing back needs."""
    op.create_table(
        "outbox",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("sink", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("effect_id", sa.String(64), nullable=False, unique=True),
        sa.Column("dataset", sa.String(128), nullable=False),
        sa.Column("file", sa.String(128), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("batch_rows", sa.Integer, nullable=False),
        sa.Column("batches_done", sa.Integer, nullable=False),
        sa.Column("position", sa.Text),
        sa.Column("run_id", sa.String(32), sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.Column("entered_utc", sa.String(27), nullable=False),
        sa.Column("tried_utc", sa.String(27)),
        sa.Column("finished_utc", sa.String(27)),
    )
    op.create_index("outbox_by_state", "outbox", ["integration", "state", "sink", "number"])
    op.create_table(
        "approval",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("sink", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("approved_utc", sa.String(27), nullable=False),
    )
