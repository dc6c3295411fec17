"""Whether a mapping file, the contract and the source that it belongs to speak of the same things."""

from typing import TYPE_CHECKING, Any

from brownfield.contract import UNITS, Field, Schema, linear
from brownfield.integration.mapping import FieldMapping, MappingFile
from brownfield.integration.reader import Reader
from brownfield.integration.words import nearest, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brownfield.integration.words import KeyPath

__all__ = ["check_mapping"]

_CASTS = {"number": ("integer", "number"), "boolean": ("boolean",), "date": ("date",), "timestamp": ("timestamp",)}
_PLAIN: dict[str, tuple[type, ...]] = {
    "string": (str,), "date": (str,), "timestamp": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip


def check_mapping(file: MappingFile, schema: Schema, read_by: "tuple[str, ...]", reader: Reader) -> None:
    """Note with the reader where a mapping file does not fit.

    Parameters
    ----------
    file
        The mapping file.
    schema
        The contract's schema of the source.
    read_by
        Fields by which the source is read: its keys and cursor.
    reader
        Of the mapping file.
    """
    if not file.approved:
        next_step = "Read the file; then set approved: true, or run brownfield init --accept."
        reader.note(("approved",), "true, set by a person who has read this file", "false", next_step)
    for name, each in file.fields.items():
        path = ("fields", name)
        if name not in schema.names:
            reader.note(path, f"a field of {schema.name} in the contract", show(name), nearest(name, schema.names))
            continue
        for problem in _problems(each, schema.field(name)):
            reader.note((*path, *problem[0]), *problem[1:])
        if name in read_by and (each.from_ is None or each.split is not None):
            reader.note(path, "from, for records are read by this field", "a field made otherwise")


def _problems(each: FieldMapping, field: Field) -> "Iterator[tuple[KeyPath, str, str, str | None]]":
    if field.kind in {"list", "tensor"} and not each.renames:
        yield (), f"from alone for a field of kind {field.kind}", "more", None
        return
    for cast, kinds in _CASTS.items():
        if cast in each.casts and field.kind not in kinds:
            yield (cast,), f"a field of kind {' or '.join(kinds)}", field.kind, None
    if each.of_text and not each.casts and field.kind not in {"string", "date", "timestamp"}:
        wanted = next((cast for cast, kinds in _CASTS.items() if field.kind in kinds), "codes")
        yield (), f"{wanted} or codes, for text becomes a field of kind {field.kind}", "none", None
    wrong = {"missing_of": "boolean", "reason_of": "string"}
    for key, kind in wrong.items():
        if getattr(each, key) is not None and field.kind != kind:
            yield (key,), f"a field of kind {kind}", field.kind, None
    values: list[tuple[KeyPath, Any]] = [(("codes", code), value) for code, value in (each.codes or {}).items()]
    values += [(("unknown",), each.unknown)] if each.unknown != "reject" else []
    values += [(("constant",), each.constant)] if each.constant is not None else []
    for path, value in values:
        if not _is_of(value, field.kind):
            yield path, f"a value of kind {field.kind}", "another", None
    yield from _unit_problems(each, field)


def _is_of(value: Any, kind: str) -> bool:
    return isinstance(value, _PLAIN[kind]) and (kind == "boolean") == isinstance(value, bool)


_UNIT = "Declare it beside the field: customProperties: [{property: unit, value: kg, vendor: brownfield}]."


def _unit_problems(each: FieldMapping, field: Field) -> "Iterator[tuple[KeyPath, str, str, str | None]]":
    if each.unit is None:
        return
    if field.kind not in {"integer", "number"}:
        yield ("unit",), "a field of kind integer or number", field.kind, None
    if not field.unit:
        yield ("unit",), "a field with a unit in the contract", "none", _UNIT
        return
    listed = linear(each.unit.from_, field.unit)
    if each.unit.factor is None and listed is None:
        if each.unit.from_ in UNITS and field.unit in UNITS:
            next_step = f"{each.unit.from_} is a {UNITS[each.unit.from_][0]}, {field.unit} a {UNITS[field.unit][0]}."
        else:
            next_step = _like(each.unit.from_, field.unit) or "Declare factor, and offset where there is one."
        yield ("unit", "from"), f"a unit that converts into {field.unit}", show(each.unit.from_), next_step
    if each.unit.factor is not None and listed is not None and listed != (each.unit.factor, each.unit.offset):
        yield ("unit", "factor"), f"the known factor {listed[0]!r} and offset {listed[1]!r}, or none", "others", None


def _like(name: str, unit: str) -> str | None:
    """Suggest the nearest unit that converts."""
    return nearest(name, [other for other, (kind, *_) in UNITS.items() if unit in UNITS and kind == UNITS[unit][0]])
