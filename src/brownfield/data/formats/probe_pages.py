"""How well a character set explains bytes: the share of characters that stand where characters of their kind do.

A byte that two sets read differently tells them apart by its neighbours: a letter belongs beside letters of its case
and script, a bracket does not stand inside a word. Sets that read every byte of a sample alike cannot be told apart,
and are named as such.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brownfield.data.formats.code_page import code_page

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EBCDIC_PAGES", "PC_PAGES", "PageScore", "rank_pages"]

EBCDIC_PAGES = (
    "cp037", "cp1047", "cp273", "cp500", "cp1140", "cp1141", "cp1148", "cp297", "cp1147", "cp280", "cp1144", "cp284",
    "cp1145", "cp285", "cp1146", "cp277", "cp1142", "cp278", "cp1143", "cp871", "cp1149", "cp870", "cp1025", "cp875",
    "cp1026",
)  # fmt: skip
"""Mainframe sets that are tried, the usual first."""
PC_PAGES = ("cp1252", "cp850", "cp437", "cp1250", "cp1251", "cp1253", "cp1254")
"""Sets of PCs that are tried, the usual first."""

_COMMON = frozenset(".,-/'&():;+#*%\"@$€£_=?!<>\u00a0\t\r\n")
_WESTERN = frozenset("äöüßÄÖÜéèêëàâáíóúñçôîïùûåøæãõìòÉÈÀÁÍÓÚÑÇÅØÆÊÔÂ")
_LOWER, _UPPER, _ACCENTED, _CAPITAL, _FOREIGN, _PLAIN, _MARK, _RARE, _CONTROL, _OPENING, _CLOSING = range(11)
_LETTERS = (_LOWER, _UPPER, _ACCENTED, _CAPITAL)


class PageScore(NamedTuple):
    """How well one set explains a sample.

    Parameters
    ----------
    name
        As Python names it.
    score
        From 0 to 1.
    alike
        Other sets that read every byte of the sample in the same way.
    """

    name: str
    score: float
    alike: tuple[str, ...]


def rank_pages(sample: bytes, pages: Sequence[str]) -> list[PageScore]:
    """Order character sets by how well they explain a sample, the best first; of equals, the earlier in ``pages``.

    Examples
    --------
    >>> best = rank_pages("Müller Straße 12, Köln".encode("cp273"), EBCDIC_PAGES)[0]
    >>> best.name, best.score > 0.95, "cp1141" in best.alike
    ('cp273', True, True)
    """
    seen: dict[str, str] = {}
    alike: dict[str, list[str]] = {}
    used = sorted(set(sample))
    for name in pages:
        reading = "".join(code_page(name).characters[byte] for byte in used)
        alike.setdefault(seen.setdefault(reading, name), []).append(name)
    scores = [PageScore(first, _plausibility(sample, first), tuple(names[1:])) for first, names in alike.items()]
    return sorted(scores, key=lambda each: -each.score)


@lru_cache(maxsize=64)
def _kinds(name: str) -> "NDArray[np.uint8]":
    return np.array([_kind(character) for character in code_page(name).characters], dtype=np.uint8)


@lru_cache(maxsize=64)
def _in_place(name: str) -> "NDArray[np.float64]":
    """Say what each character is worth among its kind: letters of western languages a little more."""
    return np.array([0.97 if each in _WESTERN else 0.88 for each in code_page(name).characters])


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category.startswith("L"):
        return _letter(character, category)
    if character.isascii() and (character.isdecimal() or character == " "):
        return _PLAIN
    if character in "[]":
        return _OPENING if character == "[" else _CLOSING
    if character in _COMMON:
        return _MARK
    return _CONTROL if category in ("Cc", "So", "Cn") and character not in "°©®" else _RARE


def _letter(character: str, category: str) -> int:
    if category not in ("Lu", "Ll"):
        return _RARE
    if not unicodedata.name(character).startswith("LATIN"):
        return _FOREIGN
    if character.isascii():
        return _LOWER if category == "Ll" else _UPPER
    return _ACCENTED if category == "Ll" else _CAPITAL


def _plausibility(sample: bytes, name: str) -> float:
    """Mean of what each byte is worth, from 0 to 1."""
    if not sample:
        return 0.0
    data = np.frombuffer(sample, dtype=np.uint8)
    kind, in_place = _kinds(name)[data], _in_place(name)[data]
    before = np.concatenate([[_PLAIN], kind[:-1]])
    behind = np.concatenate([kind[1:], [_PLAIN]])
    worth = np.array([1.0, 1.0, 0.2, 0.2, 0.1, 1.0, 0.9, 0.3, 0.0, 0.3, 0.3])[kind]
    lower = np.isin(before, (_LOWER, _ACCENTED)) | np.isin(behind, (_LOWER, _ACCENTED))
    upper = np.isin(before, (_UPPER, _CAPITAL)) | np.isin(behind, (_UPPER, _CAPITAL))
    first = ~np.isin(before, _LETTERS)
    small = lower | np.isin(before, (_UPPER, _CAPITAL))
    large = upper | (first & np.isin(behind, (_LOWER, _ACCENTED)))
    latin = np.isin(before, _LETTERS) | np.isin(behind, _LETTERS)
    own = ~latin & ((before == _FOREIGN) | (behind == _FOREIGN))
    inside = np.isin(before, _LETTERS) & np.isin(behind, _LETTERS)
    for where, value in (
        ((kind == _ACCENTED) & small, in_place),
        ((kind == _ACCENTED) & upper & ~lower, 0.4),
        ((kind == _CAPITAL) & large, in_place),
        ((kind == _FOREIGN) & own, in_place),
        ((kind >= _RARE) & inside, 0.05),
        ((kind == _OPENING) & first & (behind < _MARK), 0.9),
        ((kind == _CLOSING) & ~np.isin(behind, _LETTERS) & (before < _MARK), 0.9),
    ):
        worth = np.where(where, value, worth)
    return float(worth.mean())
