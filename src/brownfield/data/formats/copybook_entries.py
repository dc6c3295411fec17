"""The entries of a copybook: level, name and clauses, as they stand there, before anything has a place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from brownfield.data.formats.copybook_words import Word, refuse
from brownfield.data.formats.layout import MAX_RECORD_BYTES, Condition, Usage
from brownfield.errors import FormatError

__all__ = ["Entry", "read_condition", "read_entry"]

_LAST_LEVEL, _CONDITION = 49, 88


def _spellings(*words: str) -> tuple[str, ...]:
    return (*words, *(word.replace("COMP", "COMPUTATIONAL") for word in words if word.startswith("COMP")))


_USAGES: dict[str, tuple[Usage, str]] = {
    **dict.fromkeys(("DISPLAY",), ("zoned", "DISPLAY")),
    **dict.fromkeys((*_spellings("COMP", "COMP-4"), "BINARY"), ("binary", "COMP")),
    **dict.fromkeys(_spellings("COMP-5"), ("binary", "COMP-5")),
    **dict.fromkeys((*_spellings("COMP-3"), "PACKED-DECIMAL"), ("packed", "COMP-3")),
    **dict.fromkeys(_spellings("COMP-6"), ("packed", "COMP-6")),
    **dict.fromkeys(_spellings("COMP-1"), ("float", "COMP-1")),
    **dict.fromkeys(_spellings("COMP-2"), ("float", "COMP-2")),
}
_CLAUSES = {
    "PIC", "PICTURE", "USAGE", "SIGN", "LEADING", "TRAILING", "OCCURS", "VALUE", "VALUES", "REDEFINES", "BLANK",
    "SYNC", "SYNCHRONIZED", *_USAGES,
}  # fmt: skip
_NOISE = {"IS", "ARE", "TIMES", "CHARACTER"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What one entry says, with what it inherits from the groups around it."""

    level: int
    name: str
    line: int
    picture: str = ""
    usage: tuple[Usage, str] | None = None
    """How the field is written, and the word for it in a copybook."""
    sign: tuple[bool, bool] | None = None
    """Whether the sign leads, and whether it has a byte of its own."""
    occurs: int | None = None
    depends: tuple[int, str] | None = None
    """Fewest entries, and the name of the counter, of a table of varying length."""
    redefines: str = ""
    blank_when_zero: bool = False
    synchronized: bool = False
    conditions: tuple[Condition, ...] = ()

    @property
    def column(self) -> str:
        """The name, spelt like a column."""
        return self.name.lower().replace("-", "_")


def read_condition(sentence: Sequence[Word], file: str) -> Condition | None:
    """Read a condition (level 88); None for another entry."""
    if sentence[0].text != str(_CONDITION):
        return None
    words = [word.text for word in sentence[1:]]
    if len(words) < 3 or words[1] not in ("VALUE", "VALUES"):  # noqa: PLR2004 (a name, VALUE and a value)
        raise FormatError(where=f"{file}:{sentence[0].line}", expected="a name and VALUE behind level 88", got="other")
    values = [word for word in words[2:] if word not in _NOISE]
    is_range = any(word in ("THRU", "THROUGH") for word in values)
    return Condition(words[0].lower().replace("-", "_"), () if is_range else tuple(values))


def read_entry(sentence: Sequence[Word], file: str) -> Entry:
    """Read one sentence that is no condition.

    Raises
    ------
    FormatError
        For what is malformed or not read; names the line.
    """
    first = sentence[0]
    known = first.text.isdecimal() and (1 <= int(first.text) <= _LAST_LEVEL or int(first.text) in (66, 77))
    if not known:
        raise FormatError(where=f"{file}:{first.line}", expected="a level number", got="another word")
    level = int(first.text)
    if level in (66, 77):
        raise refuse(f"level {level}", first.line, file)
    words = list(sentence[1:])
    name = "FILLER"
    if words and words[0].text not in _CLAUSES:
        name = words.pop(0).text
    return _Clauses(words, file).read(Entry(level, name, first.line))


class _Clauses:
    """The words behind a name, taken one clause after the other."""

    def __init__(self, words: list[Word], file: str) -> None:
        self.words = words
        self.file = file

    def read(self, entry: Entry) -> Entry:
        """Read all clauses into the entry."""
        while self.words:
            word = self.words.pop(0)
            if word.text not in _NOISE:
                entry = self._clause(entry, word)
        return entry

    def _clause(self, entry: Entry, word: Word) -> Entry:
        read = self._readers.get(word.text)
        if read is not None:
            return read(entry, word)
        if word.text in _USAGES:
            return replace(entry, usage=_USAGES[word.text])
        raise refuse(word.text, word.line, self.file)

    @cached_property
    def _readers(self) -> dict[str, Callable[[Entry, Word], Entry]]:
        readers: dict[tuple[str, ...], Callable[[Entry, Word], Entry]] = {
            ("PIC", "PICTURE"): lambda entry, word: replace(entry, picture=self._operand(word)),
            ("USAGE",): lambda entry, word: replace(entry, usage=self._usage(self._operand(word), word.line)),
            ("SIGN", "LEADING", "TRAILING"): lambda entry, word: replace(entry, sign=self._sign(word)),
            ("OCCURS",): self._occurs,
            ("REDEFINES",): lambda entry, word: replace(entry, redefines=self._operand(word)),
            ("VALUE", "VALUES"): self._value,
            ("BLANK",): lambda entry, word: replace(entry, blank_when_zero=self._blank(word)),
            ("SYNC", "SYNCHRONIZED"): lambda entry, _: replace(entry, synchronized=self._synchronized()),
        }
        return {text: read for texts, read in readers.items() for text in texts}

    def _value(self, entry: Entry, clause: Word) -> Entry:
        self._operand(clause)
        return entry

    def _operand(self, clause: Word) -> str:
        while self.words and self.words[0].text in _NOISE:
            self.words.pop(0)
        if not self.words:
            raise FormatError(
                where=f"{self.file}:{clause.line}", expected=f"a word behind {clause.text}", got="the end"
            )
        return self.words.pop(0).text

    def _usage(self, word: str, line: int) -> tuple[Usage, str]:
        if word not in _USAGES:
            raise refuse(f"USAGE {word}", line, self.file)
        return _USAGES[word]

    def _sign(self, clause: Word) -> tuple[bool, bool]:
        side = self._operand(clause) if clause.text == "SIGN" else clause.text
        if side not in ("LEADING", "TRAILING"):
            raise FormatError(where=f"{self.file}:{clause.line}", expected="LEADING or TRAILING", got="another word")
        separate = bool(self.words) and self.words[0].text == "SEPARATE"
        del self.words[: 1 if separate else 0]
        return side == "LEADING", separate

    def _blank(self, clause: Word) -> bool:
        following = [word.text for word in self.words if word.text != "WHEN"][:1]
        if following not in (["ZERO"], ["ZEROS"], ["ZEROES"]):
            raise FormatError(where=f"{self.file}:{clause.line}", expected="BLANK WHEN ZERO", got="another word")
        del self.words[: 2 if self.words[0].text == "WHEN" else 1]
        return True

    def _synchronized(self) -> bool:
        if self.words and self.words[0].text in ("LEFT", "RIGHT"):
            self.words.pop(0)
        return True

    def _occurs(self, entry: Entry, clause: Word) -> Entry:
        where = f"{self.file}:{clause.line}"
        lowest = highest = self._operand(clause)
        if self.words and self.words[0].text == "TO":
            highest = self._operand(self.words.pop(0))
        self._pass_over_keys()
        counter = self._counter(where)
        if lowest != highest and not counter:
            raise FormatError(where=where, expected="DEPENDING ON behind OCCURS n TO m", got="none")
        numbers = lowest.isdecimal() and highest.isdecimal()
        if not numbers or not max(1, int(lowest)) <= int(highest) <= MAX_RECORD_BYTES:
            raise FormatError(where=where, expected="a number behind OCCURS", got="another word")
        if counter and lowest == highest:  # OCCURS n DEPENDING ON counts from 1
            lowest = "1"
        return replace(entry, occurs=int(highest), depends=(int(lowest), counter) if counter else None)

    def _pass_over_keys(self) -> None:
        """Pass over the names behind INDEXED BY, and ASCENDING or DESCENDING KEY, up to the next clause."""
        for start in ("INDEXED", "ASCENDING", "DESCENDING"):
            texts = [word.text for word in self.words]
            if start in texts:
                begin = texts.index(start)
                end = next(
                    (at for at in range(begin + 1, len(texts)) if texts[at] in _CLAUSES | {"DEPENDING", "INDEXED"}),
                    len(texts),
                )
                del self.words[begin:end]

    def _counter(self, where: str) -> str:
        """Take DEPENDING ON from the words, and give the name behind it; empty when there is none."""
        texts = [word.text for word in self.words]
        if "DEPENDING" not in texts:
            return ""
        at = texts.index("DEPENDING")
        taken = texts[at + 1 : at + 3]
        names = [text for text in taken if text != "ON"][:1]
        if not names:
            raise FormatError(where=where, expected="a field behind DEPENDING ON", got="the end")
        del self.words[at : at + 2 + (taken[0] == "ON")]
        return names[0]
