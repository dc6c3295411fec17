"""What a character set must do for fields of a fixed number of bytes, and UTF-8 as one."""

from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Characters", "Utf8"]


class Characters(Protocol):
    """A character set; :class:`~brownfield.data.formats.code_page.CodePage` and :class:`Utf8`."""

    @property
    def space(self) -> int:
        """The byte of a blank."""
        ...

    def decode(self, block: "NDArray[np.uint8]") -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        """Decode texts of equal width, without the blanks at their end; tell which are bad."""
        ...

    def encode(self, text: str) -> bytes:
        """Encode one text."""
        ...


class Utf8:
    """UTF-8 in fields of a fixed number of bytes; a character cut by the field's end makes the text bad."""

    space = 0x20

    def decode(self, block: "NDArray[np.uint8]") -> "tuple[pa.StringArray, NDArray[np.bool_]]":
        """Decode texts of equal width, without the blanks at their end; tell which are bad."""
        texts: list[str | None] = []
        for row in block:
            try:
                text = row.tobytes().decode()
            except UnicodeDecodeError:
                texts.append(None)
            else:
                texts.append(None if "\0" in text else text.rstrip(" "))
        array = pa.array(texts, pa.string())
        return array, pc.is_null(array).to_numpy(zero_copy_only=False)

    def encode(self, text: str) -> bytes:
        """Encode one text."""
        if "\0" in text:
            raise UnicodeEncodeError("utf-8", text, 0, len(text), "a character that cannot stand in a text")
        return text.encode()
