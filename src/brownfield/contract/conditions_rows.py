"""Evaluates record rules over plain columns: the row path of ``expression.py``.

Each operation runs over a whole column at once, so that one record costs microseconds and thousands cost little each.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

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

__all__ = ["evaluate_rows"]

Column = Sequence[Any]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def evaluate_rows(expression: Expression, columns: Mapping[str, Column], rows: int) -> list[bool | None]:
    """Truth of a rule for each row; None where it is missing.

    Parameters
    ----------
    expression
        The rule.
    columns
        Accepted values by field, None for missing ones.
    rows
        Number of rows.

    Examples
    --------
    >>> from brownfield.contract.expression import parse_expression
    >>> from brownfield.contract.fields import Field
    >>> rule = parse_expression("quantity > 0", [Field(name="quantity", kind="integer", dtype="int64")])
    >>> evaluate_rows(rule, {"quantity": [2, -1, None]}, 3)
    [True, False, None]
    """
    return list(_column(expression.root, columns, rows))


def _column(node: Node, columns: Mapping[str, Column], rows: int) -> Column:
    match node:
        case Reference():
            values = columns[node.name]
            plain: Column = values.tolist() if isinstance(values, np.ndarray) else values
            return [None if value is None else float(value) for value in plain] if node.widened else plain
        case Constant():
            return [node.value] * rows
        case Length():
            return [None if value is None else len(value) for value in _column(node.of, columns, rows)]
        case IsNull():
            return [value is None for value in _column(node.of, columns, rows)]
        case Negation():
            return [None if value is None else not value for value in _column(node.of, columns, rows)]
        case Membership():
            members = frozenset(node.values)
            return [None if value is None else value in members for value in _column(node.of, columns, rows)]
        case Junction():
            return _junction(node, columns, rows)
        case Compare():
            return _compare(node, columns, rows)
        case Arithmetic():
            compute = _ARITHMETIC[node.operator]
            left, right = _column(node.left, columns, rows), _column(node.right, columns, rows)
            return [_computed(compute, a, b) for a, b in zip(left, right, strict=True)]


def _compare(node: Compare, columns: Mapping[str, Column], rows: int) -> Column:
    compare = _COMPARE[node.operator]
    left = _column(node.left, columns, rows)
    as_float = node.left.type != node.right.type
    if isinstance(node.right, Constant):
        constant = float(node.right.value) if as_float else node.right.value
        if as_float:
            return [None if value is None else compare(float(value), constant) for value in left]
        return [None if value is None else compare(value, constant) for value in left]
    pairs = zip(left, _column(node.right, columns, rows), strict=True)
    if as_float:
        return [None if a is None or b is None else compare(float(a), float(b)) for a, b in pairs]
    return [None if a is None or b is None else compare(a, b) for a, b in pairs]


def _computed(compute: Callable[[float, float], float], left: Any, right: Any) -> float | None:
    if left is None or right is None:
        return None
    try:
        result = compute(float(left), float(right))
    except ZeroDivisionError:
        return None
    return result if math.isfinite(result) else None


def _junction(node: Junction, columns: Mapping[str, Column], rows: int) -> Column:
    # "and" is settled by one False, "or" by one True; otherwise one missing term makes the whole missing.
    settled = node.operator == "or"
    result: list[bool | None] = list(_column(node.terms[0], columns, rows))
    for term in node.terms[1:]:
        result = [
            settled if a is settled or b is settled else None if a is None or b is None else not settled
            for a, b in zip(result, _column(term, columns, rows), strict=True)
        ]
    return result
