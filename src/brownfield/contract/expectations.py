"""What each rule of a schema asks for, in words: looked up when a record is refused, never before.

The words are made of the contract alone and hold no value that was sent. Both paths look them up here, by the
identifier of the rule, and so say the same.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from brownfield.contract.patterns import MAX_TEXT
from brownfield.contract.rules import (
    EnumRule,
    FiniteRule,
    ItemsRule,
    LengthRule,
    PatternRule,
    RangeRule,
    ReferenceRule,
    RowCountRule,
    SetRule,
    UniqueItemsRule,
    UniqueRule,
    ValueRule,
    value_rules,
)
from brownfield.contract.values import integer_bounds

if TYPE_CHECKING:
    from brownfield.contract.fields import Field, Schema

__all__ = ["expectations", "value_expectations"]

_MOST_NAMED = 10
_LONGEST = 200
_TYPES = {
    "string": "text",
    "integer": "a whole number, not in quotes",
    "number": "a number, not in quotes",
    "boolean": "true or false",
    "date": "a day that the calendar has, as 2026-01-31",
    "timestamp": "a time as 2026-01-31T12:00:00Z",
    "list": "a list",
}
_COUNTS = {
    "mustBe": "{} rows",
    "mustNotBe": "another number of rows than {}",
    "mustBeGreaterThan": "more than {} rows",
    "mustBeGreaterOrEqualTo": "at least {} rows",
    "mustBeLessThan": "fewer than {} rows",
    "mustBeLessOrEqualTo": "at most {} rows",
    "mustBeBetween": "{} to {} rows",
    "mustNotBeBetween": "fewer than {} or more than {} rows",
}


def expectations(schema: "Schema") -> dict[str, str]:
    """Say of every rule of a schema what it asks for, by the rule's identifier.

    Parameters
    ----------
    schema
        The schema.

    Examples
    --------
    >>> from brownfield.contract.fields import Field, Schema
    >>> field = Field(name="quantity", kind="integer", dtype="int8", required=True, minimum=1)
    >>> for rule, expected in expectations(Schema("request", (field,))).items():
    ...     print(f"{rule}: {expected}")
    closed: one of the declared fields: quantity
    batched: exactly one record
    json.shape: an object for each record
    quantity.required: a value
    quantity.null: a value
    quantity.type: a whole number, not in quotes
    quantity.exact: a whole number that int8 holds: -128 to 127
    quantity.shape: one value for each record
    quantity.range: at least 1
    """
    said = {
        "closed": f"one of the declared fields: {_listed(schema.names)}",
        "batched": "exactly one record",
        "json.shape": "an object for each record",
    }
    for field in schema.fields:
        said.update(_of_field(field, field.name, batched=schema.batched))
    for rule in schema.record_rules:
        said[rule.id] = _short(f"a record for which {rule.expression.text}")
    for each in schema.set_rules:
        said[each.id] = _of_set(each)
    return said


def value_expectations(field: "Field") -> list[str]:
    """Say what a field's declared bounds ask for; those of a list's items come last.

    Parameters
    ----------
    field
        The field.

    Examples
    --------
    >>> from brownfield.contract.fields import Field
    >>> item = Field(name="tag", kind="string", min_length=1, max_length=30)
    >>> value_expectations(Field(name="tags", kind="list", item=item, max_items=20))
    ['at most 20 items', 'each item: 1 to 30 characters']
    """
    said = [_of_value(rule, field) for rule in value_rules(field) if not isinstance(rule, FiniteRule)]
    if field.item is not None:
        said += [f"each item: {words}" for words in value_expectations(field.item)]
    return said


def _of_field(field: "Field", name: str, *, batched: bool) -> Iterator[tuple[str, str]]:
    yield f"{name}.required", "a value"
    yield f"{name}.null", "a value"
    if field.kind == "tensor":
        yield from _of_tensor(field, name, batched=batched)
    else:
        yield f"{name}.type", _TYPES[field.kind]
        yield from _of_kind(field, name)
        yield f"{name}.shape", "one value for each record"
    for rule in value_rules(field, name):
        yield rule.id, _of_value(rule, field)
    if field.item is not None:
        yield from _of_field(field.item, f"{name}[]", batched=batched)


def _of_kind(field: "Field", name: str) -> Iterator[tuple[str, str]]:
    match field.kind:
        case "string":
            yield f"{name}.text", "text without NUL and without halves of characters"
        case "integer":
            low, high = integer_bounds(field.dtype)
            yield f"{name}.exact", f"a whole number that {field.dtype} holds: {low} to {high}"
        case "number":
            yield f"{name}.exact", f"a number that {field.dtype} holds without loss"
        case "timestamp":
            yield f"{name}.exact", "a time in whole microseconds"
            of_zone = "" if field.zone is None else f", or a local time that {field.zone.key} has exactly once"
            yield f"{name}.zone", f"a time with its offset, as 2026-01-31T12:00:00+01:00{of_zone}"


def _of_tensor(field: "Field", name: str, *, batched: bool) -> Iterator[tuple[str, str]]:
    sizes = ["any" if size is None else str(size) for size in field.shape]
    shape = ", ".join([*(["rows"] if batched else []), *sizes])
    alike = ", alike in every record" if batched and None in field.shape else ""
    yield f"{name}.shape", f"the shape [{shape}]{alike}"
    yield f"{name}.dtype", f"values of the type {field.dtype}"
    yield f"{name}.exact", f"numbers that {field.dtype} holds without loss"
    yield f"{name}.text", "text without NUL and without halves of characters"


def _of_value(rule: ValueRule, field: "Field") -> str:  # noqa: PLR0911 (one per rule)
    match rule:
        case FiniteRule():
            return "a finite number"
        case RangeRule():
            return _range(rule)
        case LengthRule():
            return _span(rule.minimum, rule.maximum, "character")
        case EnumRule():
            return f"one of {_listed(map(_written, rule.values))}"
        case PatternRule():
            longest = "" if field.max_length is not None else f" of at most {MAX_TEXT} characters"
            return _short(f"text{longest} that matches {rule.pattern}")
        case ItemsRule():
            return _span(rule.minimum, rule.maximum, "item")
        case UniqueItemsRule():
            return "each item once"


def _of_set(rule: SetRule) -> str:
    match rule:
        case UniqueRule():
            return f"another {_listed(rule.fields)} than in any row before"
        case ReferenceRule():
            return f"a key that {rule.target} has"
        case RowCountRule():
            return _COUNTS[rule.operator].format(*rule.operands)


def _range(rule: RangeRule) -> str:
    bounds = []
    if rule.minimum is not None:
        bounds.append(f"{'more than' if rule.exclusive_minimum else 'at least'} {_written(rule.minimum)}")
    if rule.maximum is not None:
        bounds.append(f"{'less than' if rule.exclusive_maximum else 'at most'} {_written(rule.maximum)}")
    return " and ".join(bounds)


def _span(low: int | None, high: int | None, of: str) -> str:
    if high is None:
        return f"at least {low} {of}{'' if low == 1 else 's'}"
    many = f"{high} {of}{'' if high == 1 else 's'}"
    if low == high:
        return f"exactly {many}"
    return f"{low} to {many}" if low else f"at most {many}"


def _written(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return repr(value) if isinstance(value, str) else str(value)


def _listed(words: Iterable[str]) -> str:
    named = list(words)
    more = len(named) - _MOST_NAMED
    return _short(", ".join(named[:_MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
