"""The JSON format: strict records, one by one, as lines or as one array."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Json
from brownfield.errors import FormatError, RejectionCode

CODES = RejectionCode
WANTED = pa.schema({"n": pa.int64(), "x": pa.float64(), "t": pa.string(), "b": pa.bool_(), "l": pa.list_(pa.int64())})


def read(data, records="lines", wanted=WANTED, **options):
    """Decode a file: rows, and rejects as (position, field, code)."""
    decoded = list(Json(records, **options).decode(io.BytesIO(data), wanted, 3))
    rows = [row for part in decoded for row in part.batch.to_pylist()]
    return rows, [(each.position, each.field, each.code) for part in decoded for each in part.rejects]


@pytest.mark.parametrize(
    ("record", "field", "code"),
    [
        pytest.param(b'{"n": 1, "n": 2}', "n", CODES.JSON_DUPLICATE_KEY, id="B-14"),
        pytest.param(b'{"x": NaN}', "", CODES.JSON_NUMBER, id="B-15-nan"),
        pytest.param(b'{"x": 1e999}', "", CODES.JSON_NUMBER, id="B-15-overflow"),
        pytest.param(b'{"n": 1.5}', "n", CODES.FIELD_TYPE, id="B-15-fraction"),
        pytest.param(b'{"x": 9007199254740993}', "x", CODES.FIELD_INEXACT, id="B-15-inexact"),
        pytest.param(b'{"n": 18446744073709551615}', "n", CODES.FIELD_INEXACT, id="B-15-beyond-int64"),
        pytest.param(b'{"n": "1"}', "n", CODES.FIELD_TYPE, id="B-19-number-as-text"),
        pytest.param(b'{"n": true}', "n", CODES.FIELD_TYPE, id="B-19-boolean-as-number"),
        pytest.param(b'{"b": 1}', "b", CODES.FIELD_TYPE, id="B-19-number-as-boolean"),
        pytest.param(b'{"t": 1}', "t", CODES.FIELD_TYPE, id="B-19-number-for-text"),
        pytest.param(b'{"l": [1, "2"]}', "l", CODES.FIELD_TYPE, id="B-19-in-a-list"),
        pytest.param(b'{"l": {"a": 1}}', "l", CODES.FIELD_TYPE, id="B-19-object-for-list"),
        pytest.param(b"[" * 1000 + b"]" * 1000, "", CODES.JSON_DEPTH, id="B-13"),
        pytest.param(b'{"t": "\\u0000"}', "", CODES.JSON_NUL, id="B-08"),
        pytest.param(b'{"t": "\xff"}', "", CODES.JSON_ENCODING, id="B-07"),
        pytest.param(b"17", "", CODES.JSON_SHAPE, id="no-object"),
        pytest.param(b'{"n": 1,}', "", CODES.JSON_SYNTAX, id="syntax"),
    ],
)
@pytest.mark.parametrize("records", ["lines", "array"])
def test_a_bad_record_is_rejected_alone(record, field, code, records):
    """Strictness is that of requests, and the records around a bad one are read."""
    good = b'{"n": 7, "x": 1, "t": "a", "b": true, "l": [1, null]}'
    parts = [good, record, good]
    file = b"\n".join(parts) if records == "lines" else b"[" + b" ,\n".join(parts) + b"]\n"
    rows, rejects = read(file, records)
    assert rows == [{"n": 7, "x": 1.0, "t": "a", "b": True, "l": [1, None]}] * 2
    begin = len(good) + (1 if records == "lines" else 4)
    word = "line" if records == "lines" else "record"
    assert rejects == [(f"{word} 2, byte {begin}", field, code)]


def test_keys_that_are_absent_or_null_are_missing_and_others_are_passed_over():
    """A record need not have every field, and may have more."""
    assert read(b'{"n": null, "other": {"deep": [1]}}\n')[0] == [
        {"n": None, "x": None, "t": None, "b": None, "l": None}
    ]


def test_b_40_a_long_line_is_one_reject_and_is_not_kept_whole():
    """A line beyond the limit costs its record, and its rest is not held in memory."""
    data = b'{"t": "' + b"a" * 500 + b'"}\n{"n": 1}\n'
    rows, rejects = read(data, max_record_bytes=100)
    assert [row["n"] for row in rows] == [1]
    assert rejects == [("line 1, byte 0", "", CODES.DECODE_LONG)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"n": 1}', id="no-array"),
        pytest.param(b'[{"n": 1}', id="open"),
        pytest.param(b'[{"n": 1} {"n": 2}]', id="no-comma"),
        pytest.param(b'[{"n": 1}] 7', id="more-behind"),
        pytest.param(b'[{"t": "abc', id="open-string"),
        pytest.param(b"[" + b"[" * 5000, id="B-13-open-depth"),
        pytest.param(b'[{"t": "' + b"a" * 900_000 + b'"}]', id="B-40-too-long"),
    ],
)
def test_an_array_that_does_not_close_stops_the_file(data):
    """Where the next record would begin cannot be told, so nothing is guessed."""
    with pytest.raises(FormatError):
        read(data, "array", max_record_bytes=1000)


values = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "t": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
        "b": st.none() | st.booleans(),
        "l": st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3),
    }
)


@given(st.lists(values, max_size=7), st.sampled_from(["lines", "array"]))
def test_decoding_undoes_encoding(rows, records):
    """decode(encode(x)) = x for all values, texts with quotes, brackets and backslashes among them."""
    data = b"".join(Json(records).encode([pa.RecordBatch.from_pylist(rows, WANTED)]))
    assert read(data, records) == (rows, [])


@pytest.mark.full
@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_the_places_of_an_array_do_not_depend_on_how_it_comes(rows, data):
    """An array that arrives in pieces of any size is cut into the same records."""
    raw = b"".join(Json("array").encode([pa.RecordBatch.from_pylist(rows, WANTED)]))
    step = data.draw(st.integers(1, 40))

    class Slow(io.BytesIO):
        def read(self, _size=-1):
            return super().read(step)

    decoded = list(Json("array").decode(Slow(raw), WANTED))
    assert [row for part in decoded for row in part.batch.to_pylist()] == rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a\0"])
def test_what_json_cannot_say_is_not_written(value):
    """NaN, infinities and NUL would not come back."""
    with pytest.raises(FormatError):
        list(Json().encode([pa.record_batch({"v": [value]})]))
