"""Plain values of a document into frozen specs.

In: a document and the struct that describes it. Out: the struct, complete and checked, or every problem at once.
Refused: unknown keys (with the nearest known one), wrong types, values out of bounds, contradictions between keys,
and secrets that are written out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from brownfield.errors import DeclarationError
from brownfield.integration.words import (
    KeyPath,
    branches,
    describe,
    dotted,
    expected,
    fields_of,
    help_of,
    holds_secret,
    key_names,
    listed,
    looks_secret,
    nearest,
    show,
    unit_hint,
)

if TYPE_CHECKING:
    from brownfield.integration.registry import PluginKind, Registry
    from brownfield.integration.strict_yaml import Document

__all__ = ["BAD", "Contradiction", "DeclarationErrors", "Reader", "Schemas", "Spec", "each_error"]

Schemas: TypeAlias = Mapping[str, Mapping[str, Any]]
"""JSON Schemas by the name of the struct that they describe."""

BAD: Any = object()
"""Stands for a value that could not be read; its problem is noted with the reader."""

SpecType = TypeVar("SpecType", bound="Spec")

_BY_REFERENCE = "Secrets are never written here: name one where a key takes it, as {env: NAME} or {file: PATH}."


class DeclarationErrors(DeclarationError):
    """Several things are wrong with a declaration.

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


def raise_all(problems: Sequence[DeclarationError]) -> None:
    """Raise one problem as itself, several as :class:`DeclarationErrors`, none not at all."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DeclarationErrors(problems)


class Contradiction(NamedTuple):
    """Keys of one spec that cannot hold together.

    Parameters
    ----------
    path
        From the spec that tells it to the key at fault.
    expected, got, next_step
        As in every error.
    """

    path: KeyPath
    expected: str
    got: str
    next_step: str | None = None


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all declared structs: frozen, closed, and able to say what contradicts what."""

    def contradictions(self) -> Iterable[Contradiction]:
        """Tell which keys contradict each other; none by default."""
        return ()

    @classmethod
    def from_declared(cls, reader: "Reader", value: Any, path: KeyPath) -> Any:
        """Read the spec; overridden where there is a short form, or where the keys depend on what is installed.

        Returns
        -------
        Spec
            Or :data:`BAD` when something is wrong, after noting it with the reader.
        """
        return reader.struct(cls, value, path)

    @classmethod
    def published(cls, schemas: "Schemas", registry: "Registry") -> Mapping[str, Any]:  # noqa: ARG003 (for those that override)
        """Return the JSON Schema of the spec; overridden where :meth:`from_declared` or more than the fields decides.

        Parameters
        ----------
        schemas
            What follows from the fields alone, by the name of the struct.
        registry
            The plug-ins that are installed.
        """
        return schemas[cls.__name__]


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
        self._refuse_written_secrets(self.document.data, ())
        result: SpecType = spec.from_declared(self, self.document.data, ())
        self.raise_problems()
        return result

    def raise_problems(self) -> None:
        """Raise what was noted so far, if anything, in the order of the lines."""
        raise_all(sorted(self.problems, key=_place))

    def note(self, path: KeyPath, expected: str, got: str, next_step: str | None = None) -> Any:
        """Note one problem and return :data:`BAD`."""
        where = self.document.where(path)
        self.problems.append(
            DeclarationError(where=where, path=dotted(path) or None, expected=expected, got=got, next_step=next_step)
        )
        return BAD

    def struct(self, spec: type[Spec], value: Any, path: KeyPath) -> Any:
        """Read a mapping whose keys are the fields of ``spec``."""
        known = key_names(spec)
        if not isinstance(value, dict):
            wanted = f"a mapping with the keys {listed(known)}" if known else "an empty mapping"
            return self.note(path, wanted, describe(value))
        complete = self.known_keys(value, known, path)
        arguments = self.arguments(spec, value, path)
        return self.checked(spec(**arguments), path) if complete and arguments is not BAD else BAD

    def arguments(self, spec: type[Spec], value: Mapping[str, Any], path: KeyPath) -> Any:
        """Read those keys of a mapping that are fields of ``spec``, or return :data:`BAD`."""
        arguments: dict[str, Any] = {}
        for key, field in fields_of(spec).items():
            if key in value:
                arguments[field.name] = self.value(field.type, value[key], (*path, key))
            elif field.required:
                arguments[field.name] = self.note(path, f"the key {key}", "none", help_of(field.type))
        return BAD if any(argument is BAD for argument in arguments.values()) else arguments

    def checked(self, spec: Spec, path: KeyPath) -> Any:
        """Return the spec, or :data:`BAD` after noting its contradictions."""
        found = list(spec.contradictions())
        for contradiction in found:
            self.note((*path, *contradiction.path), contradiction.expected, contradiction.got, contradiction.next_step)
        return BAD if found else spec

    def known_keys(self, value: Mapping[str, Any], known: Iterable[str], path: KeyPath) -> bool:
        """Note each unknown key with the nearest known one; tell whether all are known."""
        unknown = [key for key in value if key not in known]
        for key in unknown:
            if looks_secret(key):
                next_step: str | None = _BY_REFERENCE
            elif ":" in key:
                next_step = "A space is missing after the colon."
            else:
                next_step = nearest(key, known)
            wanted = f"one of the keys {listed(known)}" if list(known) else "no keys"
            self.note((*path, key), wanted, f"the unknown key {show(key)}", next_step)
        return not unknown

    def installed(self, kind: "PluginKind", name: Any, path: KeyPath) -> Any:
        """Return the options class of an installed plug-in, or :data:`BAD` after noting which there are."""
        known: Mapping[str, type[Spec]] = getattr(self.registry, kind)
        if isinstance(name, str) and name in known:
            return known[name]
        next_step = nearest(str(name), known) or "Others come with later releases or with plug-ins."
        return self.note(path, f"one of the installed {kind} ({listed(sorted(known))})", describe(name), next_step)

    def value(self, kind: inspect.Type, value: Any, path: KeyPath) -> Any:
        """Read one value of a declared type."""
        options = branches(kind)
        chosen = (
            options[0] if len(options) == 1 else next((option for option in options if _takes(option, value)), None)
        )
        if chosen is None:
            return self._wrong(kind, value, path)
        plain = chosen.type if isinstance(chosen, inspect.Metadata) else chosen
        if isinstance(plain, inspect.StructType):
            return plain.cls.from_declared(self, value, path)  # type: ignore[attr-defined]  # every struct here is a Spec
        if not _takes(chosen, value):
            return self._wrong(kind, value, path)
        if isinstance(plain, inspect.ListType | inspect.VarTupleType):
            items = tuple(self.value(plain.item_type, item, (*path, index)) for index, item in enumerate(value))
            return BAD if any(item is BAD for item in items) else items
        if isinstance(plain, inspect.DictType):
            return self._mapping(plain, value, path)
        return float(value) if isinstance(plain, inspect.FloatType) else value

    def _mapping(self, kind: inspect.DictType, value: Mapping[str, Any], path: KeyPath) -> Any:
        names = [self.value(kind.key_type, key, (*path, key)) for key in value]
        result = {key: self.value(kind.value_type, item, (*path, key)) for key, item in value.items()}
        return BAD if any(item is BAD for item in (*names, *result.values())) else result

    def _wrong(self, kind: inspect.Type, value: Any, path: KeyPath) -> Any:
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        wanted = expected(kind)
        found, next_step = describe(value), None
        if isinstance(value, str):
            if looks_secret(key):
                found, next_step = "a text", _BY_REFERENCE
            elif "number" in wanted:
                next_step = unit_hint(key) or "Write it without quotes."
            elif wanted == "true or false":
                next_step = "Only true and false are booleans."
        elif isinstance(value, int | float) and any(_is_text(option) for option in branches(kind)):
            next_step = "Quote it if it is meant as text."
        return self.note(path, wanted, found, next_step)

    def _refuse_written_secrets(self, value: Any, path: KeyPath) -> None:
        """Note texts that carry a secret with them, wherever they stand."""
        if isinstance(value, str):
            if holds_secret(value):
                self.note(path, "no secret in a text", "one", _BY_REFERENCE)
        elif isinstance(value, dict | list):
            for step, item in value.items() if isinstance(value, dict) else enumerate(value):
                self._refuse_written_secrets(item, (*path, step))


def _place(problem: DeclarationError) -> tuple[str, int]:
    file, _, line = (problem.where or "").rpartition(":")
    return (file, int(line)) if line.isdecimal() else (line, 0)


def _takes(kind: inspect.Type, value: Any) -> bool:
    """Tell whether a value is of a declared type and within its bounds, not looking into containers."""
    plain = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(plain, inspect.AnyType):
        return True
    if isinstance(plain, inspect.StructType | inspect.DictType):
        return isinstance(value, dict) and _length_fits(plain, value)
    if isinstance(plain, inspect.ListType | inspect.VarTupleType):
        return isinstance(value, list) and _length_fits(plain, value)
    return _takes_scalar(plain, value)


def _takes_scalar(kind: inspect.Type, value: Any) -> bool:
    if isinstance(value, bool) or isinstance(kind, inspect.BoolType):
        return isinstance(value, bool) and isinstance(kind, inspect.BoolType)
    if isinstance(kind, inspect.StrType):
        return isinstance(value, str) and _length_fits(kind, value) and _pattern_fits(kind.pattern, value)
    if isinstance(kind, inspect.LiteralType):
        return isinstance(value, str) and value in kind.values
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) and _in_bounds(kind, value)
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, int | float) and _in_bounds(kind, value)
    raise TypeError(f"no rule for {kind}")


def _in_bounds(kind: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (
        (kind.gt is None or value > kind.gt)
        and (kind.ge is None or value >= kind.ge)
        and (kind.lt is None or value < kind.lt)
        and (kind.le is None or value <= kind.le)
    )


def _length_fits(kind: Any, value: Any) -> bool:
    shortest, longest = getattr(kind, "min_length", None), getattr(kind, "max_length", None)
    return (shortest is None or len(value) >= shortest) and (longest is None or len(value) <= longest)


def _pattern_fits(pattern: str | None, value: str) -> bool:
    return pattern is None or _compiled(pattern).search(value) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    r"""Compile a published pattern, whose ``$`` means the very end as it does in JSON Schema."""
    return re.compile(rf"{pattern[:-1]}\Z" if pattern.endswith("$") else pattern)


def _is_text(kind: inspect.Type) -> bool:
    return isinstance(kind.type if isinstance(kind, inspect.Metadata) else kind, inspect.StrType | inspect.LiteralType)
