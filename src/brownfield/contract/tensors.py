"""Tensor fields: arrays with a declared dtype and shape, checked as a whole by NumPy."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from brownfield.contract.fields import Field
from brownfield.contract.rules import FiniteRule, RangeRule, value_rules
from brownfield.errors import RejectionCode

__all__ = ["TensorBreak", "TensorChecker", "nested_type"]

_EXACT = 2**53
_SMALL = 4096  # elements up to which one product is quicker than a look at each


@dataclass(frozen=True, slots=True)
class TensorBreak:
    """The rule that an array breaks, and the record in which it was first seen."""

    id: str
    code: RejectionCode
    row: int = 0


class TensorChecker:
    """Checks arrays of one tensor field.

    Parameters
    ----------
    field
        A field of kind ``tensor``.

    Attributes
    ----------
    only_finite
        Whether all that is asked of an array of the declared shape and type is that every number is finite.

    Examples
    --------
    >>> checker = TensorChecker(Field(name="x", kind="tensor", dtype="float32", shape=(2,)))
    >>> checker.check([1.0, 2.5])[0].dtype
    dtype('float32')
    >>> checker.check([1.0])[1].id
    'x.shape'
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.dtype = np.dtype(object if field.dtype == "str" else field.dtype)
        self.nested = nested_type(field)
        self.rules = [rule for rule in value_rules(field) if isinstance(rule, FiniteRule | RangeRule)]
        self._whole_numbers = self.dtype.kind in "iu"
        self.only_finite = (self._whole_numbers or self.dtype.name in {"float32", "float64"}) and all(
            isinstance(rule, FiniteRule) for rule in self.rules
        )

    def check(self, value: Any, rows: int | None = None) -> tuple[np.ndarray | None, TensorBreak | None]:
        """Give the array in the declared dtype, and the rule it breaks.

        Parameters
        ----------
        value
            An array or nested lists.
        rows
            Length of the leading dimension of rows; None when the array is one record.
        """
        if not isinstance(value, np.ndarray):
            if rows is not None:
                return self._stack(value, rows)
            return self._from_lists(value)
        shape = self.field.shape if rows is None else (rows, *self.field.shape)
        if (
            self.only_finite
            and value.shape == shape
            and value.dtype == self.dtype
            and value.flags.c_contiguous
            and (self._whole_numbers or (value.size <= _SMALL and math.isfinite(np.vdot(value, value))))
        ):  # the product is finite of no value that is not; what is only large is looked at below
            return value, None
        if not _fits(value.shape, shape):
            return None, self._break("shape", RejectionCode.TENSOR_SHAPE)
        if value.dtype != self.dtype:
            converted = self._widen(value)
            if converted is None:
                return None, self._break("dtype", RejectionCode.TENSOR_DATATYPE)
            value = converted
        if not value.flags.c_contiguous:
            value = np.ascontiguousarray(value).reshape(value.shape)
        return self._check_values(value, rows)

    def _stack(self, values: Any, rows: int) -> tuple[np.ndarray | None, TensorBreak | None]:
        if len(values) != rows:
            return None, self._break("shape", RejectionCode.TENSOR_SHAPE)
        arrays: list[np.ndarray] = []
        for row, value in enumerate(values):
            array, broken = self.check(value)
            if array is None or broken is not None:
                assert broken is not None  # noqa: S101 (an array is missing only when a rule is broken)
                return None, TensorBreak(broken.id, broken.code, row)
            if arrays and array.shape != arrays[0].shape:
                return None, TensorBreak(f"{self.field.name}.shape", RejectionCode.TENSOR_SHAPE, row)
            arrays.append(array)
        return np.stack(arrays), None

    def _from_lists(self, value: Any) -> tuple[np.ndarray | None, TensorBreak | None]:
        try:
            plain = msgspec.convert(value, self.nested, strict=True)
        except (msgspec.ValidationError, RecursionError):
            return None, self._break("dtype", RejectionCode.TENSOR_DATA)
        array, broken = self.check_lists(plain, self.field.shape)
        if array is not None and self.dtype.kind == "f" and (np.abs(array) >= _EXACT).any() and _has_large(value):
            return None, self._break("exact", RejectionCode.FIELD_INEXACT)
        return array, broken

    def check_lists(
        self, plain: Any, shape: tuple[int | None, ...], rows: int | None = None
    ) -> tuple[np.ndarray | None, TensorBreak | None]:
        """Check nested lists of the right type; ``shape`` includes the rows where there are any."""
        try:
            array = np.array(plain, dtype=np.float64 if self.dtype.kind == "f" else self.dtype)
        except OverflowError:
            return None, self._break("exact", RejectionCode.FIELD_INEXACT)
        except ValueError:
            return None, self._break("shape", RejectionCode.TENSOR_SHAPE)
        if not _fits(array.shape, shape):
            return None, self._break("shape", RejectionCode.TENSOR_SHAPE)
        if self.dtype.kind == "f":
            if _overflows(array, self.dtype):
                return None, self._break("exact", RejectionCode.FIELD_INEXACT)
            array = array.astype(self.dtype)
        return self._check_values(array, rows)

    def _widen(self, value: np.ndarray) -> np.ndarray | None:
        if self.field.dtype == "str":
            return value.astype(object) if value.dtype.kind == "U" else None
        same_kind = value.dtype.kind == self.dtype.kind or {value.dtype.kind, self.dtype.kind} == {"i", "u"}
        if not same_kind or not np.can_cast(value.dtype, self.dtype, "safe"):
            return None
        return value.astype(self.dtype)

    def _check_values(self, array: np.ndarray, rows: int | None) -> tuple[np.ndarray | None, TensorBreak | None]:
        if self.field.dtype == "str":
            bad = np.fromiter((not _is_text(each) for each in array.flat), bool, array.size).reshape(array.shape)
            return self._verdict(array, bad, TensorBreak(f"{self.field.name}.text", RejectionCode.TENSOR_DATA), rows)
        for rule in self.rules:
            if isinstance(rule, FiniteRule):
                finite = np.isfinite(array)
                if np.count_nonzero(finite) == finite.size:
                    continue
                bad = ~finite
            else:
                bad = _outside(array, rule)
            verdict = self._verdict(array, bad, TensorBreak(rule.id, rule.code), rows)
            if verdict[1] is not None:
                return verdict
        return array, None

    @staticmethod
    def _verdict(
        array: np.ndarray, bad: np.ndarray, broken: TensorBreak, rows: int | None
    ) -> tuple[np.ndarray | None, TensorBreak | None]:
        if not np.count_nonzero(bad):
            return array, None
        row = 0 if rows is None else int(np.argwhere(bad)[0][0])
        return None, TensorBreak(broken.id, broken.code, row)

    def _break(self, suffix: str, code: RejectionCode) -> TensorBreak:
        return TensorBreak(f"{self.field.name}.{suffix}", code)


def nested_type(field: Field, *, bounded: bool = False) -> Any:
    """Type of nested lists that msgspec checks for this tensor.

    Parameters
    ----------
    field
        A tensor field.
    bounded
        Refuse floating-point values of 2^53 and more, at which whole numbers cease to be exact.

    Examples
    --------
    >>> nested_type(Field(name="x", kind="tensor", dtype="int8", shape=(None, 2)))
    list[list[int]]
    """
    kind: Any = {"b": bool, "i": int, "u": int, "f": float}.get(np.dtype(field.dtype).kind, str)
    if bounded and kind is float:
        kind = Annotated[float, msgspec.Meta(gt=-_EXACT, lt=_EXACT)]
    for _ in field.shape:
        kind = list[kind]
    return kind


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    if shape == declared:
        return True
    return len(shape) == len(declared) and all(
        want is None or have == want for have, want in zip(shape, declared, strict=True)
    )


def _overflows(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    return bool(((np.abs(array) > np.finfo(dtype).max) & np.isfinite(array)).any())


def _outside(array: np.ndarray, rule: RangeRule) -> np.ndarray:
    bad = np.zeros(array.shape, dtype=bool)
    if rule.minimum is not None:
        bad |= array <= rule.minimum if rule.exclusive_minimum else array < rule.minimum
    if rule.maximum is not None:
        bad |= array >= rule.maximum if rule.exclusive_maximum else array > rule.maximum
    return bad


def _has_large(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_large, value))
    return isinstance(value, int) and abs(value) > _EXACT


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
