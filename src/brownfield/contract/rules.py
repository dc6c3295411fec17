"""The one tree of rules that both paths compile: value rules of a field, record rules, and set rules of a batch.

A value is checked in this order, and the first rule that it breaks is reported: present, type, null, finite, range,
length, enum, pattern (for lists: items, then each item, then unique items).
Record rules look at a record only when every field that they read was accepted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brownfield.errors import RejectionCode

if TYPE_CHECKING:
    from brownfield.contract.expression import Expression
    from brownfield.contract.fields import Field

__all__ = [
    "EnumRule",
    "FiniteRule",
    "ItemsRule",
    "LengthRule",
    "PatternRule",
    "RangeRule",
    "RecordRule",
    "ReferenceRule",
    "RowCountRule",
    "SetRule",
    "UniqueItemsRule",
    "UniqueRule",
    "ValueRule",
    "value_rules",
]


@dataclass(frozen=True, slots=True)
class FiniteRule:
    """The number is neither NaN nor an infinity."""

    id: str
    code = RejectionCode.RULE_RANGE


@dataclass(frozen=True, slots=True)
class RangeRule:
    """The value lies between two bounds, each of which may be missing or excluded; NaN is not looked at."""

    id: str
    minimum: Any
    maximum: Any
    exclusive_minimum: bool
    exclusive_maximum: bool
    code = RejectionCode.RULE_RANGE


@dataclass(frozen=True, slots=True)
class LengthRule:
    """The text has an admitted number of code points."""

    id: str
    minimum: int | None
    maximum: int | None
    code = RejectionCode.RULE_LENGTH


@dataclass(frozen=True, slots=True)
class EnumRule:
    """The value is one of the admitted ones."""

    id: str
    values: tuple[Any, ...]
    code = RejectionCode.RULE_ENUM


@dataclass(frozen=True, slots=True)
class PatternRule:
    """The pattern is found in the text."""

    id: str
    pattern: str
    code = RejectionCode.RULE_PATTERN


@dataclass(frozen=True, slots=True)
class ItemsRule:
    """The list has an admitted number of items."""

    id: str
    minimum: int | None
    maximum: int | None
    code = RejectionCode.RULE_ITEMS


@dataclass(frozen=True, slots=True)
class UniqueItemsRule:
    """No item stands twice in the list."""

    id: str
    code = RejectionCode.RULE_ITEMS


ValueRule = FiniteRule | RangeRule | LengthRule | EnumRule | PatternRule | ItemsRule | UniqueItemsRule


@dataclass(frozen=True, slots=True)
class RecordRule:
    """A condition over the fields of one record.

    Parameters
    ----------
    id
        As declared.
    expression
        The parsed and type-checked condition.
    null_passes
        Whether a record is accepted for which the condition is neither true nor false.
    """

    id: str
    expression: "Expression"
    null_passes: bool = True
    code = RejectionCode.RULE_RECORD


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """No two accepted rows of a batch share these values.

    The first row stands, and a row with a null among the values counts as different from all others.
    """

    id: str
    fields: tuple[str, ...]
    code = RejectionCode.RULE_UNIQUE


@dataclass(frozen=True, slots=True)
class ReferenceRule:
    """The value is a known key of another source; null passes.

    Parameters
    ----------
    id
        Identifier of the rule.
    field
        The field that refers.
    target
        ``source.field`` whose keys are known.
    """

    id: str
    field: str
    target: str
    code = RejectionCode.RULE_REFERENCE


@dataclass(frozen=True, slots=True)
class RowCountRule:
    """The batch has an admitted number of rows.

    Parameters
    ----------
    id
        Identifier of the rule.
    operator
        The standard's word, such as ``mustBeGreaterThan``.
    operands
        One number, or two for the operators that say "between" (both included).
    """

    id: str
    operator: str
    operands: tuple[float, ...]
    code = RejectionCode.RULE_ROW_COUNT

    def holds(self, rows: int) -> bool:
        """Whether a batch of so many rows is admitted.

        Examples
        --------
        >>> RowCountRule("rows", "mustBeBetween", (1, 3)).holds(4)
        False
        """
        first, last = self.operands[0], self.operands[-1]
        return {
            "mustBe": rows == first,
            "mustNotBe": rows != first,
            "mustBeGreaterThan": rows > first,
            "mustBeGreaterOrEqualTo": rows >= first,
            "mustBeLessThan": rows < first,
            "mustBeLessOrEqualTo": rows <= first,
            "mustBeBetween": first <= rows <= last,
            "mustNotBeBetween": not first <= rows <= last,
        }[self.operator]


SetRule = UniqueRule | ReferenceRule | RowCountRule


def value_rules(field: "Field", name: str | None = None) -> tuple[ValueRule, ...]:
    """Value rules of a field in the order in which they are checked.

    Parameters
    ----------
    field
        The field.
    name
        What stands before the dot in the identifiers; the field's name when None.
    """
    prefix = field.name if name is None else name
    rules: list[ValueRule] = []
    dtype_is_float = field.kind == "number" or field.dtype.startswith("float")
    if dtype_is_float and not field.non_finite:
        rules.append(FiniteRule(f"{prefix}.finite"))
    if field.minimum is not None or field.maximum is not None:
        rules.append(
            RangeRule(f"{prefix}.range", field.minimum, field.maximum, field.exclusive_minimum, field.exclusive_maximum)
        )
    if field.min_length is not None or field.max_length is not None:
        rules.append(LengthRule(f"{prefix}.length", field.min_length, field.max_length))
    if field.enum:
        rules.append(EnumRule(f"{prefix}.enum", field.enum))
    if field.pattern:
        rules.append(PatternRule(f"{prefix}.pattern", field.pattern))
    if field.min_items is not None or field.max_items is not None:
        rules.append(ItemsRule(f"{prefix}.items", field.min_items, field.max_items))
    if field.unique_items:
        rules.append(UniqueItemsRule(f"{prefix}.unique_items"))
    return tuple(rules)
