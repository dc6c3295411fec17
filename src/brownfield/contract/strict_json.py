"""JSON read strictly: what common libraries let through is refused here.

In: the bytes of a body. Out: plain values.
Refused: an empty body, a byte order mark, bytes that are not UTF-8, NUL, lone surrogates, duplicate keys, more than
32 levels, too many keys in one object, NaN and infinities, numbers beyond 64 bits.
The cost is bounded by the length of the body, and no depth of nesting reaches a recursive parser.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec
import numpy as np

from brownfield.errors import InputRefused, RejectionCode, Violation

__all__ = ["JsonLimits", "parse_json"]


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Bounds on a JSON document.

    Parameters
    ----------
    depth
        Deepest nesting of objects and arrays.
    keys
        Most keys in one object.
    """

    depth: int = 32
    keys: int = 1000


_DEFAULT = JsonLimits()
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# A string that is never closed ends with the body, so that every quote is looked at once.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SUSPECT_BYTES = re.compile(rb"\\u(?:0000|003[aA]|[dD][89a-fA-F])")
_INT64_LOW, _UINT64_HIGH = -(2**63), 2**64 - 1
_INTEGER_DIGITS = 20
_SHOWN_KEY = 64
_EXPECTED = {
    "duplicate_key": "each key once in an object",
    "empty": "a JSON document, and not an empty body",
    "encoding": "UTF-8 without a byte order mark and without halves of characters",
    "nul": "text without NUL",
    "number": "finite numbers, and whole ones of at most 64 bits",
    "shape": "an object, or an array of at least one object",
    "syntax": "JSON",
}


def parse_json(body: bytes, limits: JsonLimits = _DEFAULT) -> Any:
    """Parse a JSON document strictly.

    Parameters
    ----------
    body
        UTF-8 without a byte order mark.
    limits
        Bounds on depth and keys.

    Returns
    -------
    Any
        Plain mappings, lists, text, numbers, booleans and None.

    Raises
    ------
    InputRefused
        With one violation that says why; never with a value.

    Examples
    --------
    >>> parse_json(b'{"quantity": 1}')
    {'quantity': 1}
    >>> parse_json(b'{"quantity": 1, "quantity": 9}')
    Traceback (most recent call last):
    brownfield.errors.InputRefused: record 0: quantity: BF-JSON-006 (rule json.duplicate_key); expected each key once \
in an object
    """
    try:
        value = msgspec.json.decode(body)
        if not (b"\\" in body and _SUSPECT_BYTES.search(body)):
            return _without_doubt(body, value, limits)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _Doubt):
        pass  # the strict reader below says what is wrong, if anything is
    return read_strictly(body, limits)


def read_strictly(body: bytes, limits: JsonLimits) -> Any:
    """Parse as :func:`parse_json` does, by the reader that looks at everything."""
    text = _text(body)
    _check_depth(body, limits.depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, limits.keys),
            parse_constant=lambda _: refuse_json("number", RejectionCode.JSON_NUMBER),
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError:
        refuse_json("syntax", RejectionCode.JSON_SYNTAX)
    if _SUSPECT_ESCAPE.search(text):
        _check_texts(value)
    return value


class _Doubt(Exception):
    """The fast reader cannot vouch for the document."""


def _without_doubt(body: bytes, value: Any, limits: JsonLimits) -> Any:
    # Each key brings one colon; a key that stood twice is in the body but not in the value, and the counts differ.
    # Escaped colons were sent to the strict reader before.
    if body.count(b":") != _colons(value, limits.depth, limits.keys):
        raise _Doubt
    return value


def _colons(value: Any, depth: int, keys: int) -> int:
    """Colons that a value accounts for in its text; never more than there are."""
    if isinstance(value, str):
        return value.count(":")
    if isinstance(value, int):
        return _colons_in_numbers([value])
    if not isinstance(value, dict | list):
        return 0
    if not depth or (isinstance(value, dict) and len(value) > keys):
        raise _Doubt
    if isinstance(value, dict):
        return sum(1 + key.count(":") + _colons(each, depth - 1, keys) for key, each in value.items())
    return _colons_in_list(value, depth - 1, keys)


def _colons_in_list(values: list[Any], depth: int, keys: int) -> int:
    # Lists of one kind are looked at as a whole; a list of several kinds raises TypeError there.
    first = values[0] if values else None
    try:
        if isinstance(first, int | float):
            return _colons_in_numbers(values)
        if isinstance(first, str):
            return "".join(values).count(":")
    except TypeError:
        raise _Doubt from None
    return sum(_colons(each, depth, keys) for each in values)


def _colons_in_numbers(values: list[Any]) -> int:
    if min(values) < _INT64_LOW or max(values) > _UINT64_HIGH:
        raise _Doubt
    return 0


def refuse_json(what: str, code: RejectionCode, field: str = "", expected: str = "") -> NoReturn:
    """Refuse a document as a whole."""
    raise InputRefused([Violation(field, f"json.{what}", code, expected=expected or _EXPECTED[what])])


def shown_key(name: str) -> str:
    """Key of a sender as it may be shown: short, printable."""
    return "".join(each if each.isprintable() else "?" for each in name[:_SHOWN_KEY])


def _text(body: bytes) -> str:
    if not body.strip():
        refuse_json("empty", RejectionCode.JSON_EMPTY)
    if body.startswith(_MARKS):
        refuse_json("encoding", RejectionCode.JSON_ENCODING)
    if b"\0" in body:
        refuse_json("nul", RejectionCode.JSON_NUL)
    try:
        return body.decode()
    except UnicodeDecodeError:
        refuse_json("encoding", RejectionCode.JSON_ENCODING)


def _check_depth(body: bytes, most: int) -> None:
    if body.count(b"[") + body.count(b"{") <= most:
        return
    letters = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    opened = (letters == ord("[")) | (letters == ord("{"))
    closed = (letters == ord("]")) | (letters == ord("}"))
    depth = np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int32)
    if len(depth) and depth.max() > most:
        refuse_json("depth", RejectionCode.JSON_DEPTH, expected=f"at most {most} levels of objects and arrays")


def _object(pairs: list[tuple[str, Any]], most: int) -> dict[str, Any]:
    if len(pairs) > most:
        refuse_json("too_many_keys", RejectionCode.JSON_TOO_MANY_KEYS, expected=f"at most {most:,} keys in an object")
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                refuse_json("duplicate_key", RejectionCode.JSON_DUPLICATE_KEY, shown_key(key))
            seen.add(key)
    return result


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        refuse_json("number", RejectionCode.JSON_NUMBER)
    return value


def _int(text: str) -> int:
    if len(text) > _INTEGER_DIGITS + 1:
        refuse_json("number", RejectionCode.JSON_NUMBER)
    value = int(text)
    if not _INT64_LOW <= value <= _UINT64_HIGH:
        refuse_json("number", RejectionCode.JSON_NUMBER)
    return value


def _check_texts(value: Any) -> None:
    # The depth was bounded above, so recursion is too.
    if isinstance(value, str):
        if "\0" in value:
            refuse_json("nul", RejectionCode.JSON_NUL)
        if any("\ud800" <= each <= "\udfff" for each in value):
            refuse_json("encoding", RejectionCode.JSON_ENCODING)
    elif isinstance(value, list):
        for each in value:
            _check_texts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_texts(key)
            _check_texts(each)
