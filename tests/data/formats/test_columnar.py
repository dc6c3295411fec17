"""Parquet and Arrow files: typed columns in and out, and files that are damaged or hostile."""

import datetime as dt
import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Arrow, Parquet
from brownfield.errors import FormatError, RejectionCode

CODES = RejectionCode
KINDS = {  # in this process; tests/data/formats/test_columnar_process.py has the other way
    "parquet": Parquet(is_confined=False),
    "file": Arrow("file", is_confined=False),
    "stream": Arrow("stream", is_confined=False),
}
every_kind = pytest.mark.parametrize("kind", sorted(KINDS))


def write(kind, table):
    """Write a table by the library itself."""
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        opened = (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, table.schema)
        with opened:
            opened.write_table(table)
    return sink.getvalue()


def read(kind, data, wanted, rows=65_536):
    """Decode a file: rows, and rejects as (position, field, code)."""
    decoded = list(KINDS[kind].decode(io.BytesIO(data), wanted, rows))
    values = [row for part in decoded for row in part.batch.to_pylist()]
    return values, [(each.position, each.field, each.code) for part in decoded for each in part.rejects]


@every_kind
@pytest.mark.parametrize(
    ("column", "wanted", "values"),
    [
        (pa.array([1, None], pa.int8()), pa.int64(), [1, None]),
        (pa.array([1, None], pa.uint32()), pa.float64(), [1.0, None]),
        (pa.array([1.5, None], pa.float32()), pa.float64(), [1.5, None]),
        (pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)), pa.float64(), [1.25, None]),
        (pa.array(["a", None]).dictionary_encode(), pa.string(), ["a", None]),
        (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None]),
        (pa.array([True, None]), pa.bool_(), [True, None]),
        (pa.array([[1, None], None], pa.large_list(pa.int16())), pa.list_(pa.int64()), [[1, None], None]),
        (pa.array([dt.date(2026, 2, 28), None]), pa.date32(), ["2026-02-28", None]),
        (
            pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("ms", "UTC")),  # noqa: DTZ001 (stored as UTC)
            pa.timestamp("us", "UTC"),
            ["2026-01-02 03:04:05.000Z", None],
        ),
    ],
)
def test_a_typed_column_becomes_the_wanted_kind(kind, column, wanted, values):
    """Whole numbers, numbers, texts and lists keep their values, and dates are handed on as texts."""
    data = write(kind, pa.table({"other": [0, 0], "v": column}))
    rows, rejects = read(kind, data, pa.schema({"v": wanted}))
    assert rejects == []
    assert [row["v"] for row in rows] == values


@every_kind
@pytest.mark.parametrize(
    ("column", "wanted", "code"),
    [
        pytest.param(pa.array([2**53 + 1, 5]), pa.float64(), CODES.FIELD_INEXACT, id="B-15-inexact"),
        pytest.param(pa.array([2**63, 5], pa.uint64()), pa.int64(), CODES.FIELD_INEXACT, id="B-15-beyond-int64"),
        pytest.param(pa.array([-1, 5]), pa.uint64(), CODES.FIELD_INEXACT, id="B-15-negative"),
        pytest.param(pa.array([float("nan"), 5.0]), pa.float64(), CODES.DECODE_NUMBER, id="B-15-nan"),
        pytest.param(pa.array(["a\0", "5"]), pa.string(), CODES.DECODE_TEXT, id="B-08"),
        pytest.param(
            pa.array([[1.0, float("inf")], [5.0]]), pa.list_(pa.float64()), CODES.DECODE_NUMBER, id="B-15-in-a-list"
        ),
    ],
)
def test_a_value_that_would_change_rejects_its_row(kind, column, wanted, code):
    """No value is rounded, wrapped or dropped; the row beside it is read."""
    rows, rejects = read(kind, write(kind, pa.table({"v": column})), pa.schema({"v": wanted}))
    assert rejects == [("row 1", "v", code)]
    assert [row["v"] for row in rows] == [column.to_pylist()[1]]


@every_kind
@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([1.5]), pa.int64()),
        (pa.array(["1"]), pa.int64()),
        (pa.array([1]), pa.string()),
        (pa.array([1]), pa.bool_()),
        (pa.array([b"a"]), pa.string()),
        (pa.array([Decimal(1)], pa.decimal128(30, 2)), pa.float64()),
        (pa.array([[1]]), pa.int64()),
        (pa.array([{"a": 1}]), pa.string()),
    ],
)
def test_b_46_a_type_that_cannot_become_the_wanted_one_is_refused(kind, column, wanted):
    """Nothing is coerced: the file as a whole does not have the declared form."""
    with pytest.raises(FormatError, match="can become"):
        read(kind, write(kind, pa.table({"v": column})), pa.schema({"v": wanted}))


@every_kind
def test_b_29_extension_types_are_refused(kind):
    """A type that brings code or meaning of its own is none of ours."""
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"], pa.binary(16)))
    data = write(kind, pa.table({"v": column}))
    with pytest.raises(FormatError):
        read(kind, data, pa.schema({"v": pa.string()}))


@every_kind
def test_b_29_a_damaged_file_is_refused_or_read_but_never_worse(kind):
    """Bytes that are flipped, cut off or turned to zeros give a typed refusal, or values that pass all checks."""
    table = pa.table({"v": pa.array(["abc", None, "de"] * 30).dictionary_encode(), "n": list(range(90))})
    data = write(kind, table)
    rng = np.random.default_rng(29)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        place = int(rng.integers(len(data)))
        damaged[place : place + int(rng.integers(1, 9))] = bytes(rng.integers(0, 256, 4, dtype=np.uint8))
        try:
            read(
                kind,
                bytes(damaged[: int(rng.integers(1, len(data) + 1))]),
                pa.schema({"v": pa.string(), "n": pa.int64()}),
            )
        except FormatError:
            refused += 1
    assert refused > 100


def test_b_29_a_dictionary_index_out_of_range_is_refused():
    """Every index is looked at before it is used."""
    bad = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int8()), pa.array(["a"]), safe=False)
    with pytest.raises(FormatError):
        read("stream", write("stream", pa.table({"v": bad})), pa.schema({"v": pa.string()}))


def test_b_29_offsets_that_decrease_are_refused():
    """Every offset is looked at before it is used."""
    offsets = np.array([0, 3, 1], dtype=np.int32)
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(b"abc"))
    with pytest.raises(FormatError):
        read("stream", write("stream", pa.table({"v": bad})), pa.schema({"v": pa.string()}))


@every_kind
def test_b_29_columns_nested_a_thousand_deep_are_refused(kind):
    """Depth is bounded before anything is built."""
    nested = pa.int64()
    for _ in range(1000):
        nested = pa.list_(nested)
    schema = pa.schema({"v": nested})
    try:
        data = write(kind, schema.empty_table())
    except (pa.ArrowException, RecursionError):
        pytest.skip("the library itself does not write such a file")
    with pytest.raises(FormatError):
        read(kind, data, pa.schema({"v": pa.int64()}))


@every_kind
def test_a_column_that_is_not_there_names_those_that_are(kind):
    """The error lists the columns of the file."""
    with pytest.raises(FormatError, match="There is store_id"):
        read(kind, write(kind, pa.table({"store_id": [1]})), pa.schema({"store": pa.int64()}))


@every_kind
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "n": st.none() | st.integers(-(2**63), 2**63 - 1),
                "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "t": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
                "l": st.none() | st.lists(st.none() | st.booleans(), max_size=3),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    together=st.integers(1, 4),
)
def test_decoding_undoes_encoding(kind, rows, together):
    """decode(encode(x)) = x for values, lists and missing ones, whatever the batch size."""
    schema = pa.schema({"n": pa.int64(), "x": pa.float64(), "t": pa.string(), "l": pa.list_(pa.bool_())})
    data = b"".join(KINDS[kind].encode(pa.RecordBatch.from_pylist([row], schema) for row in rows))
    assert read(kind, data, schema, together) == (rows, [])


def test_b_29_more_row_groups_than_the_cap_are_refused(monkeypatch):
    """What the footer says is checked before a row group is read."""
    monkeypatch.setattr("brownfield.data.formats.columnar._MAX_ROW_GROUPS", 2)
    data = b"".join(Parquet().encode([pa.record_batch({"n": [row]}) for row in range(3)]))
    with pytest.raises(FormatError, match="at most 2 row groups"):
        list(Parquet(is_confined=False).decode(io.BytesIO(data), pa.schema({"n": pa.int64()})))


def test_b_29_a_row_group_that_would_be_too_large_is_refused(monkeypatch):
    """A small file that says that it becomes a large one is refused before it is read."""
    monkeypatch.setattr("brownfield.data.formats.columnar._MAX_GROUP_BYTES", 100)
    data = b"".join(Parquet().encode([pa.record_batch({"n": list(range(1000))})]))
    with pytest.raises(FormatError, match="row groups of up to"):
        list(Parquet(is_confined=False).decode(io.BytesIO(data), pa.schema({"n": pa.int64()})))
