"""The audit log of a workspace."""

import sqlite3
from contextlib import closing

import pytest

from brownfield.errors import NotFound, StoreError
from brownfield.store import open_store
from brownfield.workspace.audit import audit_log


@pytest.mark.full
def test_a_verified_log_is_listed_and_a_broken_one_refused(tmp_path):
    """Entries come in order over several pages; once one is changed, nothing is listed and the entry is named."""
    path = tmp_path / "var" / "brownfield.db"
    with pytest.raises(NotFound):
        audit_log(tmp_path)
    with open_store(path) as store, store.commit() as tx:
        for number in range(1, 1203):
            tx.audit.append(actor="a", action="b", subject=str(number))
    assert [entry.subject for entry in audit_log(tmp_path)] == [str(number) for number in range(1, 1203)]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'z' WHERE seq = 77")
        connection.commit()
    with pytest.raises(StoreError, match="entry 77 was tampered with"):
        audit_log(tmp_path)
