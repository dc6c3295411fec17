"""A copybook gives the draft of a contract that compiles and admits what the copybook admits."""

import io

import pyarrow as pa
import pytest

from brownfield.contract import compile_contract
from brownfield.data.formats import Choice, Copybook, compile_copybook, contract_from_copybook

SALES = """
01 SALE-RECORD.
   05 STORE-ID   PIC 9(3)       COMP-3.
   05 KIND       PIC X.
      88 IS-CASH VALUE 'C'.
      88 IS-CARD VALUES 'V', 'M'.
   05 STATUS-NO  PIC 9.
      88 OPEN-NOW VALUE ZERO.
      88 SHUT    VALUE 1 2.
   05 AMOUNT     PIC S9(5)V99   COMP-3.
   05 KILOS      PIC 9(3)PPP.
   05 RATE       COMP-1.
   05 BRACKET    PIC 9(2).
      88 YOUNG   VALUE 0 THRU 29.
   05 N          PIC 9.
   05 LINES-T OCCURS 1 TO 4 DEPENDING ON N.
      10 QTY     PIC S9(3).
      10 TAG     PIC X(2) OCCURS 2.
   05 PAY        PIC X(4).
   05 PAY-NO REDEFINES PAY PIC 9(4).
"""


def draft():
    """The draft of the sales contract."""
    return contract_from_copybook(SALES, "sales")


def test_every_field_becomes_a_property_with_its_picture():
    """Type, bounds and picture are those of the field, and branches may be missing."""
    found = {each["name"]: each for each in draft().document["schema"][0]["properties"]}
    assert {name: each["physicalType"] for name, each in found.items()} == {
        "store_id": "PIC 9(3) COMP-3",
        "kind": "PIC X",
        "status_no": "PIC 9",
        "amount": "PIC S9(5)V99 COMP-3",
        "kilos": "PIC 9(3)PPP",
        "rate": "COMP-1",
        "bracket": "PIC 9(2)",
        "n": "PIC 9",
        "qty": "PIC S9(3)",
        "pay": "PIC X(4)",
        "pay_no": "PIC 9(4)",
    }
    assert found["amount"]["logicalTypeOptions"] == {"minimum": -99999.99, "maximum": 99999.99}
    assert found["kilos"]["logicalTypeOptions"] == {"minimum": 0, "maximum": 999_000}
    assert found["qty"]["logicalTypeOptions"] == {"minItems": 1, "maxItems": 4}
    assert [name for name, each in found.items() if not each["required"]] == ["pay", "pay_no"]


def test_level_88_becomes_an_enumeration_with_its_names():
    """Each value carries the name of its condition; a range is left out and said."""
    found = {each["name"]: each for each in draft().document["schema"][0]["properties"]}
    assert found["kind"]["enum"] == [
        {"value": "C", "label": "is_cash"}, {"value": "V", "label": "is_card"}, {"value": "M", "label": "is_card"}
    ]  # fmt: skip
    assert [entry["value"] for entry in found["status_no"]["enum"]] == [0, 1, 2]
    assert "enum" not in found["bracket"]
    notes = " ".join(draft().notes)
    for words in ("bracket has a level 88 with a range", "tag is a list of lists", "redefine_rule must say"):
        assert words in notes


def test_the_draft_compiles_and_admits_what_the_copybook_decodes():
    """Records that the copybook decodes pass the contract that was drafted from it."""
    schema = compile_contract(draft().document).schema("sales")
    rules = {"pay": Choice("kind", ("C",)), "pay_no": Choice("kind", ("V", "M"))}
    book = Copybook(
        compile_copybook(SALES), variable_size_occurs="shift_record", float_format="ibm", redefine_rule=rules
    )
    rows = [
        {"store_id": 999, "kind": kind, "status_no": 2, "amount": -99999.99, "kilos": 999_000, "rate": 0.5,
         "bracket": 99, "n": 2, "qty": [-999, 999], "tag": [["a", "b"], ["c", ""]],
         "pay": "CASH" if kind == "C" else None, "pay_no": None if kind == "C" else 42}
        for kind in ("C", "V")
    ]  # fmt: skip
    kinds = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "list": pa.list_(pa.int64())}
    wanted = pa.schema([(field.name, kinds[field.kind]) for field in schema.fields])
    columns = pa.schema([*wanted, pa.field("tag", pa.list_(pa.list_(pa.string())))])
    raw = b"".join(book.encode([pa.RecordBatch.from_pylist(rows, columns)]))
    (decoded,) = book.decode(io.BytesIO(raw), wanted)
    assert decoded.rejects == ()
    assert schema.batches.check(decoded.batch).accepted.num_rows == len(rows)


def test_b_34_values_that_may_mean_none_are_proposed_and_not_declared():
    """A number of nines that stands there often is said in the notes; the contract is left as it is."""
    text = "01 R. 05 AGE PIC 9(3). 05 SEEN PIC 9(8)."
    sample = pa.record_batch({"age": [30, 999, 999, 41], "seen": [20260101, 99991231, 99991231, 20260102]})
    made = contract_from_copybook(text, "people", sample=sample)
    assert [note.split(";")[0] for note in made.notes] == [
        "age is 999 in 2 of 4 records", "seen is 99991231 in 2 of 4 records"
    ]  # fmt: skip
    assert made.document == contract_from_copybook(text, "people").document


@pytest.mark.parametrize("clauses", ["PIC S9(4) COMP-5", "PIC 9(18) COMP-5", "PIC 9(15)V999"])
def test_bounds_of_wide_numbers_compile(clauses):
    """Native numbers have the bounds of their bits, and long fractions a note."""
    made = contract_from_copybook(f"01 R. 05 F {clauses}.", "r")
    compile_contract(made.document)
    assert bool(made.notes) == ("V" in clauses)
