"""Compiles record rules for plain columns: the row path of ``expression.py``.

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

__all__ = ["Truths", "compile_rows"]

Truths = Callable[[Mapping[str, Sequence[Any]], int], list[bool | None]]
"""Truth of a rule for each row, from accepted values by field (None for missing ones) and the number of rows."""

_Compute = Callable[[Mapping[str, Sequence[Any]], int], Sequence[Any]]

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


def compile_rows(expression: Expression) -> Truths:
    """Compile a rule; what it gives is true, false, or None where the rule is missing.

    Examples
    --------
    >>> from brownfield.contract.expression import parse_expression
    >>> from brownfield.contract.fields import Field
    >>> rule = parse_expression("quantity > 0", [Field(name="quantity", kind="integer", dtype="int64")])
    >>> compile_rows(rule)({"quantity": [2, -1, None]}, 3)
    [True, False, None]
    """
    compute = _compile(expression.root)
    return lambda columns, rows: list(compute(columns, rows))


def _compile(node: Node) -> _Compute:  # noqa: PLR0911 (one per kind of node)
    match node:
        case Reference():
            return _reference(node)
        case Constant():
            return lambda _, rows: [node.value] * rows
        case Length():
            return _each(_compile(node.of), len)
        case IsNull():
            of = _compile(node.of)
            return lambda columns, rows: [value is None for value in of(columns, rows)]
        case Negation():
            return _each(_compile(node.of), operator.not_)
        case Membership():
            return _each(_compile(node.of), frozenset(node.values).__contains__)
        case Junction():
            return _junction(node)
        case Compare():
            return _compare(node)
        case Arithmetic():
            compute = _ARITHMETIC[node.operator]
            return _pairs(_compile(node.left), _compile(node.right), lambda a, b: _finite(compute, a, b))


def _reference(node: Reference) -> _Compute:
    def values(columns: Mapping[str, Sequence[Any]], _: int) -> Sequence[Any]:
        column: Any = columns[node.name]
        plain: Sequence[Any] = column.tolist() if isinstance(column, np.ndarray) else column
        return [None if value is None else float(value) for value in plain] if node.widened else plain

    return values


def _each(of: _Compute, compute: Callable[[Any], Any]) -> _Compute:
    return lambda columns, rows: [None if value is None else compute(value) for value in of(columns, rows)]


def _pairs(left: _Compute, right: _Compute, compute: Callable[[Any, Any], Any]) -> _Compute:
    return lambda columns, rows: [
        None if a is None or b is None else compute(a, b)
        for a, b in zip(left(columns, rows), right(columns, rows), strict=True)
    ]


def _compare(node: Compare) -> _Compute:
    compare, left = _COMPARE[node.operator], _compile(node.left)
    as_float = node.left.type != node.right.type
    if isinstance(node.right, Constant):
        constant = float(node.right.value) if as_float else node.right.value
        if as_float:
            return _each(left, lambda value: compare(float(value), constant))
        return lambda columns, rows: [
            None if value is None else compare(value, constant) for value in left(columns, rows)
        ]
    right = _compile(node.right)
    return _pairs(left, right, (lambda a, b: compare(float(a), float(b))) if as_float else compare)


def _finite(compute: Callable[[float, float], float], left: Any, right: Any) -> float | None:
    try:
        result = compute(float(left), float(right))
    except ZeroDivisionError:
        return None
    return result if math.isfinite(result) else None


def _junction(node: Junction) -> _Compute:
    # "and" is settled by one False, "or" by one True; otherwise one missing term makes the whole missing.
    settled = node.operator == "or"
    first, *others = map(_compile, node.terms)

    def values(columns: Mapping[str, Sequence[Any]], rows: int) -> Sequence[Any]:
        result = first(columns, rows)
        for term in others:
            result = [
                settled if a is settled or b is settled else None if a is None or b is None else not settled
                for a, b in zip(result, term(columns, rows), strict=True)
            ]
        return result

    return values
