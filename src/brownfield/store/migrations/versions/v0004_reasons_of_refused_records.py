"""Every reason of a refused record, the key that sealed its bytes, and the key of records that wait behind it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"

_REASONS = """
INSERT INTO quarantine_reason (integration, source, record_id, number, code, field, rule)
SELECT q.integration, q.source, q.record_id, v.key,
       json_extract(v.value, '$[0]'), json_extract(v.value, '$[1]'), json_extract(v.value, '$[2]')
FROM quarantine AS q, json_each(q.violations) AS v
"""


def upgrade() -> None:
    """Move the reasons into a table of their own and number the records in the order of their coming."""
    op.create_table(
        "quarantine_reason",
        sa.Column("integration", sa.String(128), primary_key=True),
        sa.Column("source", sa.String(128), primary_key=True),
        sa.Column("record_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("field", sa.String(256), nullable=False),
        sa.Column("rule", sa.String(256), nullable=False),
    )
    op.create_index("quarantine_reason_by_rule", "quarantine_reason", ["integration", "source", "code", "rule"])
    op.execute(_REASONS)
    op.drop_index("quarantine_by_rule", "quarantine")
    for name in ("code", "field", "rule", "violations"):
        op.drop_column("quarantine", name)
    op.add_column("quarantine", sa.Column("seq", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE quarantine SET seq = rowid")
    op.add_column("quarantine", sa.Column("key_id", sa.String(16), nullable=False, server_default=""))
    op.add_column("quarantine", sa.Column("park_key", sa.String(64), nullable=False, server_default=""))
    op.add_column("quarantine", sa.Column("head", sa.LargeBinary, nullable=False, server_default=""))
    op.create_index("quarantine_by_state", "quarantine", ["integration", "source", "state", "seq"])
    op.create_index("quarantine_by_key", "quarantine", ["integration", "source", "park_key"])
