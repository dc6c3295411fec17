"""Only the declared spelling is read; values are those that Python's own parsers find."""

from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.contract import UNITS, Field, Schema, linear
from brownfield.data.decoded import Decoded
from brownfield.data.pipeline.coercions import codes, numbers, truths
from brownfield.data.pipeline.mapping import Mapper
from brownfield.data.pipeline.stamps import dates, timestamps
from brownfield.integration import FieldMapping, MappingSpec, NumberSpelling, Truth, load_document

# ruff: noqa: DTZ001, RUF001 (local times and digits of other scripts on purpose)
HOSTILE = ["1,5", "1.5", " 7 ", "٣", "1e5", "0x1F", "1_000", "--1", "+-1", "1.", ".5", "", "NaN", "inf", "1 000", "½"]


def read(cast, *texts):
    """Values, with the text "bad" for what does not fit."""
    values, bad = cast(pa.array(texts, pa.string()))
    return ["bad" if wrong else value for value, wrong in zip(values.to_pylist(), bad.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("spelling", "whole", "good"),
    [
        ({}, False, {"1.5": 1.5}), ({"decimal": ","}, False, {"1,5": 1.5}), ({}, True, {}),
        ({"exponent": True}, False, {"1.5": 1.5, "1e5": 1e5}), ({"thousands": " "}, True, {"1 000": 1000}),
    ],
    ids=["B-19-point", "B-19-comma", "B-19-whole", "B-36-exponent", "B-36-blank"],
)  # fmt: skip
def test_b19_only_the_declared_spelling_is_a_number(spelling, whole, good):
    """B-19: of a list of look-alikes only those in the declared spelling are read, all others do not fit."""
    found = read(numbers(NumberSpelling(**spelling), whole=whole), *HOSTILE)
    assert found == [good.get(text, "bad") for text in HOSTILE]


@pytest.mark.parametrize(
    ("spelling", "text", "value"),
    [
        ({"decimal": ",", "thousands": "."}, "1.234.567,89", 1234567.89),
        ({"decimal": ",", "thousands": "."}, "12.34,5", "bad"),
        ({"minus": "trailing"}, "12.50-", -12.5), ({"minus": "trailing"}, "-12.50", "bad"),
        ({"minus": "parentheses"}, "(12.50)", -12.5), ({"minus": "parentheses"}, "(12.50", "bad"),
        ({"affixes": ("EUR", "€")}, "EUR 12.50", 12.5), ({"affixes": ("EUR", "€")}, "12.50 USD", "bad"),
        ({"percent": True}, "12.5 %", 0.125), ({"percent": True}, "12.5", "bad"),
        ({"implied_decimals": 2}, "0001250", 12.5), ({"implied_decimals": 2}, "12.50", "bad"),
        ({"minus": "none"}, "-1", "bad"),
    ],
    ids=lambda part: part if isinstance(part, str) else None,
)  # fmt: skip
def test_b36_locales_are_declared(spelling, text, value):
    """B-36: marks, groups, signs, currencies and percent are read as declared and in no other way."""
    assert read(numbers(NumberSpelling(**spelling), whole=False), text, None) == [value, None]


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_are_exact(number):
    """Every 64-bit whole number comes out exactly, one beyond does not fit."""
    cast = numbers(NumberSpelling(), whole=True)
    assert read(cast, str(number), str(2**63), str(-(2**63) - 1)) == [number, "bad", "bad"]


def test_b19_truth_values_and_b33_codes_are_closed_lists():
    """B-19, B-33: a text that is not listed does not fit, or is what the file says for it; case counts."""
    assert read(truths(Truth(yes=("J", "1"), no=("N", "0"))), "J", "0", "j", "true", None) == [
        True,
        False,
        "bad",
        "bad",
        None,
    ]
    assert read(codes({"M": 1}, pa.int64(), None), "M", "X") == [1, "bad"]
    assert read(codes({"M": 1}, pa.int64(), 9), "M", "X", None) == [1, 9, None]


@given(st.dates(), st.sampled_from(["yyyyMMdd", "dd.MM.yyyy", "yyyyDDD", "d/M/yyyy", "M-d-yyyy"]))
def test_b35_dates_are_those_of_the_calendar(day, spelling):
    """B-35: each day of the years 1 to 9999 is read back from each spelling, one at a time and among others."""
    written = {
        "yyyyMMdd": f"{day.year:04d}{day.month:02d}{day.day:02d}",
        "dd.MM.yyyy": f"{day.day:02d}.{day.month:02d}.{day.year:04d}",
        "yyyyDDD": f"{day.year:04d}{day.timetuple().tm_yday:03d}", "d/M/yyyy": f"{day.day}/{day.month}/{day.year:04d}",
        "M-d-yyyy": f"{day.month}-{day.day}-{day.year:04d}",
    }[spelling]  # fmt: skip
    assert read(dates(spelling, None), written, None, "nonsense", written) == [day, None, "bad", day]


@pytest.mark.parametrize(
    "text",
    ["30.02.2026", "29.02.2025", "00.01.2026", "01.13.2026", "2026-01-01", "1.1.2026", "01.01.26",
     "٠١.٠١.٢٠٢٦", "01.01.0000"],
)  # fmt: skip
def test_b35_a_day_that_is_none_does_not_fit(text):
    """B-35: days that the calendar does not have, other spellings and digits of other scripts do not fit."""
    assert read(dates("dd.MM.yyyy", None), text) == ["bad"]


def test_b35_two_digits_serials_and_counts_since_1970():
    """B-35: a window of a hundred years, Excel's serials without its false leap day, and epochs in their own unit."""
    assert read(dates("yyMMdd", 1950), "490101", "500101") == [date(2049, 1, 1), date(1950, 1, 1)]
    days = [date(1900, 1, 1), date(1900, 2, 28), "bad", date(1900, 3, 1), date(2026, 11, 21), "bad"]
    assert read(dates("excel_serial", None), "1", "59", "60", "61", "46347", "46347.5") == days
    assert read(timestamps("excel_serial", None), "46347.5") == [datetime(2026, 11, 21, 12)]
    seconds, thousandths = (
        read(timestamps("epoch_s", None), "1795219200"),
        read(timestamps("epoch_ms", None), "1795219200000"),
    )
    assert seconds == thousandths
    assert seconds[0].isoformat() == "2026-11-21T00:00:00+00:00"
    assert read(timestamps("epoch_s", None), "1795219200000") == ["bad"]


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))
def test_b35_timestamps_are_read_to_the_last_digit(moment):
    """B-35: what is written with microseconds comes back; a leap second or an hour 24 does not fit."""
    text = moment.isoformat(sep=" ", timespec="microseconds")
    assert read(timestamps("yyyy-MM-dd HH:mm:ss.SSSSSS", None), text) == [moment]
    for wrong in ("2016-12-31 23:59:60.000000", "2026-01-01 24:00:00.000000"):
        assert read(timestamps("yyyy-MM-dd HH:mm:ss.SSSSSS", None), wrong) == ["bad"]


def test_b35_an_hour_that_a_zone_has_twice_or_not_at_all_does_not_fit():
    """B-35: around both changes of the clock an hour is refused with a code of its own, all others are instants."""
    schema = Schema("s", (Field(name="at", kind="timestamp"),))
    each = FieldMapping(from_="AT", timestamp="yyyyMMddHHmm", zone="Europe/Berlin")
    mapper = Mapper(MappingSpec(fields={"at": each}, digest="", document=load_document(b"fields: {}", "m")), schema)
    batch = pa.record_batch({"AT": ["202603290230", "202610250230", "202607011200", None]})
    mapped = mapper.apply(Decoded(batch, str, lambda _: b"raw"))
    assert [(each.position, str(each.code), each.stage) for each in mapped.rejects] == [
        ("0", "BF-MAP-005", "map"),
        ("1", "BF-MAP-005", "map"),
    ]
    assert [str(value) for value in mapped.batch["at"].to_pylist()] == ["2026-07-01 10:00:00+00:00", "None"]
    assert mapped.position(1) == "3"


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6))
def test_units_convert_there_and_back_or_not_at_all(one, other, value):
    """A conversion and its way back give the value again; units of two kinds do not convert."""
    there, back = linear(one, other), linear(other, one)
    assert (there is None) == (back is None) == (UNITS[one][0] != UNITS[other][0])
    if there is not None and back is not None:
        assert back[0] * (there[0] * value + there[1]) + back[1] == pytest.approx(value, rel=1e-9, abs=1e-6)


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "X", None]), st.sampled_from(["1,5", "2", "x", None])), max_size=3_000
    )
)
def test_rows_in_are_rows_out_and_rejects_however_many(rows):
    """I3: each row comes out once, in order, whether the distinct values of a column or all of them are looked at."""
    schema = Schema("s", (Field(name="code", kind="string"), Field(name="price", kind="number", dtype="float64")))
    fields = {
        "code": FieldMapping(from_="C", codes={"A": "a", "B": "b"}),
        "price": FieldMapping(from_="P", number=NumberSpelling(decimal=",")),
    }
    mapper = Mapper(MappingSpec(fields=fields, digest="", document=load_document(b"fields: {}", "m")), schema)
    columns = [pa.array([row[side] for row in rows], pa.string()) for side in (0, 1)]
    mapped = mapper.apply(Decoded(pa.record_batch(columns, ["C", "P"]), str, lambda row: str(row).encode()))
    truth = [(code, price) for code, price in rows if code != "X" and price != "x"]
    prices = {"1,5": 1.5, "2": 2.0, None: None}
    expected = [{"code": code and code.lower(), "price": prices[price]} for code, price in truth]
    assert mapped.batch.to_pylist() == expected
    kept = [index for index, (code, price) in enumerate(rows) if code != "X" and price != "x"]
    assert [int(mapped.position(row)) for row in range(mapped.batch.num_rows)] == kept
    refused = sorted([*kept, *(int(each.position) for each in mapped.rejects)])
    assert refused == list(range(len(rows)))


def test_b45_keys_are_normalised_as_declared_and_in_no_other_way():
    """B-45: blanks, case and leading zeros go where the file says so; a key of zeros alone keeps one."""
    schema = Schema(
        "s", (Field(name="key", kind="string"), Field(name="raw", kind="string"), Field(name="part", kind="string"))
    )
    fields = {
        "key": FieldMapping(from_="K", trim="both", case="upper", leading_zeros="strip"),
        "raw": FieldMapping(from_="K"),
        "part": FieldMapping(concat=("K", "K"), separator="/"),
    }
    mapper = Mapper(MappingSpec(fields=fields, digest="", document=load_document(b"fields: {}", "m")), schema)
    batch = pa.record_batch({"K": [" 00ab ", "AB", "000", "", "é0", None]})
    mapped = mapper.apply(Decoded(batch, str, lambda _: b""))
    assert mapped.batch["key"].to_pylist() == ["AB", "AB", "0", "", "É0", None]
    assert mapped.batch["raw"].to_pylist() == batch["K"].to_pylist()
    assert mapped.batch["part"].to_pylist()[1] == "AB/AB"


def test_a_long_stretch_of_days_is_read_as_a_whole():
    """A column of 3,000 rows and few days goes the way of distinct values, with the same outcome."""
    days = [date(2026, 1, 1) + timedelta(days=number % 90) for number in range(3_000)]
    schema = Schema("s", (Field(name="day", kind="date"),))
    each = FieldMapping(from_="D", date="yyyyMMdd", sentinels={"99991231": "open_ended"})
    mapper = Mapper(MappingSpec(fields={"day": each}, digest="", document=load_document(b"fields: {}", "m")), schema)
    texts = [f"{day:%Y%m%d}" for day in days]
    texts[7], texts[2_999] = "99991231", "20260230"
    mapped = mapper.apply(Decoded(pa.record_batch({"D": texts}), str, lambda _: b""))
    assert mapped.batch["day"].to_pylist() == [None if index == 7 else day for index, day in enumerate(days[:-1])]
    assert [each.position for each in mapped.rejects] == ["2999"]
    assert mapper.outcome().missing == {"day": {"open_ended": 1}}


def test_b35_counts_and_codes_may_stand_in_columns_of_numbers():
    """B-35, B-34: what a database keeps as numbers is read as such, with its sentinels and codes written as text."""
    schema = Schema(
        "s",
        (
            Field(name="at", kind="timestamp"),
            Field(name="day", kind="date"),
            Field(name="kind", kind="string"),
            Field(name="size", kind="integer", dtype="int64"),
        ),
    )
    fields = {
        "at": FieldMapping(from_="E", reads="integer", timestamp="epoch_s"),
        "day": FieldMapping(from_="X", reads="number", date="excel_serial"),
        "kind": FieldMapping(from_="K", reads="integer", codes={"1": "one"}),
        "size": FieldMapping(from_="N", sentinels={"-1": "unknown"}),
    }
    assert not any(problem for each in fields.values() for problem in each.contradictions())
    mapper = Mapper(MappingSpec(fields=fields, digest="", document=load_document(b"fields: {}", "m")), schema)
    assert [str(each.type) for each in mapper.wanted] == ["int64", "double", "int64", "int64"]
    batch = pa.record_batch({"E": [1795219200, None], "X": [46347.0, 61.0], "K": [1, 1], "N": [-1, 7]})
    mapped = mapper.apply(Decoded(batch, str, lambda _: b""))
    assert mapped.rejects == ()
    assert [str(value) for value in mapped.batch["at"].to_pylist()] == ["2026-11-21 00:00:00+00:00", "None"]
    assert mapped.batch["day"].to_pylist() == [date(2026, 11, 21), date(1900, 3, 1)]
    assert mapped.batch["kind"].to_pylist() == ["one", "one"]
    assert mapped.batch["size"].to_pylist() == [None, 7]
