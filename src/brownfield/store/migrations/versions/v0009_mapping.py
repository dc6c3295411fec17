"""Under which version of its mapping file each source was read in each run."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    """Add the digest of the mapping file; runs before this revision had none."""
    op.add_column("run_source", sa.Column("mapping", sa.String(64), nullable=False, server_default=""))
