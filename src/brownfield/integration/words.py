"""How messages speak of a declaration: paths, what was found, what was expected, the nearest name."""

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

__all__ = [
    "KeyPath",
    "branches",
    "describe",
    "dotted",
    "expected",
    "fields_of",
    "help_of",
    "holds_secret",
    "key_names",
    "listed",
    "looks_secret",
    "nearest",
    "show",
    "unit_hint",
]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the top of a document."""

_SHOWN_CHARACTERS = 60
_SECRET_KEY = re.compile(
    r"(?:^|[_-])(?:password|passwd|pwd|passphrase|secret|token|api_?key|private_?key|credentials?)$", re.IGNORECASE
)
_WRITTEN_SECRET = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]*:[^/?#\s@]*@|-----BEGIN [A-Z ]*PRIVATE KEY-----", re.ASCII
)
_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "h": "hours",
    "d": "days",
    "mib": "mebibytes",
    "percent": "percent",
    "per_s": "events per second",
    "per_month": "events per month",
    "cores": "processor cores",
}
_UNIT = re.compile(rf"_({'|'.join(sorted(_UNITS, key=len, reverse=True))})$")


def dotted(path: KeyPath) -> str:
    """Write a path as people read it.

    Examples
    --------
    >>> dotted(("rollout", "steps", 2, "setWeight"))
    'rollout.steps[2].setWeight'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in path).lstrip(".")


def show(text: str) -> str:
    """Return a declared text for a message: short, quoted unless it is a plain word, without control characters.

    Examples
    --------
    >>> show("orders"), show("two words"), len(show("x" * 1000))
    ('orders', "'two words'", 60)
    """
    printable = _printable(text)
    return printable if re.fullmatch(r"[\w./@-]+", printable) else f"'{printable}'"


def _printable(text: str) -> str:
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def listed(names: Iterable[Any]) -> str:
    """Join names for a message."""
    return ", ".join(str(name) for name in names)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the sentence that suggests the closest known name, if one is close.

    Examples
    --------
    >>> nearest("falback", ["features", "fallback"])
    'Did you mean fallback?'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else None


def looks_secret(key: str) -> bool:
    """Tell whether a key is named like one that holds a secret.

    Examples
    --------
    >>> looks_secret("db_password"), looks_secret("tokens")
    (True, False)
    """
    return _SECRET_KEY.search(key) is not None


def holds_secret(text: str) -> bool:
    """Tell whether a text carries a secret: a password in a URL, or a private key.

    Examples
    --------
    >>> holds_secret("postgresql://till:geheim@db/pos"), holds_secret("http://db:80/@x")
    (True, False)
    """
    return _WRITTEN_SECRET.search(text) is not None


def describe(value: Any) -> str:
    """Say what was found, in YAML's words.

    Examples
    --------
    >>> [describe(v) for v in (None, True, 5, "10 s", [], {1: 2})]
    ['nothing', 'true', '5', "the text '10 s'", 'a list of 0', 'a mapping']
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return "a text with a secret in it" if holds_secret(value) else f"the text {show(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else "a mapping"


def expected(kind: inspect.Type) -> str:  # noqa: PLR0911 (one return for each kind of type)
    """Say what a declared type takes, in plain words."""
    if isinstance(kind, inspect.Metadata):
        words = (kind.extra or {}).get("words")
        return words if isinstance(words, str) else expected(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(expected(branch) for branch in branches(kind))
    if isinstance(kind, inspect.LiteralType):
        return f"one of {listed(kind.values)}" if len(kind.values) > 1 else str(kind.values[0])
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _bounds(kind)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.StrType):
        return "a text" + (f" of 1 to {kind.max_length} characters" if kind.max_length else "")
    if isinstance(kind, inspect.StructType):
        return f"a mapping with the keys {listed(key_names(kind.cls))}"
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.DictType):
        word = "a mapping" if isinstance(kind, inspect.DictType) else "a list"
        bounds = [f"at least {kind.min_length}"] if kind.min_length else []
        bounds += [f"at most {kind.max_length}"] if kind.max_length else []
        return f"{word} of {' and '.join(bounds)}" if bounds else word
    return "any value"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"[{kind.ge}" if kind.ge is not None else f"({kind.gt}" if kind.gt is not None else None
    high = f"{kind.le}]" if kind.le is not None else f"{kind.lt})" if kind.lt is not None else None
    if low and high:
        return f" in {low}, {high}"
    if low:
        return f" of at least {kind.ge}" if kind.ge is not None else f" above {kind.gt}"
    if high:
        return f" of at most {kind.le}" if kind.le is not None else f" below {kind.lt}"
    return ""


def unit_hint(key: str) -> str | None:
    """Return the sentence that says which unit a key has in its name.

    Examples
    --------
    >>> unit_hint("deadline_ms")
    'The unit stands in the key: write a plain number of milliseconds.'
    """
    unit = _UNIT.search(key)
    return None if unit is None else f"The unit stands in the key: write a plain number of {_UNITS[unit.group(1)]}."


@lru_cache(maxsize=256)
def fields_of(spec: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """Return the fields of a spec by the names under which they are declared."""
    info = inspect.type_info(spec)
    assert isinstance(info, inspect.StructType)  # noqa: S101 (narrows the type)
    return {field.encode_name: field for field in info.fields}


def key_names(spec: type[msgspec.Struct]) -> tuple[str, ...]:
    """List the keys of a spec as they are declared."""
    return tuple(fields_of(spec))


def help_of(kind: inspect.Type) -> str | None:
    """Return the sentence of help that stands beside a key."""
    if isinstance(kind, inspect.UnionType):
        return next((text for option in kind.types if (text := help_of(option))), None)
    if isinstance(kind, inspect.Metadata):
        text = (kind.extra_json_schema or {}).get("description")
        return text if isinstance(text, str) else help_of(kind.type)
    return None


def branches(kind: inspect.Type) -> list[inspect.Type]:
    """Flatten a union; ``None`` is no branch, for a key is left out and never left empty."""
    if isinstance(kind, inspect.UnionType):
        return [branch for option in kind.types for branch in branches(option)]
    if isinstance(kind, inspect.Metadata) and isinstance(kind.type, inspect.UnionType):
        return branches(kind.type)
    return [] if isinstance(kind, inspect.NoneType) else [kind]
