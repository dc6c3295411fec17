"""What init --from makes of the tables of real PostgreSQL and MariaDB servers, within their budgets."""

import pyarrow as pa
import pytest

from brownfield.data.sources import reflect_server

pytestmark = pytest.mark.full


def test_tables_columns_keys_and_samples_are_reflected(server, table):
    """Each table comes with its key, its never empty columns and typed rows; bytes are left out, nothing is written."""
    server.run(
        "DROP TABLE IF EXISTS seen",
        "CREATE TABLE seen (a integer NOT NULL, b varchar(9) NOT NULL, c numeric(8,2), d date, PRIMARY KEY (a, b))",
        "INSERT INTO seen VALUES (1, 'x', 1.5, '2026-11-20'), (2, 'y', NULL, NULL), (3, 'z', 2.25, '2026-11-21')",
    )
    found = {each.name: each for each in reflect_server(table("seen"), 100)}["seen"]
    assert (found.primary_key, found.required, found.complete) == (("a", "b"), {"a", "b"}, True)
    assert found.sample.column_names == ["a", "b", "c", "d"]
    assert pa.types.is_date(found.sample.schema.field("d").type)
    assert sorted(found.sample["a"].to_pylist()) == [1, 2, 3]
    few = {each.name: each for each in reflect_server(table("seen"), 2)}["seen"]
    assert (few.sample.num_rows, few.complete) == (2, False)
