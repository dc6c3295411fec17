"""One-byte character sets, EBCDIC and others: whole columns of fixed width to text and back."""

import codecs
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import ebcdic  # noqa: F401 (registers the code pages that Python lacks, such as cp1047)
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CodePage", "code_page"]

_BYTES = 256
_SHIFTS = "\x0e\x0f"
"""Shift-out and shift-in, between which EBCDIC has characters of two bytes: no one-byte set can read those."""


@dataclass(frozen=True, eq=False)
class CodePage:
    """A character set with one byte a character.

    Parameters
    ----------
    name
        As Python names it.
    characters
        The character of each byte, 256 in all; U+FFFD where the set has none.
    utf8_length
        Bytes that each character takes in UTF-8, shape ``(256,)``.
    undefined
        Bytes that cannot stand in a text, shape ``(256,)``: those without a character, NUL,
        and of EBCDIC the shifts to characters of two bytes and back.
    """

    name: str
    characters: str
    utf8_length: "NDArray[np.int32]"
    undefined: "NDArray[np.bool_]"

    @property
    def is_ebcdic(self) -> bool:
        """Whether digits lie at 0xF0, as on a mainframe, and not at 0x30."""
        return self.characters[0xF0] == "0"

    @property
    def has_ascii(self) -> bool:
        """Whether the first 128 characters are those of ASCII."""
        return self.characters[:128] == bytes(range(128)).decode()

    @property
    def space(self) -> int:
        """The byte of a blank."""
        return self.characters.index(" ")

    def decode(self, block: "NDArray[np.uint8]") -> tuple[pa.StringArray, "NDArray[np.bool_]"]:
        """Decode texts of equal width; blanks at the end are padding and fall away.

        Parameters
        ----------
        block
            Bytes, shape ``(rows, width)``.

        Returns
        -------
        tuple
            The texts, and the rows that hold a byte that cannot stand in a text.
        """
        text = codecs.charmap_decode(block.tobytes(), "strict", self.characters)[0].encode()
        offsets = np.zeros(len(block) + 1, dtype=np.int32)
        if len(text) == block.size:
            offsets[1:] = np.arange(1, len(block) + 1, dtype=np.int32) * block.shape[1]
        else:
            np.cumsum(self.utf8_length[block].sum(axis=1), out=offsets[1:])
        texts = pa.StringArray.from_buffers(len(block), pa.py_buffer(offsets), pa.py_buffer(text))
        bad = np.zeros(len(block), dtype=bool)
        if _contains_any(block, self.undefined):
            np.any(self.undefined[block], axis=1, out=bad)
        return pc.utf8_rtrim(texts, " "), bad

    def encode(self, text: str) -> bytes:
        """Encode one text.

        Raises
        ------
        UnicodeEncodeError
            When the set lacks a character.
        """
        encoded = text.encode(self.name)
        if any(self.undefined[byte] for byte in encoded):
            raise UnicodeEncodeError(self.name, text, 0, len(text), "a character that cannot stand in a text")
        return encoded


def _contains_any(block: "NDArray[np.uint8]", marked: "NDArray[np.bool_]") -> bool:
    """Whether one of the marked bytes occurs, found by counting, without a mask of the block's size."""
    data = block.tobytes()
    return any(data.find(bytes([byte])) >= 0 for byte in np.flatnonzero(marked))


@lru_cache(maxsize=64)
def code_page(name: str) -> CodePage:
    """Find a character set with one byte a character.

    Raises
    ------
    DeclarationError
        When there is none of that name, or when its characters take several bytes.

    Examples
    --------
    >>> code_page("cp1047").is_ebcdic, code_page("latin-1").is_ebcdic
    (True, False)
    """
    characters = _single_characters(name)
    if characters is None:
        raise DeclarationError(
            expected="a character set with one byte a character",
            got=repr(name),
            next_step="Name it as Python does, such as cp037, cp273, cp500, cp1047, cp1140, latin-1 or ascii.",
        )
    lengths = np.array([len(each.encode()) for each in characters], dtype=np.int32)
    barred = "\ufffd\x00" + (_SHIFTS if characters[0xF0] == "0" else "")
    undefined = np.array([each in barred for each in characters])
    return CodePage(name, "".join(characters), lengths, undefined)


def _single_characters(name: str) -> list[str] | None:
    """Give the character of each byte, or None when the set has none of its own or takes several bytes for some."""
    try:
        decode = codecs.lookup(name).decode
        characters = [decode(bytes([byte]), "replace")[0] for byte in range(_BYTES)]
        leads = [byte for byte in range(_BYTES) if characters[byte] == "\ufffd"]
        pairs = (decode(bytes([lead, byte]), "replace")[0] for lead in leads for byte in range(_BYTES))
        several = any(len(pair) == 1 for pair in pairs)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    whole = all(isinstance(each, str) and len(each) == 1 for each in characters)
    return None if several or not whole or " " not in characters else characters
