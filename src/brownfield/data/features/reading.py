"""Reading one mapping of a features file: typed values, and errors that say where and what instead."""

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import numpy as np

from brownfield.errors import DeclarationError

__all__ = ["REQUIRED", "Place", "Reader", "Where", "nearest"]

Where: TypeAlias = Callable[[Sequence[str | int]], str]

REQUIRED: Final = object()
"""Default of a key that must be there."""


class Place:
    """A place in the features file, for errors found later (at learning, for instance).

    Parameters
    ----------
    path
        Keys and positions from the root of the document.
    where
        Gives ``file:line`` of a path; ``None`` when the document came from no file.
    """

    def __init__(self, path: Sequence[str | int], where: Where | None = None) -> None:
        self.path = tuple(path)
        self._where = where

    def under(self, *keys: str | int) -> "Place":
        """Return a place below this one."""
        return Place((*self.path, *keys), self._where)

    def error(
        self, what: str = "", *, expected: str | None = None, got: str | None = None, next_step: str | None = None
    ) -> DeclarationError:
        """Return the error that names this place."""
        where = None if self._where is None else self._where(self.path)
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path).lstrip(".")
        return DeclarationError(what, where=where, path=path or None, expected=expected, got=got, next_step=next_step)


class Reader:
    """One mapping, read key by key; :meth:`finish` refuses what was not read.

    Parameters
    ----------
    data
        The value found in the document; refused unless it is a mapping.
    place
        Where it stands.
    """

    def __init__(self, data: Any, place: Place) -> None:
        if not isinstance(data, Mapping):
            raise place.error(expected="a mapping", got=_kind(data))
        self.place = place
        self._data = data
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def value(self, key: str, default: Any = REQUIRED) -> Any:
        """Return any value."""
        self._known.append(key)
        if key in self._data:
            return self._data[key]
        if default is REQUIRED:
            raise self.place.error(expected=f"the key {key!r}", got=f"{', '.join(map(str, self._data)) or 'none'}")
        return default

    def text(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a text that is not empty."""
        return self._checked(key, default, lambda value: isinstance(value, str) and value != "", "a text")

    def choice(self, key: str, choices: Collection[str], default: Any = REQUIRED) -> Any:
        """Return one of the named words."""
        value = self.value(key, default)
        if value not in choices:
            raise self.place.under(key).error(
                expected=f"one of {', '.join(choices)}", got=_kind(value), next_step=nearest(value, choices)
            )
        return value

    def flag(self, key: str, default: Any = REQUIRED) -> Any:
        """Return ``true`` or ``false``."""
        return self._checked(key, default, lambda value: isinstance(value, bool), "true or false")

    def integer(self, key: str, default: Any = REQUIRED, *, minimum: int | None = None) -> Any:
        """Return an integer, at least ``minimum``."""
        expected = "an integer" if minimum is None else f"an integer of at least {minimum}"
        return self._checked(key, default, lambda value: _is_integer(value, minimum), expected)

    def number(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a finite number."""
        return self._checked(key, default, _is_number, "a finite number")

    def items(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a list that is not empty."""
        return self._checked(key, default, lambda value: isinstance(value, list) and value != [], "a list")

    def finish(self) -> None:
        """Refuse keys that nobody asked for, naming the nearest known one."""
        for key in self._data:
            if key not in self._known:
                raise self.place.under(key).error(
                    "unknown key",
                    expected=f"one of {', '.join(sorted(self._known))}",
                    next_step=nearest(key, self._known),
                )

    def _checked(self, key: str, default: Any, right: Callable[[Any], bool], expected: str) -> Any:
        value = self.value(key, default)
        if key in self._data and not right(value):
            raise self.place.under(key).error(expected=expected, got=_kind(value))
        return value


def nearest(name: Any, names: Collection[str]) -> str | None:
    """Return the sentence that suggests the nearest name, or ``None``.

    Examples
    --------
    >>> nearest("vocabluary", ["vocabulary", "field"])
    "Did you mean 'vocabulary'?"
    """
    found = get_close_matches(str(name), list(names), n=1)
    return f"Did you mean {found[0]!r}?" if found else None


def _is_integer(value: Any, minimum: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (minimum is None or value >= minimum)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return repr(value)
