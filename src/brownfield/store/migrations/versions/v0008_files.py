"""What is known of each delivered file: where it lay, how long it was, how many records it had, why it was refused."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Add the columns; rows of before have none of it."""
    with op.batch_alter_table("delivery") as table:
        table.add_column(sa.Column("size_bytes", sa.BigInteger))
        table.add_column(sa.Column("mtime_ns", sa.BigInteger))
        table.add_column(sa.Column("rows", sa.Integer, nullable=False, server_default="0"))
        table.add_column(sa.Column("code", sa.String(32), nullable=False, server_default=""))
        table.add_column(sa.Column("head", sa.LargeBinary, nullable=False, server_default=""))
