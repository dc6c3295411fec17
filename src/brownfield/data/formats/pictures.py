"""From a picture and a usage to how a field is written."""

import re
from typing import Literal

from brownfield.data.formats.copybook_entries import Entry
from brownfield.data.formats.copybook_words import refuse
from brownfield.data.formats.layout import MAX_RECORD_BYTES, Item
from brownfield.errors import FormatError

__all__ = ["BinarySize", "read_picture"]

BinarySize = Literal["2-4-8", "1-2-4-8"]
"""Bytes that binary numbers may take: those of the mainframe, or one byte for up to 2 digits as well."""

_MAX_DIGITS = 18
_FLOAT_BYTES = {"COMP-1": 4, "COMP-2": 8}
_NUMBER = re.compile("(S?)(P*)(9*)(P*)(?:V(P*)(9*)(P*))?")
_TEXT = re.compile("[XA9]*[XA][XA9]*")


def read_picture(entry: Entry, binary_size: BinarySize, file: str) -> Item:
    """Say how the field of an entry is written; without name and place.

    Raises
    ------
    FormatError
        For a picture that is not read; names the line.
    """
    usage, word = entry.usage or ("zoned", "DISPLAY")
    symbols = _expand(entry, file)
    if usage == "float":
        if symbols:
            raise FormatError(where=f"{file}:{entry.line}", expected=f"no picture beside {word}", got="one")
        return Item(name="", offset=0, length=_FLOAT_BYTES[word], usage="float", signed=True, picture=word)
    if _TEXT.fullmatch(symbols):
        if usage != "zoned":
            raise FormatError(where=f"{file}:{entry.line}", expected="USAGE DISPLAY for text", got=usage)
        return Item(name="", offset=0, length=len(symbols), picture=f"PIC {entry.picture}")
    if {"N", "G"} & set(symbols):
        raise refuse("national and double-byte text (PIC N, PIC G)", entry.line, file)
    return _number(entry, symbols, binary_size, file)


def _number(entry: Entry, symbols: str, binary_size: BinarySize, file: str) -> Item:
    usage, word = entry.usage or ("zoned", "DISPLAY")
    match = _NUMBER.fullmatch(symbols)
    if match is None or not (match[3] or match[6]):
        raise refuse(f"the picture {entry.picture}", entry.line, file)
    places = _places(match)
    if places is None:
        raise refuse(f"the picture {entry.picture}", entry.line, file)
    digits, scale = places
    if digits > _MAX_DIGITS or digits - scale > _MAX_DIGITS or scale > _MAX_DIGITS:
        raise refuse(f"a number of more than {_MAX_DIGITS} digits", entry.line, file)
    signed = bool(match[1])
    leading, separate = entry.sign or (False, False)
    own_byte = signed and separate and usage == "zoned"
    signless = word == "COMP-6"
    if signless and signed:
        raise FormatError(where=f"{file}:{entry.line}", expected="no sign for COMP-6", got="one")
    if entry.blank_when_zero and (usage != "zoned" or signed):
        raise FormatError(
            where=f"{file}:{entry.line}", expected="BLANK WHEN ZERO for an unsigned DISPLAY number", got="another"
        )
    lengths = {
        "zoned": digits + own_byte,
        "packed": (digits + 1) // 2 if signless else digits // 2 + 1,
        "binary": _binary_bytes(digits, binary_size),
    }
    words = [f"PIC {entry.picture}", *([] if usage == "zoned" else [word])]
    if usage == "zoned" and signed and (leading or separate):
        words.append(f"SIGN {'LEADING' if leading else 'TRAILING'}{' SEPARATE' if separate else ''}")
    words += ["BLANK WHEN ZERO"] if entry.blank_when_zero else []
    return Item(
        name="", offset=0, length=lengths[usage], usage=usage, digits=digits, scale=scale, signed=signed,
        native=word == "COMP-5", separate=own_byte, leading=signed and leading and usage == "zoned",
        signless=signless, blank_when_zero=entry.blank_when_zero, picture=" ".join(words),
    )  # fmt: skip


def _places(match: "re.Match[str]") -> tuple[int, int] | None:
    """Digits that are written, and places behind the decimal point; None where P stands on both sides or inside."""
    _, before, whole, behind, after_point, fraction, trailing = (part or "" for part in match.groups())
    if trailing or (before and behind) or (whole and (before or after_point)) or (behind and fraction):
        return None
    digits = len(whole) + len(fraction)
    if before:  # PP99 is VPP99
        return (digits, len(before) + len(whole)) if not fraction else None
    return digits, len(after_point) + len(fraction) - len(behind)


def _expand(entry: Entry, file: str) -> str:
    """Write out repetitions: ``9(3)`` is ``999``."""
    total = 0
    parts: list[str] = []
    for symbol, count in re.findall(r"([^()])(?:\(([0-9]{1,9})\))?", entry.picture):
        total += int(count or 1)
        if total > MAX_RECORD_BYTES:
            raise FormatError("the picture is too long", where=f"{file}:{entry.line}")
        parts.append(symbol * int(count or 1))
    return "".join(parts)


def _binary_bytes(digits: int, size: BinarySize) -> int:
    if digits <= 2 and size == "1-2-4-8":  # noqa: PLR2004 (a byte)
        return 1
    return 2 if digits <= 4 else 4 if digits <= 9 else 8  # noqa: PLR2004 (COBOL's half, full and double words)
