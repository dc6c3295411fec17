"""Text columns to typed columns, as a mapping file spells them: numbers, truth values and codes.

Each takes a column of text and gives the values (null where the text is null or does not fit) and the rows that do
not fit. Every step looks at one value alone, so it may be run on the distinct values of a column.
"""

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from brownfield.integration.mapping import Truth
    from brownfield.integration.spelling import NumberSpelling

__all__ = ["Cast", "codes", "lost", "numbers", "truths"]

Cast: TypeAlias = "Callable[[pa.Array], tuple[pa.Array, NDArray[np.bool_]]]"
"""A column of text to values and the rows that do not fit."""


def numbers(spelling: "NumberSpelling", *, whole: bool) -> Cast:
    """Read numbers in one spelling.

    Parameters
    ----------
    spelling
        As declared.
    whole
        Give ``int64``, and refuse fractions; else ``float64``.

    Examples
    --------
    >>> from brownfield.integration import NumberSpelling
    >>> german = numbers(NumberSpelling(decimal=",", thousands=".", minus="trailing"), whole=False)
    >>> values, bad = german(pa.array(["1.234,50-", "7", "1,234.5", None]))
    >>> values.to_pylist(), bad.tolist()
    ([-1234.5, 7.0, None, None], [False, False, True, False])
    """
    pattern = _pattern(spelling, whole=whole)
    kind = pa.int64() if whole else pa.float64()
    divisor = 10**spelling.implied_decimals * (100 if spelling.percent else 1)

    def cast(text: pa.Array) -> tuple[pa.Array, "NDArray[np.bool_]"]:
        fits = pc.match_substring_regex(text, pattern)
        spelt = text if pc.all(fits).as_py() else pc.if_else(fits, text, pa.scalar(None, pa.string()))
        values = _cast(_plain(spelt, spelling), kind)
        if divisor != 1:
            values = pc.divide(values, float(divisor))
        if not whole:
            values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
        return values, lost(text, values)

    return cast


def _pattern(spelling: "NumberSpelling", *, whole: bool) -> str:
    digits = "[0-9]+"
    if spelling.thousands is not None:
        digits = f"(?:[0-9]{{1,3}}(?:{re.escape(spelling.thousands)}[0-9]{{3}})+|[0-9]+)"
    fraction = "" if whole or spelling.implied_decimals else f"(?:{re.escape(spelling.decimal)}[0-9]+)?"
    exponent = "(?:[eE][+-]?[0-9]{1,3})?" if spelling.exponent and not whole else ""
    number = digits + fraction + exponent
    number = {
        "leading": f"[+-]?{number}",
        "trailing": f"{number}[+-]?",
        "parentheses": rf"(?:{number}|\({number}\))",
        "none": number,
    }[spelling.minus]
    if spelling.affixes:
        affix = f"(?:{'|'.join(re.escape(each) for each in spelling.affixes)})?"
        number = f"{affix} ?{number} ?{affix}"
    return f"^{number}{' ?%' if spelling.percent else ''}$"


def _plain(text: pa.Array, spelling: "NumberSpelling") -> pa.Array:
    """Spell numbers as Arrow reads them: digits, a point, a sign in front."""
    for affix in spelling.affixes:
        text = pc.replace_substring(text, affix, "")
    if spelling.percent:
        text = pc.replace_substring(text, "%", "")
    if spelling.thousands is not None:
        text = pc.replace_substring(text, spelling.thousands, "")
    if spelling.decimal != ".":
        text = pc.replace_substring(text, spelling.decimal, ".")
    if spelling.affixes or spelling.percent:
        text = pc.ascii_trim(text, " ")
    if spelling.minus == "trailing":
        text = pc.replace_substring_regex(text, r"^(.*)-$", r"-\1")
        return pc.ascii_rtrim(text, "+")
    if spelling.minus == "parentheses":
        return pc.replace_substring_regex(text, r"^\((.*)\)$", r"-\1")
    return pc.ascii_ltrim(text, "+")


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:  # a whole number beyond 64 bits
        return pa.array([_fitting(each) for each in text.to_pylist()], kind)


def _fitting(text: str | None) -> int | None:
    return None if text is None or not -(2**63) <= int(text) < 2**63 else int(text)


def truths(truth: "Truth") -> Cast:
    """Read truth values as they are written.

    Examples
    --------
    >>> from brownfield.integration import Truth
    >>> values, bad = truths(Truth(yes=("Y", "J"), no=("N",)))(pa.array(["J", "N", "y", None]))
    >>> values.to_pylist(), bad.tolist()
    ([True, False, None, None], [False, False, True, False])
    """
    return codes({**dict.fromkeys(truth.yes, True), **dict.fromkeys(truth.no, False)}, pa.bool_(), None)


def codes(meanings: "Mapping[str, Any]", kind: pa.DataType, unknown: Any | None) -> Cast:
    """Give what codes stand for.

    Parameters
    ----------
    meanings
        Value by code.
    kind
        Arrow type of the values.
    unknown
        Value of a code that is not listed; None refuses it.
    """
    known = pa.array(list(meanings), pa.string())
    values = pa.array(list(meanings.values()), kind)

    def cast(text: pa.Array) -> tuple[pa.Array, "NDArray[np.bool_]"]:
        found = values.take(pc.index_in(text, value_set=known))
        if unknown is not None:
            found = pc.if_else(pc.and_(pc.is_valid(text), pc.is_null(found)), pa.scalar(unknown, kind), found)
        return found, lost(text, found)

    return cast


def lost(before: pa.Array, after: pa.Array) -> "NDArray[np.bool_]":
    """Rows that had a value and have none."""
    if after.null_count == before.null_count:
        return np.zeros(len(before), dtype=bool)
    rows: NDArray[np.bool_] = pc.and_(pc.is_valid(before), pc.is_null(after)).to_numpy(zero_copy_only=False)
    return rows
