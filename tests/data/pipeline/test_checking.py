"""What holds for a whole source does not depend on how it is cut into batches."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract import compile_contract
from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.checking import StreamCheck
from brownfield.data.pipeline.instants import with_timestamps

DOCUMENT = {
    "apiVersion": "v3.2.0",
    "kind": "DataContract",
    "id": "c",
    "version": "1.0.0",
    "status": "active",
    "schema": [
        {
            "name": "v",
            "logicalType": "object",
            "properties": [{"name": "u", "logicalType": "integer", "unique": True}],
        },
        {
            "name": "s",
            "logicalType": "object",
            "properties": [
                {"name": "a", "logicalType": "integer", "primaryKey": True, "primaryKeyPosition": 1},
                {"name": "b", "logicalType": "string", "primaryKey": True, "primaryKeyPosition": 2},
                {"name": "u", "logicalType": "integer", "logicalTypeOptions": {"minimum": 0}},
                {"name": "at", "logicalType": "timestamp", "logicalTypeOptions": {"defaultTimezone": "Europe/Berlin"}},
            ],
        },
    ],
}
SCHEMA = compile_contract(DOCUMENT).schema("s")
ONE_KEY = compile_contract(DOCUMENT).schema("v")
TYPES = pa.schema([("a", pa.int64()), ("b", pa.string()), ("u", pa.int64()), ("at", pa.string())])
TIMES = [
    "2026-01-01 10:00:00",
    "2026-03-29 02:30:00",
    "2026-10-25T02:30:00",
    "2026-02-30 00:00:00",
    "soon",
    "2026-01-01T10:00:00+01:00",
]


def verdicts(rows, size, *, shortcut=False, schema=SCHEMA):
    """Accepted rows, and refused rows with their rules, when checked in batches of a size."""
    check = StreamCheck("i", "s", schema)
    accepted, refused = [], []
    for start in range(0, len(rows), size):
        batch = pa.RecordBatch.from_pylist(rows[start : start + size], TYPES)
        batch = with_timestamps(batch, schema) if shortcut else batch
        decoded = Decoded(batch, lambda row, start=start: f"row {start + row}", lambda _: b"")
        table, _, entries = check.check("origin", decoded, {})
        accepted += table.to_pylist()
        refused += [(each.position, sorted(found.rule for found in each.violations)) for each in entries]
    assert check.rows_in == len(accepted) + len(refused)
    return accepted, sorted(refused)


ROW = st.fixed_dictionaries(
    {
        "a": st.integers(0, 2) | st.none(),
        "b": st.sampled_from("xy"),
        "u": st.integers(-1, 9) | st.none(),
        "at": st.sampled_from(TIMES) | st.none(),
    }
)


@pytest.mark.full
@settings(max_examples=40)
@given(st.lists(ROW, max_size=8), st.integers(1, 4))
def test_verdicts_do_not_depend_on_batches_or_shortcuts(rows, size):
    """In batches or as one, with the timestamp shortcut or without: the same rows, the same rules."""
    whole = verdicts(rows, max(len(rows), 1))
    assert verdicts(rows, size) == whole
    assert verdicts(rows, size, shortcut=True) == whole


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
def test_a_key_that_returns_later_is_refused(order):
    """Whether keys come in order or not, the first row of a key stands and later ones are refused."""
    rows = [{"u": n} for n in range(6)][::order]
    _, refused = verdicts([*rows, {"u": 3}], 2, schema=ONE_KEY)
    assert refused == [("row 6", ["u.unique"])]
