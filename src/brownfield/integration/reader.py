"""Plain values of a document into frozen specs.

In: a document and the struct that describes it. Out: the struct, complete and checked, or every problem at once.
Refused: unknown keys (with the nearest known one), wrong types, values out of bounds, contradictions between keys.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from brownfield.integration.registry import PluginKind, Registry
    from brownfield.integration.strict_yaml import Document

__all__ = [
    "BAD",
    "Contradiction",
    "DeclarationErrors",
    "Path",
    "Reader",
    "Spec",
    "dotted",
    "each_error",
    "nearest",
    "show",
]

Path = tuple[str | int, ...]
"""Keys and indices from the top of a document."""

BAD: Any = object()
"""Stands for a value that could not be read; its problem is noted with the reader."""

SpecType = TypeVar("SpecType", bound="Spec")

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:password|passwd|pwd|passphrase|secret|token|api_?key|private_?key|credentials?)$", re.I
)
_UNIT = re.compile(r"_(ms|s|h|d|mib|kib|percent|per_s|per_month|cores)$")
_UNIT_WORDS = {
    "ms": "milliseconds", "s": "seconds", "h": "hours", "d": "days", "mib": "mebibytes", "kib": "kibibytes",
    "percent": "percent", "per_s": "events per second", "per_month": "events per month", "cores": "processor cores",
}  # fmt: skip


class DeclarationErrors(DeclarationError):
    """Several things are wrong with a declaration; each is a :class:`~brownfield.errors.DeclarationError`.

    Parameters
    ----------
    errors
        Two or more, in the order of the file.
    """

    def __init__(self, errors: Sequence[DeclarationError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def each_error(error: DeclarationError) -> tuple[DeclarationError, ...]:
    """List the single problems in an error, whether it carries one or many.

    Examples
    --------
    >>> len(each_error(DeclarationErrors([DeclarationError("a"), DeclarationError("b")])))
    2
    """
    return error.errors if isinstance(error, DeclarationErrors) else (error,)


class Contradiction(NamedTuple):
    """Two keys of one spec that cannot both hold.

    Parameters
    ----------
    path
        From the spec that tells it to the key at fault.
    expected, got, next_step
        As in every error.
    """

    path: Path
    expected: str
    got: str
    next_step: str | None = None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all declared structs: frozen, closed, and able to say what contradicts what."""

    def contradictions(self) -> Iterator[Contradiction]:
        """Tell which keys contradict each other; none by default."""
        yield from ()

    @classmethod
    def from_declared(cls: type[SpecType], reader: "Reader", value: Any, path: Path) -> SpecType:
        """Read the spec; overridden where the keys depend on what is installed.

        Returns
        -------
        Spec
            Or :data:`BAD` when something is wrong, after noting it with the reader.
        """
        return reader.struct(cls, value, path)  # type: ignore[no-any-return]  # BAD or the struct


class Reader:
    """Reads specs from one document and collects what is wrong with it.

    Parameters
    ----------
    document
        Where the values come from.
    registry
        The plug-ins that are installed.
    """

    def __init__(self, document: "Document", registry: "Registry") -> None:
        self.document = document
        self.registry = registry
        self.problems: list[DeclarationError] = []

    def read(self, spec: type[SpecType]) -> SpecType:
        """Read the whole document as one spec.

        Raises
        ------
        DeclarationError
            With everything that is wrong; see :func:`each_error`.
        """
        result = spec.from_declared(self, self.document.data, ())
        self.raise_problems()
        return result

    def raise_problems(self) -> None:
        """Raise what was noted so far, if anything."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise DeclarationErrors(self.problems)

    def note(
        self, path: Path, expected: str | None, got: str | None, next_step: str | None = None, *, what: str = ""
    ) -> Any:
        """Note one problem and return :data:`BAD`."""
        self.problems.append(
            DeclarationError(
                what,
                where=self.document.where(path),
                path=dotted(path) or None,
                expected=expected,
                got=got,
                next_step=next_step,
            )
        )
        return BAD

    def struct(self, spec: type[SpecType], value: Any, path: Path) -> Any:
        """Read a mapping whose keys are the fields of ``spec``."""
        if not isinstance(value, dict):
            return self.note(path, f"a mapping with the keys {_listed(key_names(spec))}", describe(value))
        known = _fields(spec)
        self.unknown_keys([key for key in value if key not in known], known, path)
        arguments: dict[str, Any] = {}
        complete = len(value.keys() - known.keys()) == 0
        for key, field in known.items():
            if key not in value:
                if field.required:
                    self.note(path, f"the key {key}", "no such key", field_help(spec, key))
                    complete = False
                continue
            found = self.value(field.type, value[key], (*path, key))
            if found is BAD:
                complete = False
            arguments[field.name] = found
        if not complete:
            return BAD
        return self.checked(spec(**arguments), path)

    def checked(self, spec: SpecType, path: Path) -> Any:
        """Return the spec, or :data:`BAD` after noting its contradictions."""
        contradictions = list(spec.contradictions())
        for found in contradictions:
            self.note((*path, *found.path), found.expected, found.got, found.next_step)
        return BAD if contradictions else spec

    def unknown_keys(self, unknown: Sequence[str], known: Mapping[str, Any], path: Path) -> None:
        """Note each unknown key with the nearest known one."""
        for key in unknown:
            if _SECRET_KEY.search(key):
                next_step: str | None = (
                    "Secrets are never written here: name one where a key takes it, as {env: NAME} or {file: PATH}."
                )
            elif ":" in key:
                next_step = "A space is missing after the colon."
            else:
                next_step = nearest(key, known)
            self.note(
                (*path, key),
                f"one of the keys {_listed(known)}" if known else "no keys",
                f"the unknown key {show(key)}",
                next_step,
            )

    def installed(self, kind: "PluginKind", name: Any, path: Path) -> Any:
        """Return the options class of an installed plug-in, or :data:`BAD` after noting which there are."""
        known: Mapping[str, type[Spec]] = getattr(self.registry, kind)
        if isinstance(name, str) and name in known:
            return known[name]
        got = "no such key" if name is None else describe(name)
        next_step = nearest(str(name), known) or "Others come with later releases or with plug-ins."
        return self.note(path, f"one of the installed {kind} ({_listed(sorted(known))})", got, next_step)

    def value(self, kind: inspect.Type, value: Any, path: Path) -> Any:  # noqa: PLR0911 (one return for each kind of type)
        """Read one value of a declared type."""
        if isinstance(kind, inspect.Metadata):
            return self.value(kind.type, value, path)
        if isinstance(kind, inspect.AnyType):
            return value
        if isinstance(kind, inspect.UnionType):
            chosen = _choose(kind, value)
            return self._wrong(kind, value, path) if chosen is None else self.value(chosen, value, path)
        if isinstance(kind, inspect.StructType):
            return kind.cls.from_declared(self, value, path)
        if isinstance(kind, inspect.ListType | inspect.VarTupleType):
            return self._items(kind, value, path)
        if isinstance(kind, inspect.DictType):
            return self._mapping(kind, value, path)
        if _fits(kind, value):
            return float(value) if isinstance(kind, inspect.FloatType) else value
        return self._wrong(kind, value, path)

    def _items(self, kind: inspect.ListType | inspect.VarTupleType, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or not _length_fits(kind, value):
            return self._wrong(kind, value, path)
        items = [self.value(kind.item_type, item, (*path, index)) for index, item in enumerate(value)]
        return BAD if any(item is BAD for item in items) else tuple(items)

    def _mapping(self, kind: inspect.DictType, value: Any, path: Path) -> Any:
        if not isinstance(value, dict) or not _length_fits(kind, value):
            return self._wrong(kind, value, path)
        good = True
        result = {}
        for key, item in value.items():
            if self.value(kind.key_type, key, (*path, key)) is BAD:
                good = False
            result[key] = self.value(kind.value_type, item, (*path, key))
        return result if good and all(item is not BAD for item in result.values()) else BAD

    def _wrong(self, kind: inspect.Type, value: Any, path: Path) -> Any:
        return self.note(path, expected(kind), describe(value), _hint(kind, value, path))


def dotted(path: Path) -> str:
    """Write a path as people read it.

    Examples
    --------
    >>> dotted(("rollout", "steps", 2, "setWeight"))
    'rollout.steps[2].setWeight'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{show(step, quoted=False)}" for step in path).lstrip(
        "."
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the sentence that suggests the closest known name, if one is close.

    Examples
    --------
    >>> nearest("falback", ["features", "fallback"])
    'Did you mean fallback?'
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else None


def show(text: str, *, quoted: bool = True) -> str:
    """Return a declared text for a message: short, and without characters that play with a terminal."""
    short = text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 (a line of a terminal)
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
    return repr(escaped) if quoted and escaped == short and not re.fullmatch(r"[\w./@-]+", short) else escaped


def describe(value: Any) -> str:
    """Say what was found, in YAML's words.

    Examples
    --------
    >>> [describe(v) for v in (None, True, 5, "10 s", [], {})]
    ['nothing', 'true', '5', "the text '10 s'", 'a list', 'a mapping']
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f"the text {show(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def expected(kind: inspect.Type) -> str:
    """Say what a declared type takes, in plain words."""
    if isinstance(kind, inspect.Metadata):
        words = (kind.extra or {}).get("words")
        return words if isinstance(words, str) else expected(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(expected(branch) for branch in _branches(kind))
    if isinstance(kind, inspect.LiteralType):
        return f"one of {_listed(kind.values)}" if len(kind.values) > 1 else str(kind.values[0])
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _bounds(kind)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.StrType):
        return "a text" + (f" of at most {kind.max_length} characters" if kind.max_length else "")
    if isinstance(kind, inspect.StructType):
        return f"a mapping with the keys {_listed(key_names(kind.cls))}"
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return "a list" if not kind.min_length else f"a list of at least {kind.min_length}"
    return "a mapping"


def key_names(spec: type[msgspec.Struct]) -> tuple[str, ...]:
    """List the keys of a spec as they are declared."""
    return tuple(_fields(spec))


def field_help(spec: type[msgspec.Struct], key: str) -> str | None:
    """Return the sentence of help that stands beside a key."""
    return _description(_fields(spec)[key].type)


def _description(kind: inspect.Type) -> str | None:
    if isinstance(kind, inspect.UnionType):
        return next((text for option in kind.types if (text := _description(option))), None)
    if isinstance(kind, inspect.Metadata):
        text = (kind.extra_json_schema or {}).get("description")
        return text if isinstance(text, str) else _description(kind.type)
    return None


@lru_cache(maxsize=256)
def _fields(spec: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(spec)
    assert isinstance(info, inspect.StructType)  # noqa: S101 (narrows the type)
    return {field.encode_name: field for field in info.fields}


def _choose(kind: inspect.UnionType, value: Any) -> inspect.Type | None:
    """Pick the branch of a union by the shape of the value; a struct alone takes every shape (it may have a short form)."""
    branches = _branches(kind)
    if len(branches) == 1:
        return branches[0]
    for branch in branches:
        plain = branch.type if isinstance(branch, inspect.Metadata) else branch
        if isinstance(plain, inspect.StructType | inspect.DictType):
            if isinstance(value, dict):
                return branch
        elif isinstance(plain, inspect.ListType | inspect.VarTupleType):
            if isinstance(value, list):
                return branch
        elif _fits(plain, value):
            return branch
    return None


def _branches(kind: inspect.Type) -> list[inspect.Type]:
    """Flatten a union; ``None`` is no branch, for a key is left out and never left empty."""
    if isinstance(kind, inspect.UnionType):
        return [branch for option in kind.types for branch in _branches(option)]
    if isinstance(kind, inspect.Metadata) and isinstance(kind.type, inspect.UnionType):
        return _branches(kind.type)
    return [] if isinstance(kind, inspect.NoneType) else [kind]


def _fits(kind: inspect.Type, value: Any) -> bool:  # noqa: PLR0911 (one return for each kind of scalar)
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and not isinstance(value, bool) and _in_bounds(kind, value)
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, int | float) and not isinstance(value, bool) and _in_bounds(kind, value)
    if isinstance(kind, inspect.LiteralType):
        return any(value == allowed and type(value) is type(allowed) for allowed in kind.values)
    if isinstance(kind, inspect.StrType):
        return (
            isinstance(value, str)
            and _length_fits(kind, value)
            and (kind.pattern is None or _pattern(kind.pattern).search(value) is not None)
        )
    raise TypeError(f"no rule for {kind}")


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Compile a published pattern, whose ``$`` means the very end as it does in JSON Schema."""
    return re.compile(f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern)


def _in_bounds(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
    )


def _length_fits(kind: Any, value: Any) -> bool:
    return (kind.min_length is None or len(value) >= kind.min_length) and (
        kind.max_length is None or len(value) <= kind.max_length
    )


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


def _hint(kind: inspect.Type, value: Any, path: Path) -> str | None:
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    wanted = expected(kind)
    if isinstance(value, str) and "number" in wanted and (unit := _UNIT.search(key)):
        return f"The unit stands in the key: write a plain number of {_UNIT_WORDS[unit.group(1)]}."
    if isinstance(value, str) and wanted == "true or false":
        return "Only true and false are booleans."
    if isinstance(value, int | float) and wanted.startswith("a text"):
        return "Quote it if it is meant as text."
    if isinstance(value, str) and _SECRET_KEY.search(key):
        return "Write no secret here."
    return None


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names)
