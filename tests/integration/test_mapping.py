"""Mapping files as they are declared: what is read, what is refused and in which line."""

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import each_error, load_workspace
from brownfield.integration.spelling import stamp_problem

CONTRACT_FIELDS = """\
      - {name: product_id, logicalType: integer, primaryKey: true}
      - {name: department, logicalType: string}
      - {name: weight, logicalType: number, customProperties: [{property: unit, value: kg, vendor: brownfield}]}
      - {name: price, logicalType: number}
      - {name: active, logicalType: boolean}
      - {name: since, logicalType: date}
      - {name: seen, logicalType: timestamp}
"""
OLD_FIELDS = """\
      - {name: product_id, logicalType: integer, primaryKey: true}
      - {name: department, logicalType: string}
"""
GOOD = """\
approved: true
fields:
  product_id: {from: ART_NR}
  department: {from: ABT, codes: {A: food, B: drink}, unknown: other}
  weight: {from: GEW_LB, unit: {from: lb}}
  price: {from: PREIS, number: {decimal: ",", thousands: "."}}
  active: {from: AKTIV, boolean: {yes: [J], no: [N]}}
  since: {from: SEIT, date: dd.MM.yyyy, sentinels: {"31.12.9999": open_ended}}
  seen: {from: GESEHEN, timestamp: yyyyMMddHHmmss, zone: Europe/Berlin}
"""


@pytest.fixture
def mapped(workspace):
    """The small workspace with a mapping file on its products."""
    folder = workspace / "integrations" / "next-items"
    for name, old, new in (
        ("integration.yaml", "layout: p.cpy}", "layout: p.cpy, mapping: products.yaml}"),
        (
            "contract.odcs.yaml",
            OLD_FIELDS,
            CONTRACT_FIELDS,
        ),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    (folder / "products.yaml").write_text(GOOD)
    return workspace


def problems(workspace, old, new):
    """Spoil the file in one place and give what is said about it."""
    file = workspace / "integrations" / "next-items" / "products.yaml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(DeclarationError) as caught:
        load_workspace(workspace)
    return [str(error) for error in each_error(caught.value)]


def test_a_mapping_file_is_read_and_moves_the_digest(mapped):
    """The file is part of the integration: its fields are there, and any change of it changes both digests."""
    before = load_workspace(mapped).integrations["next-items"]
    assert set(before.mappings) == {"products.yaml"}
    assert before.mappings["products.yaml"].fields["weight"].unit.from_ == "lb"
    file = mapped / "integrations" / "next-items" / "products.yaml"
    file.write_text(GOOD.replace("unknown: other", "unknown: none"))
    after = load_workspace(mapped).integrations["next-items"]
    assert after.digest != before.digest
    assert after.mappings["products.yaml"].digest != before.mappings["products.yaml"].digest


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("approved: true", "approved: false", 1, "true, set by a person who has read this file"),
        ("  product_id: {from: ART_NR}", "  product_id: {constant: 1}", 3, "from, for records are read by this field"),
        ("  department:", "  departement:", 4, "Did you mean department?"),
        ("codes: {A: food, B: drink}", "codes: {A: 1, B: 2}", 4, "a value of kind string"),
        ("unit: {from: lb}", "unit: {from: m}", 5, "m is a length, kg a mass"),
        ("unit: {from: lb}", "unit: {from: crate}", 5, "Declare factor, and offset where there is one"),
        ("unit: {from: lb}", "unit: {from: lb, factor: 0.5}", 5, "the known factor 0.45359237"),
        ('number: {decimal: ",", thousands: "."}', 'number: {decimal: ",", thousands: ","}', 6, "another mark"),
        ('number: {decimal: ",", thousands: "."}', "number: {}, unit: {from: EUR}", 6, "a field with a unit"),
        ("yes: [J], no: [N]", "yes: [J], no: [J]", 7, "does not mean yes too"),
        ("boolean: {yes: [J], no: [N]}", "trim: both", 7, "boolean or codes, for text becomes a field of kind boolean"),
        ("date: dd.MM.yyyy", "date: dd.MM.yy", 8, "first_year beside yy, for 25 may be 1925 or 2025"),
        ("date: dd.MM.yyyy", "date: dd.MM.YYYY", 8, "other letters"),
        ("date: dd.MM.yyyy", "number: {}, date: dd.MM.yyyy", 8, "one of codes, number, boolean, date and timestamp"),
        ("open_ended", "whatever", 8, "open_ended"),
        ("zone: Europe/Berlin", "zone: Europe/Berln", 9, "a zone of the IANA database"),
        ("timestamp: yyyyMMddHHmmss", "timestamp: yyyyMMdd", 9, "hours, then minutes"),
        ("{from: ABT,", "{from: ABT, eval: 1+1,", 4, "the unknown key eval"),
    ],
    ids=[
        "unapproved", "B-45-key", "unknown-field", "B-33-code-kind", "units", "unit-unknown", "unit-factor",
        "B-36-marks", "unit-none", "B-19-truth", "B-19-text", "B-35-two-digits", "B-35-letters", "two-casts", "reason",
        "B-35-zone", "B-35-no-time", "B-75-eval",
    ],
)  # fmt: skip
def test_a_mapping_file_is_refused_with_its_line(mapped, old, new, line, said):
    """Each mistake is told with file and line, and nothing is guessed in its place."""
    found = problems(mapped, old, new)
    assert any(text.startswith(f"integrations/next-items/products.yaml:{line}:") and said in text for text in found), (
        found
    )


def test_every_problem_of_a_file_is_told_at_once(mapped):
    """Two mistakes are two findings."""
    assert (
        len(problems(mapped, GOOD[GOOD.index("  weight") : GOOD.index("  active")], "  weight: {}\n  price: {}\n")) == 2
    )


def test_a_join_in_time_names_times_of_one_kind(mapped):
    """A join as of a day needs two days: another kind, or a field that is not there, is refused with its line."""
    folder = mapped / "integrations" / "next-items"
    file = folder / "integration.yaml"
    text = file.read_text()
    for as_of, said in (
        ("{left: line_id, right: since}", "a date or timestamp"),
        ("{left: nothing, right: since}", "a field of lines so far"),
        ("{left: line_id, right: sinse}", "Did you mean since?"),
    ):
        file.write_text(text.replace("on: product_id,", f"on: product_id, as_of: {as_of},"))
        with pytest.raises(DeclarationError, match=r"integration\.yaml:1"):
            load_workspace(mapped)
        with pytest.raises(DeclarationError) as caught:
            load_workspace(mapped)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "with_time", "good"),
    [
        ("yyyyMMdd", False, True), ("d.M.yyyy", False, True), ("dMyyyy", False, False), ("yyyyDDD", False, True),
        ("yyyy-MM", False, False), ("yyyyMMddyyyy", False, False), ("yyyy-MM-dd'T'HH:mm:ss.SSS", True, True),
        ("yyyyMMddHHss", True, False), ("excel_serial", False, True), ("epoch_ms", True, True),
        ("yyyyMMddHH", False, False),
    ],
)  # fmt: skip
def test_b35_a_spelling_says_year_month_and_day_once(spelling, with_time, good):
    """B-35: a spelling that leaves anything open is refused."""
    assert (stamp_problem(spelling, with_time=with_time, first_year=None) is None) == good
