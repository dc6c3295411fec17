"""Strict YAML 1.2 with line numbers.

In: the text of one file. Out: plain dicts, lists and scalars, and the line of every key and item.
Refused: whatever makes two readers of the same file disagree (duplicate keys, tags, directives, merge keys,
numbers in disguise, tabs as indentation, several documents) and whatever makes a small file large (aliases).

Tokens and events come from libyaml; composing and resolving scalars (the YAML 1.2 core schema) is done here,
because libyaml's users resolve YAML 1.1.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml._yaml import CParser

from brownfield.errors import DeclarationError

__all__ = ["MAX_ALIASES", "MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Document", "load_document"]

MAX_BYTES = 4 * 1024 * 1024
"""Longest file that is read, in bytes."""
MAX_DEPTH = 32
"""Deepest nesting of mappings and lists, counted with aliases in place."""
MAX_ALIASES = 20
"""Most uses of anchors in one file."""
MAX_NODES = 200_000
"""Most scalars, lists and mappings in one file, counted with aliases in place."""

_CONSTANTS: Mapping[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BASED = re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+")
_UNDERSCORED = re.compile(r"[-+]?[0-9]+_[0-9_]*(?:\.[0-9_]*)?|[-+]?[0-9]+\.[0-9]*_[0-9_]*")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(?:\.[0-9]*)?")
_NUMBER_START = frozenset("0123456789+-.")
_FORBIDDEN_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_TAB_INDENTATION = re.compile(r"^ *\t", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One YAML file as plain values that know their lines.

    Parameters
    ----------
    data
        The top mapping: dicts, lists, ``str``, ``int``, ``float``, ``bool`` and ``None`` (dates stay text).
        Shared between readers: never changed.
    file
        The name that stands in messages.
    """

    data: dict[str, Any]
    file: str
    _lines: Mapping[int, Mapping[str | int, int]]

    def where(self, path: Sequence[str | int] = ()) -> str:
        r"""Say where a key or item stands.

        Parameters
        ----------
        path
            Keys and indices from the top. Steps that do not exist are left out: a missing key is reported at
            the line of the mapping in which it is missing.

        Returns
        -------
        str
            ``file:line``, lines from 1.

        Examples
        --------
        >>> document = load_document("name: x\nsteps:\n  - a\n  - b\n", "rollout.yaml")
        >>> document.where(["steps", 1])
        'rollout.yaml:4'
        """
        node: Any = self.data
        line = 1
        for step in path:
            lines = self._lines.get(id(node))
            if lines is None or step not in lines:
                break
            line = lines[step]
            node = node[step]
        return f"{self.file}:{line}"


def load_document(text: str | bytes, file: str) -> Document:
    r"""Read one strict YAML document whose top is a mapping.

    Parameters
    ----------
    text
        Content of the file; bytes must be UTF-8 without a byte order mark.
    file
        The name that stands in messages.

    Returns
    -------
    Document
        The values and their lines.

    Raises
    ------
    DeclarationError
        For anything that is not plain YAML 1.2: see the module.

    Examples
    --------
    >>> load_document("deadline_ms: 50\nanswer: no\nsince: 2026-11-21\n", "x.yaml").data
    {'deadline_ms': 50, 'answer': 'no', 'since': '2026-11-21'}
    >>> load_document("limit: 1_000\n", "x.yaml")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    brownfield.errors.DeclarationError: x.yaml:1: expected a plain decimal number, got 1_000. Write it without ...
    """
    plain = _decode(text, file)
    composer = _Composer(plain, file)
    try:
        data = composer.document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, plain, file) from error
    return Document(data, file, composer.lines)


def _decode(text: str | bytes, file: str) -> str:
    if len(text) > MAX_BYTES:
        raise DeclarationError(where=f"{file}:1", expected=f"at most {MAX_BYTES} bytes", got=f"{len(text)}")
    if isinstance(text, bytes):
        try:
            plain = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise DeclarationError(
                where=f"{file}:{line}",
                expected="UTF-8",
                got=f"a byte that is not, at offset {error.start}",
                next_step="Save the file as UTF-8.",
            ) from error
    else:
        plain = text
    if found := _FORBIDDEN_CHARACTER.search(plain):
        character = ord(found.group())
        raise DeclarationError(
            where=f"{file}:{plain.count(chr(10), 0, found.start()) + 1}",
            expected="printable text",
            got="a byte order mark" if character == 0xFEFF else f"the character U+{character:04X}",  # noqa: PLR2004 (the mark itself)
            next_step="Remove it; inside a quoted text write it as an escape.",
        )
    if found := _TAB_INDENTATION.search(plain):
        raise DeclarationError(
            where=f"{file}:{plain.count(chr(10), 0, found.start()) + 1}",
            expected="spaces as indentation",
            got="a tab",
            next_step="Replace tabs by spaces.",
        )
    return plain


def _syntax_error(error: yaml.MarkedYAMLError, text: str, file: str) -> DeclarationError:
    last = len(text.rstrip().splitlines())
    line = last if error.problem_mark is None else min(error.problem_mark.line + 1, last)
    begun = f" {error.context} that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
    problem = str(error.problem)
    return DeclarationError(
        f"not valid YAML: {problem}{begun}", where=f"{file}:{line}", next_step=_syntax_hint(problem)
    )


def _syntax_hint(problem: str) -> str:
    if "cannot start any token" in problem:
        return "Quote a text that begins with one of @ ` % or a tab."
    if "mapping values are not allowed" in problem:
        return "Check the indentation, and quote a text that holds a colon and a space."
    return "Check brackets, quotes and indentation on this line and the one above."


class _Composer:
    """Builds plain values from libyaml's events."""

    def __init__(self, text: str, file: str) -> None:
        self._parser: Any = CParser(text)
        self._file = file
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()
        self._aliases = 0
        self._nodes = 0
        self.lines: dict[int, dict[str | int, int]] = {}

    def document(self) -> dict[str, Any]:
        parser = self._parser
        parser.get_event()
        start = parser.get_event()
        if isinstance(start, yaml.StreamEndEvent):
            raise DeclarationError(where=f"{self._file}:1", expected="a mapping of keys", got="an empty file")
        if start.version or start.tags:
            raise self._refused(start, "no directives", "a % line", "Remove it: every file is read as YAML 1.2.")
        first = parser.get_event()
        data = self._node(first, 1)
        if not isinstance(data, dict):
            raise self._refused(first, "a mapping of keys", f"a {'list' if isinstance(data, list) else 'single value'}")
        parser.get_event()
        end = parser.get_event()
        if not isinstance(end, yaml.StreamEndEvent):
            raise self._refused(end, "one document", "a second one", "Put it into a file of its own.")
        if self._aliases:
            self._check_expansion(data)
        return data

    def _node(self, event: Any, depth: int) -> Any:
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refused(event, f"at most {MAX_NODES} values", "more")
        if event.tag is not None:
            raise self._refused(event, "no tags", f"the tag {event.tag}", "Remove it: types follow from the key.")
        if kind is yaml.ScalarEvent:
            value = event.value if event.implicit[1] else self._plain(event)
            if event.anchor is not None:
                self._define(event, value)
            return value
        if depth > MAX_DEPTH:
            raise self._refused(event, f"at most {MAX_DEPTH} levels", "more")
        if event.anchor is not None:
            self._open.add(event.anchor)
        value = self._mapping(depth) if kind is yaml.MappingStartEvent else self._sequence(depth)
        if event.anchor is not None:
            self._define(event, value)
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        lines: dict[str | int, int] = {}
        self.lines[id(result)] = lines
        while True:
            event = self._parser.get_event()
            if type(event) is yaml.MappingEndEvent:
                return result
            line = event.start_mark.line + 1
            key = self._key(event)
            if key in result:
                raise DeclarationError(
                    where=f"{self._file}:{line}",
                    expected="every key once",
                    got=f"{key!r} again (first on line {lines[key]})",
                    next_step="Remove one of the two.",
                )
            lines[key] = line
            result[key] = self._node(self._parser.get_event(), depth + 1)

    def _sequence(self, depth: int) -> list[Any]:
        result: list[Any] = []
        lines: dict[str | int, int] = {}
        self.lines[id(result)] = lines
        while True:
            event = self._parser.get_event()
            if type(event) is yaml.SequenceEndEvent:
                return result
            lines[len(result)] = event.start_mark.line + 1
            result.append(self._node(event, depth + 1))

    def _key(self, event: Any) -> str:
        if type(event) is not yaml.ScalarEvent or event.anchor is not None:
            raise self._refused(event, "a plain text as key", "a list, a mapping, an anchor or an alias")
        key = self._node(event, 1)
        if not isinstance(key, str):
            raise self._refused(event, "a text as key", event.value or "nothing", "Quote it if it is meant as text.")
        if key == "<<" and not event.implicit[1]:
            raise self._refused(event, "no merge keys", "<<", "Write the keys out.")
        return key

    def _alias(self, event: Any) -> Any:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise self._refused(event, f"at most {MAX_ALIASES} aliases", "more", "Write the values out.")
        if event.anchor not in self._anchors:
            problem = "an alias to what holds it" if event.anchor in self._open else "an alias to nothing above it"
            raise self._refused(event, "an alias to an anchor above", problem)
        return self._anchors[event.anchor]

    def _define(self, event: Any, value: Any) -> None:
        if event.anchor in self._anchors:
            raise self._refused(event, "every anchor once", f"&{event.anchor} again")
        self._anchors[event.anchor] = value

    def _plain(self, event: Any) -> Any:
        value: str = event.value
        if value in _CONSTANTS:
            return _CONSTANTS[value]
        if value[0] not in _NUMBER_START:
            return value
        if _INTEGER.fullmatch(value):
            if len(value) > len("-9223372036854775808") or not -(2**63) <= int(value) < 2**63:
                raise self._refused(event, "an integer of 64 bits", f"{len(value)} digits", "Quote it if it is text.")
            return int(value)
        if _FLOAT.fullmatch(value):
            number = float(value)
            if math.isinf(number):
                raise self._refused(event, "a number that a double can hold", value[:40])
            return number
        for pattern, expected, next_step in (
            (_NOT_FINITE, "a finite number", "Leave the key out where there is no bound."),
            (_BASED, "a plain decimal number", "Write it in decimal, or quote it if it is text."),
            (_UNDERSCORED, "a plain decimal number", "Write it without underscores, or quote it if it is text."),
            (_LEADING_ZERO, "a number without leading zeros", "Remove the zeros, or quote it if it is text."),
        ):
            if pattern.fullmatch(value):
                raise self._refused(event, expected, value[:40], next_step)
        return value

    def _check_expansion(self, data: Any) -> None:
        """Walk the document as readers will, aliases in place, and refuse what has grown too large or too deep."""
        nodes = 0
        level = [data]
        for depth in range(MAX_DEPTH + 1):
            nodes += len(level)
            if nodes > MAX_NODES:
                raise DeclarationError(
                    where=f"{self._file}:1", expected=f"at most {MAX_NODES} values", got="more, by aliases"
                )
            level = [
                child
                for node in level
                if isinstance(node, dict | list)
                for child in (node.values() if isinstance(node, dict) else node)
            ]
            if not level:
                return
            del depth
        raise DeclarationError(where=f"{self._file}:1", expected=f"at most {MAX_DEPTH} levels", got="more, by aliases")

    def _refused(self, event: Any, expected: str, got: str, next_step: str | None = None) -> DeclarationError:
        where = f"{self._file}:{event.start_mark.line + 1}"
        return DeclarationError(where=where, expected=expected, got=got, next_step=next_step)
