"""Evaluates record rules over Arrow columns: the batch path of ``expression.py``."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from brownfield.contract.expression import (
    Arithmetic,
    Compare,
    Constant,
    Expression,
    IsNull,
    Junction,
    Length,
    Membership,
    Negation,
    Node,
    Reference,
)

__all__ = ["evaluate_arrow"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": pc.add,
    "-": pc.subtract,
    "*": pc.multiply,
    "/": pc.divide,
}
_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def evaluate_arrow(expression: Expression, columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """Truth of a rule for each row as a boolean array; null where it is missing.

    Parameters
    ----------
    expression
        The rule.
    columns
        Accepted values by field, null for missing ones.
    rows
        Number of rows.

    Examples
    --------
    >>> from brownfield.contract.expression import parse_expression
    >>> from brownfield.contract.fields import Field
    >>> rule = parse_expression("quantity > 0", [Field(name="quantity", kind="integer", dtype="int64")])
    >>> evaluate_arrow(rule, {"quantity": pa.array([2, -1, None])}, 3).to_pylist()
    [True, False, None]
    """
    truth = _value(expression.root, columns)
    return pa.repeat(truth, rows) if isinstance(truth, pa.Scalar) else truth


def _value(node: Node, columns: Mapping[str, pa.Array]) -> Any:  # noqa: C901, PLR0911 (one per kind of node)
    match node:
        case Reference():
            values = columns[node.name]
            return values if node.type not in _TYPES else _as(values, _TYPES[node.type])
        case Constant():
            return pa.scalar(node.value, _TYPES[node.type])
        case Length():
            values = columns[node.of.name]
            count = pc.list_value_length if node.of.type == "list" else pc.utf8_length
            return _as(count(values), pa.int64())
        case IsNull():
            return pc.is_null(columns[node.of.name])
        case Negation():
            return pc.invert(_value(node.of, columns))
        case Membership():
            values = _value(node.of, columns)
            return reduce(pc.or_, (pc.equal(values, pa.scalar(each, values.type)) for each in node.values))
        case Junction():
            joined = pc.and_kleene if node.operator == "and" else pc.or_kleene
            return reduce(joined, (_value(term, columns) for term in node.terms))
        case Compare():
            left, right = _value(node.left, columns), _value(node.right, columns)
            if node.left.type != node.right.type:
                left, right = _as(left, pa.float64()), _as(right, pa.float64())
            return _COMPARE[node.operator](left, right)
        case Arithmetic():
            left, right = (_as(_value(side, columns), pa.float64()) for side in (node.left, node.right))
            result = _ARITHMETIC[node.operator](left, right)
            return pc.if_else(pc.is_finite(result), result, pa.scalar(None, pa.float64()))


def _as(values: Any, kind: pa.DataType) -> Any:
    # Whole numbers beyond 2^53 become the nearest float, as they do on the row path.
    return values if values.type == kind else pc.cast(values, kind, safe=False)
