"""The batch path: rules over sets, Arrow types, and the dirt of a real chain."""

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract import Field, compile_contract
from brownfield.contract.columns import ColumnChecker
from brownfield.errors import ContractError


def _transactions(**columns) -> pa.Table:
    rows = {
        "line_id": [1, 2, 3, 4, 5],
        "store_id": [1, 1, 2, 2, 3],
        "product_id": [10, 11, 12, 10, 11],
        "quantity": [1, 2, 3, 4, 5],
        "amount": [1.0, 2.5, 3.0, 4.0, 5.0],
        "department": ["GROCERY", "FUEL", None, "N/A", "DELI"],
        "sold_at": ["2017-01-01 09:30:00"] * 5,
    }
    return pa.table(rows | columns)


KNOWN = {"products.product_id": pa.array([10, 11, 12])}


def _verdict(contract, table, references=KNOWN):
    verdict = contract.schema("transactions").batches.check(table, references)
    assert verdict.accepted.num_rows + len(verdict.rejected) == table.num_rows
    assert verdict.kept.tolist() == sorted({*range(table.num_rows)} - {each.row for each in verdict.rejected})
    return verdict, {each.row: [found.rule for found in each.violations] for each in verdict.rejected}


def test_clean_rows_are_accepted_in_the_contracts_types(contract) -> None:
    """Clean rows come out in the declared types, with sentinels gone and times in UTC."""
    verdict, rejected = _verdict(contract, _transactions())
    assert rejected == {}
    assert verdict.accepted.schema == contract.schema("transactions").arrow
    assert verdict.accepted["department"].to_pylist() == ["GROCERY", "FUEL", None, None, "DELI"]
    assert verdict.accepted["sold_at"][0].as_py() == datetime(2017, 1, 1, 14, 30, tzinfo=UTC)


def test_the_known_dirt_is_found_by_declared_rules(contract) -> None:
    """Unknown products, quantities that are not positive and pump readings are refused, each by its own rule."""
    verdict, rejected = _verdict(
        contract, _transactions(product_id=[10, 99, 98, 10, 11], quantity=[0, 15_000, 3, -4, 20_000])
    )
    assert rejected == {0: ["quantity-positive"], 1: ["fuel-quantity", "product_id.reference"],
                        2: ["product_id.reference"], 3: ["quantity-positive"]}  # fmt: skip
    assert verdict.rows_by_rule == {"fuel-quantity": 1, "product_id.reference": 2, "quantity-positive": 2}
    assert verdict.accepted["line_id"].to_pylist() == [5]


def test_the_first_row_with_a_key_stands(contract) -> None:
    """Of several rows with one key the first accepted one stands; a refused row does not take the key."""
    _, rejected = _verdict(contract, _transactions(line_id=[7, 7, 8, 7, 8], quantity=[0, 1, 1, 1, 1]))
    assert rejected == {0: ["quantity-positive"], 3: ["primary_key"], 4: ["primary_key"]}


def test_composite_keys_and_nulls(compile_fields) -> None:
    """A composite key is a pair; a row with a null in it is like no other."""
    check = {"id": "pair", "type": "library", "metric": "duplicateValues", "mustBe": 0,
             "arguments": {"properties": ["a", "b"]}}  # fmt: skip
    schema = compile_fields(
        {"name": "a", "logicalType": "integer"}, {"name": "b", "logicalType": "string"}, quality=[check]
    )
    verdict = schema.batches.check(pa.table({"a": [1, 1, 1, None, None], "b": ["x", "y", "x", "x", "x"]}))
    assert [(each.row, each.violations[0].rule) for each in verdict.rejected] == [(2, "pair")]


def test_keys_of_a_reference_must_be_given(contract) -> None:
    """A reference rule without the other source's keys is an error, never a silent pass."""
    assert contract.schema("transactions").batches.references == ("products.product_id",)
    with pytest.raises(ContractError, match="Read that source first"):
        contract.schema("transactions").batches.check(_transactions())


def test_a_missing_reference_passes(compile_fields, make_document) -> None:
    """A null refers to nothing, and no rule of reference refuses it."""
    document, _, _ = make_document
    relation = {"name": "a", "logicalType": "integer", "relationships": [{"to": "other.key"}]}
    other = {"name": "other", "properties": [{"name": "key", "logicalType": "integer"}]}
    schema = compile_contract(document({"name": "s", "properties": [relation]}, other)).schema("s")
    verdict = schema.batches.check(pa.table({"a": [1, None, 2]}), {"other.key": pa.array([1], pa.int32())})
    assert [each.row for each in verdict.rejected] == [2]


@pytest.mark.parametrize(
    ("operator", "operand", "holds"),
    [
        ("mustBe", 5, True),
        ("mustNotBe", 5, False),
        ("mustBeGreaterThan", 5, False),
        ("mustBeGreaterOrEqualTo", 5, True),
        ("mustBeLessThan", 5, False),
        ("mustBeLessOrEqualTo", 5, True),
        ("mustBeBetween", [4, 6], True),
        ("mustNotBeBetween", [4, 6], False),
    ],
)
def test_row_counts(contract, flagship_document, operator, operand, holds) -> None:
    """Each operator of the standard bounds the number of rows of a batch."""
    flagship_document["schema"][0]["quality"][2] = {
        "id": "rows", "type": "library", "metric": "rowCount", operator: operand,
    }  # fmt: skip
    verdict, rejected = _verdict(compile_contract(flagship_document), _transactions())
    assert [each.rule for each in verdict.set_violations] == ([] if holds else ["rows"])
    assert rejected == {}


def test_columns_absent_and_more(contract) -> None:
    """A required column that is absent refuses every row; columns that the contract does not have are left out."""
    verdict, rejected = _verdict(contract, _transactions(comment=["x"] * 5).drop_columns(["amount"]))
    assert rejected == {row: ["amount.required"] for row in range(5)}
    assert "comment" not in verdict.accepted.schema.names


def test_an_empty_table_is_a_batch(contract) -> None:
    """B-47: no rows give no rejections, and the row count says so."""
    verdict, rejected = _verdict(contract, _transactions().slice(0, 0))
    assert (rejected, verdict.accepted.num_rows) == ({}, 0)
    assert [each.rule for each in verdict.set_violations] == ["some-rows"]


def test_chunks_and_slices_are_read_where_they_are(contract) -> None:
    """Row numbers count through chunks and slices."""
    dirty = _transactions(quantity=[1, 0, 3, 4, 5])
    table = pa.concat_tables(
        [_transactions(), dirty.slice(1, 3).append_column("more", pa.array([1, 2, 3]))], promote_options="default"
    )
    table = table.set_column(0, "line_id", pa.array(range(8)))
    _, rejected = _verdict(contract, table)
    assert rejected == {5: ["quantity-positive"]}


INTEGERS = {
    "narrower": (pa.array([1, -1], pa.int8()), []),
    "wider": (pa.array([2**31, 1], pa.int64()), [0]),
    "unsigned": (pa.array([2**32 - 1, 1], pa.uint32()), [0]),
    "whole-floats": (pa.array([1.0, 1.5]), [1]),
    "half-floats": (pa.array(np.array([1, 1.5], np.float16)), [1]),
    "not-finite": (pa.array([float("nan"), float("inf"), None, -0.0]), [0, 1]),
    "decimals": (pa.array([Decimal("1.00"), Decimal("1.25")]), [1]),
    "booleans": (pa.array([True, None]), [0]),
    "texts": (pa.array(["1", None]), [0]),
    "nulls": (pa.nulls(2), []),
    "dictionary": (pa.array([1, 2**40, None]).dictionary_encode(), [1]),
}


@pytest.mark.parametrize(("column", "refused"), INTEGERS.values(), ids=INTEGERS)
def test_integers_from_other_types(column, refused) -> None:
    """Whole numbers in any Arrow type are accepted where the declared width holds them, and refused one by one else."""
    values, broken = ColumnChecker(Field(name="v", kind="integer", dtype="int32")).check(column, len(column))
    assert values.type == pa.int32()
    assert [row for each in broken for row in each.rows] == refused
    assert all(
        (values[row].as_py() is None) == (row in refused or not column[row].is_valid) for row in range(len(column))
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9), min_size=1
    )
)
def test_decimals_become_the_nearest_floats(values) -> None:
    """Packed decimals become the float nearest to their text, as the row path makes them."""
    field = Field(name="v", kind="number", dtype="float64")
    for kind in (pa.decimal128(15, 4), pa.decimal128(20, 4)):
        column, broken = ColumnChecker(field).check(pa.array(values, kind), len(values))
        assert not broken
        assert column.to_pylist() == [float(each) for each in values]


def test_dates_and_times_from_other_types() -> None:
    """Dates as texts and milliseconds, and timestamps of each unit, are read; what does not exist or fit is refused."""
    days = ColumnChecker(Field(name="v", kind="date"))
    assert days.check(pa.array(["2026-02-28", None]), 2)[0].to_pylist() == [date(2026, 2, 28), None]
    assert days.check(pa.array(["2026-02-28", "2026-02-30"]), 2)[1][0].rows.tolist() == [1]
    assert days.check(pa.array([date(2026, 2, 28)], pa.date64()), 1)[0].to_pylist() == [date(2026, 2, 28)]
    assert days.check(pa.array([2**30], pa.date32()), 1)[1][0].rule == "v.type"
    moments = ColumnChecker(Field(name="v", kind="timestamp"))
    for unit, tick in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        column, broken = moments.check(pa.array([60 * tick], pa.timestamp(unit, tz="+02:00")), 1)
        assert (column.to_pylist(), broken) == ([datetime(1970, 1, 1, 0, 1, tzinfo=UTC)], [])
    assert moments.check(pa.array([1001], pa.timestamp("ns", tz="UTC")), 1)[1][0].rule == "v.exact"
    assert moments.check(pa.array([2**62], pa.timestamp("s", tz="UTC")), 1)[1][0].rule == "v.type"
    assert moments.check(pa.array([0], pa.timestamp("us")), 1)[1][0].rule == "v.zone"


def test_tensors_in_batches(compile_fields, make_document) -> None:
    """Nested lists are tensors of one record each, checked as on the row path."""
    _, ours, _ = make_document
    schema = compile_fields({"name": "x", "customProperties": ours(tensor={"dtype": "float32", "shape": [2]})})
    verdict = schema.batches.check(pa.table({"x": [[1.0, 2.0], [1.0], None]}))
    assert [(each.row, each.violations[0].rule) for each in verdict.rejected] == [(1, "x.shape"), (2, "x.required")]
    assert verdict.accepted["x"].to_pylist() == [[1.0, 2.0]]
