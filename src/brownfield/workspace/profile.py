"""What a sample says about its columns: kind, missing values, range, spelling, and values that may stand for none.

Pure. Every figure is finite, also for no rows, one row, only nulls or one value. What looks personal by its name gives
no values, only counts.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Profile", "profile_column", "profile_table"]

_PERSONAL = re.compile(
    r"(?:^|_)(?:first|last|sur|full|family|given|vor|nach)?_?name(?:$|_)|surname|street|strasse|address|adresse|phone|"
    r"mobile|telefon|fax|e_?mail|birth|geburt|(?:^|_)dob(?:$|_)|iban|(?:^|_)bic(?:$|_)|account|konto|card|karte|ssn|"
    r"passport|tax_?id|steuer|household|customer|kunde|patient|person|member|employee|(?:^|_)ip(?:$|_)|postcode|"
    r"(?:^|_)plz(?:$|_)|(?:^|_)zip(?:$|_)"
)
_NOT_PERSONAL = re.compile(r"(?:product|item|store|department|brand|file|table|column|event|campaign)_?name")
_WORDS_FOR_NONE = ("", "N/A", "NA", "n/a", "NULL", "null", "None", "nan", ".", "-", "?", "UNKNOWN", "unknown")
_DAYS_FOR_NONE = (
    "9999-12-31", "0001-01-01", "1900-01-01", "1900-01-00", "99991231", "00010101", "00000000", "0000-00-00",
    "31.12.9999", "00.00.0000", "12/31/9999", "9999-12-31 00:00:00",
)  # fmt: skip
_NUMBERS_FOR_NONE = (-1, -9, -99, -999, -9999, 99, 999, 9999, 99999, 999999, 9999999, 99999999, 999999999)
_SPELLINGS = (
    ("date", "yyyy-MM-dd", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    ("date", "yyyyMMdd", r"^(19|20|99)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$"),
    ("date", "dd.MM.yyyy", r"^[0-9]{2}\.[0-9]{2}\.[0-9]{4}$"),
    ("timestamp", "yyyy-MM-dd HH:mm:ss", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"),
    ("timestamp", "yyyyMMddHHmmss", r"^(19|20)[0-9]{12}$"),
)
_WHOLE = r"^[+-]?(0|[1-9][0-9]{0,17})$"
_DECIMAL = r"^[+-]?[0-9]{1,15}\.[0-9]+$|^[+-]?(0|[1-9][0-9]{0,14})$"
_COMMA = r"^[+-]?(0|[1-9][0-9]{0,14})(,[0-9]+)?$"
_FEW = 20
_MANY_ROWS = 50


@dataclass(frozen=True, slots=True)
class Profile:
    """One column.

    Parameters
    ----------
    name
        As the silo spells it.
    kind
        ``string``, ``integer``, ``number``, ``boolean``, ``date`` or ``timestamp``: what its values are.
    as_text
        Whether they are that only once their spelling is read.
    spelling
        How: a date's or timestamp's format, or ``,`` as the decimal mark.
    rows, nulls, distinct
        Counts in the sample; ``distinct`` without nulls.
    minimum, maximum
        Of numbers; None for other kinds, for no values and for personal data.
    values
        All values, if they are few and often repeated; empty for personal data.
    longest
        Characters of the longest text.
    padded
        Whether texts end or begin with blanks.
    personal
        Whether the name says that it is personal data.
    suspects
        Values that may stand for a missing one, with the number of rows that have them.
    """

    name: str
    kind: str
    as_text: bool = False
    spelling: str = ""
    rows: int = 0
    nulls: int = 0
    distinct: int = 0
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    longest: int = 0
    padded: bool = False
    personal: bool = False
    suspects: "dict[str, int]" = field(default_factory=dict)

    @property
    def null_percent(self) -> float:
        """Share of missing values, 0 for no rows."""
        return 100.0 * self.nulls / self.rows if self.rows else 0.0

    @property
    def unique_share(self) -> float:
        """Distinct values in one value, 0 for none: 1 means that each stands once."""
        present = self.rows - self.nulls
        return self.distinct / present if present else 0.0


def profile_column(name: str, column: pa.ChunkedArray) -> Profile:
    """Look at one column of a sample.

    Examples
    --------
    >>> found = profile_column("UNTIL", pa.chunked_array([["20260101", "20260215", "99991231", "99991231"]]))
    >>> found.kind, found.spelling, found.suspects
    ('date', 'yyyyMMdd', {'99991231': 2})
    >>> empty = profile_column("N", pa.chunked_array([[]], pa.int64()))
    >>> empty.null_percent, empty.unique_share, empty.minimum
    (0.0, 0.0, None)
    """
    personal = is_personal(name)
    counted = column.drop_null().value_counts()
    counts = {each["values"]: each["counts"] for each in counted.to_pylist()} if len(counted) else {}
    parts: dict[str, Any] = {
        "rows": len(column), "nulls": column.null_count, "distinct": len(counts), "personal": personal,
    }  # fmt: skip
    if pa.types.is_string(column.type):
        parts |= _of_text(counts)
    else:
        parts |= _of_values(column, counts)
    few = 0 < len(counts) <= _FEW and len(column) >= _MANY_ROWS and not personal
    if few and parts["kind"] == "string":
        plain = sorted({str(value).strip() for value in counts} - set(parts["suspects"]))
        parts["values"] = tuple(plain)
    if personal:
        parts["minimum"] = parts["maximum"] = None
    return Profile(name, **parts)


def is_personal(name: str) -> bool:
    """Tell by its name whether a column holds personal data.

    Examples
    --------
    >>> [is_personal(name) for name in ("household_id", "CUST_LAST_NAME", "product_name", "quantity")]
    [True, True, False, False]
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
    return bool(_PERSONAL.search(_NOT_PERSONAL.sub("", plain)))


def _of_values(column: pa.ChunkedArray, counts: "dict[Any, int]") -> dict[str, Any]:
    kind = column.type
    if pa.types.is_boolean(kind):
        return {"kind": "boolean", "suspects": {}}
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        suspects = {str(value): rows for value, rows in counts.items() if str(value) in _DAYS_FOR_NONE}
        return {"kind": "date" if pa.types.is_date(kind) else "timestamp", "suspects": suspects}
    finite = [value for value in counts if value == value and abs(value) != float("inf")]  # noqa: PLR0124 (NaN)
    return {
        "kind": "integer" if pa.types.is_integer(kind) else "number",
        "minimum": float(min(finite)) if finite else None,
        "maximum": float(max(finite)) if finite else None,
        "suspects": _far_numbers({value: counts[value] for value in finite}),
    }


def _far_numbers(counts: "dict[Any, int]") -> dict[str, int]:
    """Numbers that are often written for a missing one, stand twice at least and lie far from all others."""
    found: dict[str, int] = {}
    for number in _NUMBERS_FOR_NONE:
        rows = counts.get(number, 0)
        others = [value for value in counts if value not in _NUMBERS_FOR_NONE]
        if rows < 2 or not others:  # noqa: PLR2004 (once may be chance)
            continue
        far = min(others) >= 0 if number < 0 else max(others) * 2 < number
        if far:
            found[str(int(number))] = rows
    return found


def _of_text(counts: "dict[str, int]") -> dict[str, Any]:
    suspects = {text: rows for text, rows in counts.items() if text.strip() in (*_WORDS_FOR_NONE, *_DAYS_FOR_NONE)}
    texts = [text for text in counts if text not in suspects]
    parts: dict[str, Any] = {
        "kind": "string",
        "longest": max(map(len, counts), default=0),
        "padded": any(text != text.strip() for text in texts),
        "suspects": suspects,
    }
    stripped = pa.array([text.strip() for text in texts], pa.string())
    if not len(stripped):
        return parts
    for kind, spelling, pattern in _SPELLINGS:
        if _all(stripped, pattern):
            return parts | {"kind": kind, "as_text": True, "spelling": spelling}
    for kind, spelling, pattern in (("integer", "", _WHOLE), ("number", "", _DECIMAL), ("number", ",", _COMMA)):
        if _all(stripped, pattern):
            numbers = [float(text.replace(",", ".")) for text in stripped.to_pylist()]
            far = _far_numbers(dict(zip(numbers, (counts[text] for text in texts), strict=True)))
            bounds = {"minimum": min(numbers), "maximum": max(numbers)}
            return parts | bounds | {
                "kind": kind, "as_text": True, "spelling": spelling, "suspects": suspects | far,
            }  # fmt: skip
    return parts


def _all(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def profile_table(sample: pa.Table) -> "Sequence[Profile]":
    """Look at every column of a sample."""
    return [profile_column(name, sample[name]) for name in sample.column_names]
