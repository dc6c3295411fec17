"""How a request field becomes numbers of a graph input: one frozen kind each, the same at fit and at serving.

In: one column (a list or an array; ``None`` is a missing value). Out: its part of a tensor, ``[rows, width]``.
Refused: a missing or unknown value where nothing was declared for it, a number that leaves the tensor's range.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.data.features.vocabulary import ABSENT, Vocabulary, flatten, plain
from brownfield.errors import InputRefused, RejectionCode, Violation

__all__ = ["TEXT_DTYPE", "Category", "InputFeature", "MultiHot", "Numeric", "RawInput", "SequenceInput", "refuse_rows"]

TEXT_DTYPE = "str"
"""The dtype of a tensor of strings (V2 ``BYTES``); the array itself is of Python objects of type ``str``."""

_MOST = 100  # rows that a refusal names
_LOSING = {"bool": {int, float}} | {f"{sign}int{bits}": {float} for sign in ("", "u") for bits in (8, 16, 32, 64)}
_LARGEST = {dtype: float(np.finfo(dtype).max) for dtype in ("float32", "float16")}

Array: TypeAlias = npt.NDArray[Any]
Column: TypeAlias = Sequence[Any] | Array


class _Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What every input feature names: the request field it reads and the graph input it feeds."""

    field: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None = None

    alone: ClassVar[bool] = False
    """Whether this kind fills a whole tensor and so shares it with no other."""


class Numeric(_Input, frozen=True, tag="numeric"):
    """A number, centred and scaled: ``(value - center) / scale``, or ``log1p(value)``.

    Parameters
    ----------
    log1p
        Whether the logarithm of ``1 + value`` is taken first.
    center, scale
        Learned or declared; ``scale`` is finite and not zero.
    fill
        What stands in for a missing value, in the field's own unit; ``None`` refuses a missing value.
    mask
        Whether a second column says 1 where the value was missing.
    """

    log1p: bool = False
    center: float = 0.0
    scale: float = 1.0
    fill: float | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        finite = np.isfinite([self.center, self.scale, 0.0 if self.fill is None else self.fill]).all()
        if not finite or self.scale == 0:
            raise ValueError(
                f"numeric feature {self.field!r} needs a finite center and fill, and a scale that is not 0"
            )

    @property
    def width(self) -> int:
        """Columns in the tensor."""
        return 2 if self.mask else 1

    def write(self, column: Column, out: Array) -> None:
        """Write the scaled values, and the mask where declared, into ``out`` (``[rows, width]``)."""
        values = np.array(column, dtype=np.float64)
        missing = np.isnan(values)
        if missing.any():
            if self.fill is None:
                refuse_rows(self.field, "missing", RejectionCode.FIELD_NULL, missing)
            values[missing] = self.fill
        with np.errstate(all="ignore"):
            if self.log1p:
                values = np.log1p(values)
            out[:, 0] = (values - self.center) / self.scale
        bad = ~np.isfinite(out[:, 0])
        if bad.any():
            refuse_rows(self.field, "finite", RejectionCode.RULE_RANGE, bad)
        if self.mask:
            out[:, 1] = missing


class Category(_Input, frozen=True, tag="category"):
    """One value of a vocabulary, as its index or as a column of its own; a missing value counts as unknown.

    Parameters
    ----------
    vocabulary
        The known values.
    encoding
        ``index`` or ``one_hot``.
    unknown
        ``first`` and ``last`` give unknown values an index (a column) of their own before or after the known ones,
        ``ignore`` leaves a row of zeros (``one_hot`` only), ``refuse`` refuses the record.
    """

    vocabulary: Vocabulary
    encoding: Literal["index", "one_hot"] = "index"
    unknown: Literal["first", "last", "ignore", "refuse"] = "last"

    def __post_init__(self) -> None:
        if self.encoding == "index" and self.unknown == "ignore":
            raise ValueError(f"category feature {self.field!r} cannot ignore unknown values in an index")
        if self.encoding == "index":
            _check_holds(self, self.values - 1)

    @property
    def values(self) -> int:
        """How many different indices there are."""
        return len(self.vocabulary) + (self.unknown in ("first", "last"))

    @property
    def width(self) -> int:
        """Columns in the tensor."""
        return 1 if self.encoding == "index" else self.values

    def write(self, column: Column, out: Array) -> None:
        """Write indices or ones into ``out`` (``[rows, width]``, zeros)."""
        found = self.vocabulary.indices(plain(column))
        absent = found == ABSENT
        if self.unknown == "refuse" and absent.any():
            refuse_rows(self.field, "vocabulary", RejectionCode.RULE_ENUM, absent)
        if self.unknown == "first":
            found += 1  # ABSENT is -1, and so becomes 0
        elif self.unknown == "last":
            found[absent] = len(self.vocabulary)
        if self.encoding == "index":
            out[:, 0] = found
        else:
            rows = np.flatnonzero(found != ABSENT)
            out[rows, found[rows]] = 1


class MultiHot(_Input, frozen=True, tag="multi_hot"):
    """A list of values as one column per known value: 1 where the list holds it; a missing list counts as empty.

    Parameters
    ----------
    vocabulary
        The known values.
    unknown
        ``ignore`` drops unknown items, ``count`` adds a last column with their number, ``refuse`` refuses the record.
    """

    vocabulary: Vocabulary
    unknown: Literal["ignore", "count", "refuse"] = "ignore"

    @property
    def width(self) -> int:
        """Columns in the tensor."""
        return len(self.vocabulary) + (self.unknown == "count")

    def write(self, column: Column, out: Array) -> None:
        """Write ones into ``out`` (``[rows, width]``, zeros)."""
        items, rows = flatten(column)
        found = self.vocabulary.indices(items)
        known = found != ABSENT
        out[rows[known], found[known]] = 1
        if self.unknown != "ignore" and not known.all():
            counts = np.bincount(rows[~known], minlength=len(out))
            if self.unknown == "refuse":
                refuse_rows(self.field, "vocabulary", RejectionCode.RULE_ENUM, counts > 0)
            out[:, -1] = counts


class SequenceInput(_Input, frozen=True, tag="sequence"):
    """A list as a padded row of integers, ``[rows, length]``; a missing list counts as empty.

    Parameters
    ----------
    vocabulary
        The known values, numbered from 1 (0 is the padding); ``None`` where the items are integers already.
    unknown
        With a vocabulary: ``ignore`` drops unknown items, ``last`` numbers them one above the known ones, ``refuse``
        refuses the record.
    pad
        What stands after the items; 0 with a vocabulary.
    length
        Width of the tensor; longer lists keep their last items. ``None`` pads to the longest list at hand.
    """

    vocabulary: Vocabulary | None = None
    unknown: Literal["ignore", "last", "refuse"] = "last"
    pad: int = 0
    length: int | None = None

    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_holds(self, self.pad)
        if self.vocabulary is not None:
            _check_holds(self, len(self.vocabulary) + (self.unknown == "last"))

    def tensor_of(self, column: Column, rows: int, *, batched: bool) -> Array:  # noqa: ARG002 (one signature)
        """Return the padded tensor, shape ``(rows, length)``."""
        ids, row_of = self._identifiers(column)
        counts = np.bincount(row_of, minlength=rows)
        starts = np.cumsum(counts) - counts
        width = self.length if self.length is not None else int(counts.max(initial=0))
        place = np.arange(len(ids)) - np.repeat(starts, counts) - np.repeat(np.maximum(counts - width, 0), counts)
        kept = place >= 0
        out = np.full((rows, width), self.pad, dtype=self.dtype)
        out[row_of[kept], place[kept]] = ids[kept]
        return out

    def _identifiers(self, column: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        items, row_of = flatten(column)
        if self.vocabulary is None:
            numbers, widest = list(items), np.iinfo("uint64" if self.dtype == "uint64" else "int64")
            try:
                ids = np.array(numbers, dtype=widest.dtype)
            except OverflowError:
                beyond = np.array([not int(widest.min) <= number <= int(widest.max) for number in numbers])
                refuse_rows(self.field, "range", RejectionCode.RULE_RANGE, np.bincount(row_of[beyond]) > 0)
            if self.dtype != "int64":
                beyond = _beyond(ids, np.dtype(self.dtype))
                if beyond.any():
                    refuse_rows(self.field, "range", RejectionCode.RULE_RANGE, np.bincount(row_of[beyond]) > 0)
            return ids, row_of
        found = self.vocabulary.indices(items)
        absent = found == ABSENT
        if self.unknown == "refuse" and absent.any():
            refuse_rows(self.field, "vocabulary", RejectionCode.RULE_ENUM, np.bincount(row_of[absent]) > 0)
        if self.unknown == "ignore":
            return found[~absent] + 1, row_of[~absent]
        found[absent] = len(self.vocabulary)
        return found + 1, row_of


class RawInput(_Input, frozen=True, tag="raw"):
    """The field as it stands: a number, a text or a tensor, with the graph's own dtype."""

    alone: ClassVar[bool] = True

    def tensor_of(self, column: Column, rows: int, *, batched: bool) -> Array:  # noqa: ARG002 (one signature)
        """Return the tensor, shape ``(rows, *shape)``; the field's own shape when not batched."""
        dtype = object if self.dtype == TEXT_DTYPE else self.dtype
        if isinstance(column, np.ndarray) and (column.dtype.kind not in "OUS" or not column.ndim):
            array = np.ascontiguousarray(column) if column.dtype == dtype else self._converted(column)
        else:
            array = self._from_values(column, dtype)
        if batched or array.ndim == len(self.shape or ()):
            return array
        return array.reshape(array.shape[1:])

    def _from_values(self, column: Column, dtype: Any) -> Array:
        missing = [row for row, value in enumerate(column) if value is None]
        if missing:
            refuse_rows(self.field, "missing", RejectionCode.FIELD_NULL, np.bincount(missing) > 0)
        if len(column) and type(column[0]) in _LOSING.get(self.dtype, ()):
            return self._converted(np.array(column))
        try:
            largest = _LARGEST.get(self.dtype)
            if largest is None or (len(column) == 1 and type(column[0]) is float and abs(column[0]) <= largest):
                return np.array(column, dtype=dtype, order="C")
            with np.errstate(over="raise"):
                return np.array(column, dtype=dtype, order="C")
        except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
            violation = Violation(self.field, f"{self.field}.tensor", RejectionCode.TENSOR_DATA, 0, self._expected())
            raise InputRefused([violation]) from error

    def _converted(self, column: Array) -> Array:
        """Give the values in the graph's own dtype; what that cannot hold is refused, never another number."""
        dtype = np.dtype(self.dtype)
        with np.errstate(all="ignore"):
            array: Array = np.ascontiguousarray(column, dtype=dtype)
            if dtype.kind in "iub":
                beyond = array != column if dtype.kind == "b" else _beyond(column, dtype) | (array != column)
            else:
                beyond = np.isfinite(column) & ~np.isfinite(array)
        if beyond.any():
            rows = np.atleast_1d(beyond).reshape(len(np.atleast_1d(beyond)), -1).any(axis=1)
            rule, code, expected = f"{self.field}.tensor", RejectionCode.TENSOR_DATA, self._expected()
            raise InputRefused(
                [Violation(self.field, rule, code, int(row), expected) for row in np.flatnonzero(rows)[:_MOST]]
            )
        return array

    def _expected(self) -> str:
        return f"values that the model's tensor of {self.dtype} holds without loss"


InputFeature: TypeAlias = Numeric | Category | MultiHot | SequenceInput | RawInput


_EXPECTED = {
    "finite": "a value that stays finite when it is scaled",
    "missing": "a value, for the model needs one",
    "range": "whole numbers that the model's tensor holds",
    "vocabulary": "values that are in the model's vocabulary",
}


def refuse_rows(field: str, rule: str, code: RejectionCode, bad: Array, limit: int = _MOST) -> None:
    """Raise :class:`InputRefused` for the marked rows of a field, naming at most ``limit`` of them."""
    raise InputRefused(
        [
            Violation(field, f"features.{field}.{rule}", code, int(row), _EXPECTED[rule])
            for row in np.flatnonzero(bad)[:limit]
        ]
    )


def _beyond(values: Array, dtype: np.dtype[Any]) -> Array:
    """Mark the values that a type of whole numbers cannot hold: they would become others."""
    info = np.iinfo(dtype)
    return ~((values >= info.min) & (values < int(info.max) + 1))  # of NaN neither holds, and 2**63 is a float


def _check_holds(feature: _Input, largest: int) -> None:
    info = np.iinfo(feature.dtype)
    if not info.min <= largest <= info.max:
        raise ValueError(f"the tensor of feature {feature.field!r} is of {feature.dtype}, which cannot hold {largest}")
