"""Walks a parsed declaration with its place at hand, so that every refusal says file, line, path, expected and got.

In: plain mappings, sequences and scalars as a strict YAML loader gives them. Out: typed values.
Refused: a value of another type, a missing key, and (where asked) an unknown key, with the nearest known one.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brownfield.errors import ContractError

__all__ = ["Node", "Where", "nearest", "path_text", "words"]

Where = Callable[[Sequence[str | int]], str]
"""Gives ``file:line`` of a path inside the document."""

_SHOWN_CHARACTERS = 60


def words(text: str) -> frozenset[str]:
    """Set of the words of a text.

    Examples
    --------
    >>> sorted(words("id name"))
    ['id', 'name']
    """
    return frozenset(text.split())


def nearest(name: str, known: Iterable[str]) -> str:
    """Sentence that names the known word closest to ``name``, or lists what there is.

    Examples
    --------
    >>> nearest("minimun", ["minimum", "maximum"])
    "Did you mean 'minimum'?"
    """
    names = sorted(known)
    return meant(name, names) or (f"Known here: {', '.join(names)}." if names else "Nothing is known here.")


def meant(name: str, known: Iterable[str]) -> str | None:
    """Sentence that names the known word closest to ``name``; None where none is close."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[close[0]]!r}?" if close else None


def path_text(path: Sequence[str | int]) -> str:
    """Path as people write it.

    Examples
    --------
    >>> path_text(["schema", 0, "properties", 2, "enum"])
    'schema[0].properties[2].enum'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a declaration together with its path.

    Parameters
    ----------
    value
        The plain value.
    path
        Keys and indices from the root of the document.
    where
        Gives ``file:line`` of a path; None when the document has no file.

    Examples
    --------
    >>> Node({"name": "till"}).at("name").text()
    'till'
    >>> Node({"name": 3}).at("name").text()
    Traceback (most recent call last):
    brownfield.errors.ContractError: name: expected text, got 3
    """

    value: Any
    path: tuple[str | int, ...] = ()
    where: Where | None = None

    def refuse(
        self, expected: str, *, got: str | None = None, next_step: str | None = None, what: str = ""
    ) -> ContractError:
        """Build the error that says this value is not what was expected."""
        return ContractError(
            what,
            where=self.where(self.path) if self.where else None,
            path=path_text(self.path) or None,
            expected=expected or None,
            got=_shown(self.value) if got is None else got,
            next_step=next_step,
        )

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and self.value.get(key) is not None

    def at(self, key: str) -> "Node":
        """Child under ``key``; a missing one is refused."""
        self.mapping()
        if key not in self:
            raise self.refuse(f"a key {key!r}", got="none")
        return Node(self.value[key], (*self.path, key), self.where)

    def maybe(self, key: str) -> "Node | None":
        """Child under ``key``, or None when it is missing or null."""
        self.mapping()
        return self.at(key) if key in self else None

    def mapping(self) -> Mapping[str, Any]:
        """Value as a mapping with text keys."""
        if not isinstance(self.value, Mapping) or not all(isinstance(key, str) for key in self.value):
            raise self.refuse("a mapping")
        return self.value

    def known(self, keys: Iterable[str], ours: Iterable[str] = ()) -> None:
        """Refuse every key that is not among ``keys``, naming the nearest one, or how one of ``ours`` is written."""
        allowed, of_ours = frozenset(keys), frozenset(ours)
        for key in self.mapping():
            if key not in allowed:
                child = Node(self.value[key], (*self.path, key), self.where)
                written = f"customProperties: [{{property: {key}, value: ..., vendor: brownfield}}]"
                next_step = f"Write {written}." if key in of_ours else nearest(key, allowed)
                raise child.refuse("a known key", got=repr(key), next_step=next_step)

    def items(self) -> "list[Node]":
        """Value as a list of nodes."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str | bytes):
            raise self.refuse("a list")
        return [Node(value, (*self.path, index), self.where) for index, value in enumerate(self.value)]

    def each(self, key: str) -> "list[Node]":
        """List under ``key`` as nodes; none when it is missing."""
        return self.at(key).items() if key in self else []

    def is_set(self, key: str) -> bool:
        """Whether the flag under ``key`` is there and true."""
        return key in self and self.at(key).flag()

    def text(self) -> str:
        """Value as non-empty text without control characters."""
        if not isinstance(self.value, str):
            raise self.refuse("text")
        if not self.value or any(ord(character) < ord(" ") and character not in "\n\t" for character in self.value):
            raise self.refuse("text that is not empty and holds no control characters")
        return self.value

    def flag(self) -> bool:
        """Value as true or false."""
        if not isinstance(self.value, bool):
            raise self.refuse("true or false")
        return self.value

    def count(self) -> int:
        """Value as a whole number, ``>= 0``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self.refuse("a whole number of 0 or more")
        return self.value

    def number(self) -> int | float:
        """Value as a finite number."""
        finite = isinstance(self.value, int | float) and self.value == self.value and abs(self.value) != float("inf")
        if isinstance(self.value, bool) or not finite:
            raise self.refuse("a finite number")
        return self.value  # type: ignore[no-any-return]  # narrowed above

    def word(self, choice: Iterable[str]) -> str:
        """Value as one of the given words."""
        allowed = list(choice)
        if self.value not in allowed:
            step = meant(self.value, allowed) if isinstance(self.value, str) else None
            raise self.refuse(f"one of {', '.join(allowed)}", next_step=step)
        return self.value  # type: ignore[no-any-return]  # one of the words


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
