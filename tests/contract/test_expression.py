"""The language of record rules."""

import pytest

from brownfield.contract import Field
from brownfield.contract.conditions_rows import compile_rows
from brownfield.contract.expression import parse_expression
from brownfield.errors import ContractError

FIELDS = [
    Field(name="a", kind="integer", dtype="int64"),
    Field(name="b", kind="number", dtype="float64"),
    Field(name="name", kind="string"),
    Field(name="ok", kind="boolean"),
    Field(name="day", kind="date"),
    Field(name="at", kind="timestamp"),
    Field(name="items", kind="list", item=Field(name="", kind="string")),
    Field(name="odd name", kind="integer", dtype="int64"),
    Field(name="big", kind="integer", dtype="uint64"),
]
RECORD = {"a": 2, "b": 0.5, "name": "FUEL", "ok": True, "items": ["x"], "odd name": 1, "big": 2**63}


def _truth(text, **record):
    values = dict.fromkeys(field.name for field in FIELDS) | RECORD | record
    return compile_rows(parse_expression(text, FIELDS))({name: [value] for name, value in values.items()}, 1)[0]


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a > 1", True),
        ("a = 2 and b < 1", True),
        ("a <> 2 or b >= 1", False),
        ("not a > 1", False),
        ("not (a > 1 and ok)", False),
        ("a + b * 2 - 1 == 2", True),
        ("-a < 0 and - (a) == -2", True),
        ("a / 0 > 1", None),
        ("name in ('FUEL', 'GAS')", True),
        ("a not in (1, 2)", False),
        ("day is null", True),
        ("day is not null", False),
        ("day > '2026-01-01'", None),
        ("day > '2026-01-01' or ok", True),
        ("day > '2026-01-01' and not ok", False),
        ("length(name) == 4 and length(items) == 1", True),
        ("`odd name` == 1", True),
        ("name == 'it\\'s'", False),
        ("ok", True),
        ("ok == false", False),
        ("big > 9007199254740993.0", True),
        ("a < b or a > b", True),
    ],
)
def test_rules_mean_what_they_say(text, truth) -> None:
    """Comparison, logic, membership, arithmetic and missing values give true, false or missing."""
    assert _truth(text) is truth


@pytest.mark.parametrize(
    ("left", "right", "both", "either"),
    [
        ("ok", "day > '2026-01-01'", None, True),
        ("not ok", "day > '2026-01-01'", False, None),
        ("day > '2026-01-01'", "day < '2026-01-01'", None, None),
    ],
)
def test_logic_is_three_valued(left, right, both, either) -> None:
    """One false settles "and", one true settles "or", and otherwise a missing term makes the whole missing."""
    assert _truth(f"({left}) and ({right})") is both
    assert _truth(f"({right}) or ({left})") is either


BROKEN = {
    "B-75-call": "__import__('os').system('x')",
    "B-75-attribute": "a.b > 1",
    "B-75-lambda": "lambda: 1",
    "B-75-power": "a ** 9 > 1",
    "B-75-long": "a > 1 or " * 300 + "a > 1",
    "B-75-deep-parentheses": "(" * 40 + "a > 1" + ")" * 40,
    "B-75-deep-not": "not " * 40 + "ok",
    "B-75-deep-minus": "-" * 40 + "a > 1",
    "B-75-deep-sum": "a" + " + a" * 40 + " > 1",
    "B-75-huge-number": "a > 9999999999999999999999999",
    "B-75-infinite-number": "b > 1e999",
    "unknown-field": "quantity > 1",
    "no-condition": "a + 1",
    "text-and-number": "name > 1",
    "chained": "1 < a < 3",
    "boolean-order": "ok < true",
    "and-of-numbers": "a and b",
    "not-of-text": "not name",
    "list-comparison": "items == items",
    "length-of-number": "length(a) > 1",
    "membership-of-fields": "a in (b)",
    "membership-of-other-type": "a in ('x')",
    "membership-of-fractions": "a in (1.5)",
    "no-date": "day > '1 May'",
    "local-timestamp": "at > '2026-01-01T00:00:00'",
    "null-of-sum": "a + 1 is null",
    "left-over": "a > 1 2",
    "open": "(a > 1",
    "open-text": "name == 'x",
    "empty": "",
    "odd-sign": "a > 1; b",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_rule_is_refused(text) -> None:
    """Anything outside the grammar, of the wrong type or beyond the caps is refused when the contract is compiled."""
    with pytest.raises(ContractError):
        parse_expression(text, FIELDS)


def test_an_unknown_field_names_the_nearest(compile_fields, make_document) -> None:
    """A rule over a field that does not exist is refused at its place, with the nearest field."""
    _, _, rule = make_document
    with pytest.raises(ContractError, match="Did you mean 'quantity'") as caught:
        compile_fields({"name": "quantity", "logicalType": "integer"}, quality=[rule("r", "quantty > 0")])
    assert caught.value.path == "schema[0].quality[0].implementation.rule"
