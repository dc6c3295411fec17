"""From a copybook to the draft of a data contract (ODCS) for its records, for a person to complete.

Names, pictures, bounds and level 88 say what a copybook knows. What it cannot say, such as which values mean that
there is none, is proposed from a sample in the notes, and never put into the contract.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brownfield.data.formats.copybook_source import compile_copybook
from brownfield.data.formats.layout import Axis, Condition, Item, Layout
from brownfield.data.formats.pictures import BinarySize

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ContractDraft", "contract_from_copybook"]

_EXACT_DIGITS = 15
_LARGEST_BOUND = 2**53
"""Beyond it a contract, which is JSON, cannot say a bound; the picture holds it anyway."""
_FIGURATIVE: Mapping[str, str | int] = {
    "SPACE": "", "SPACES": "", "ZERO": 0, "ZEROS": 0, "ZEROES": 0,
}  # fmt: skip
_NO_DATES = ("99991231", "9999-12-31", "00010101", "0001-01-01", "00000000", "19000101", "1900-01-01")
_LEAST_SHARE, _LEAST_ROWS = 0.01, 2


@dataclass(frozen=True, slots=True)
class ContractDraft:
    """A contract to be completed by a person.

    Parameters
    ----------
    document
        An ODCS document that :func:`brownfield.contract.compile_contract` compiles.
    notes
        What the document leaves out or needs a decision about, a sentence each.
    """

    document: dict[str, Any]
    notes: tuple[str, ...]


def contract_from_copybook(
    text: str,
    name: str,
    *,
    file: str = "copybook",
    binary_size: BinarySize = "2-4-8",
    sample: "pa.RecordBatch | None" = None,
) -> ContractDraft:
    """Draft the contract of the records that a copybook lays out.

    Parameters
    ----------
    text
        The copybook.
    name
        Identifier of the contract, and name of its object.
    file
        Name of the copybook, for messages.
    binary_size
        Bytes that binary numbers may take.
    sample
        Decoded records, in which values that may mean "none" are looked for.

    Raises
    ------
    FormatError
        When the copybook is malformed or has what is not read; names the line.

    Examples
    --------
    >>> draft = contract_from_copybook("01 R. 05 STORE PIC 9(3). 05 KIND PIC X. 88 CASH VALUE 'C'.", "sales")
    >>> store, kind = draft.document["schema"][0]["properties"]
    >>> store["physicalType"], store["logicalType"], store["logicalTypeOptions"]
    ('PIC 9(3)', 'integer', {'minimum': 0, 'maximum': 999})
    >>> kind["enum"]
    [{'value': 'C', 'label': 'cash'}]
    """
    layout = compile_copybook(text, file, binary_size)
    notes: list[str] = []
    properties = [found for item in layout.items if (found := _property(item, layout, notes)) is not None]
    if layout.branches:
        names = ", ".join(branch.name for branch in layout.branches)
        notes.append(f"redefine_rule must say when each of {names} is read; their fields may be missing")
    if sample is not None:
        notes += _sentinels(layout, sample)
    document = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": name,
        "version": "0.1.0",
        "status": "draft",
        "schema": [{"name": name, "logicalType": "object", "physicalType": "copybook", "properties": properties}],
    }
    return ContractDraft(document, tuple(notes))


def _property(item: Item, layout: Layout, notes: list[str]) -> dict[str, Any] | None:
    axes = item.axes
    if len(axes) > 1:
        notes.append(f"{item.name} is a list of lists, which a contract does not hold; it is left out")
        return None
    value = _value(item, notes)
    is_there = {"required": not item.branches}
    if not axes:
        return {"name": item.name, "physicalType": item.picture, **is_there, **value}
    if any(isinstance(gate, str) for gate in item.gates[item.gates.index(axes[0]) :]):
        notes.append(f"{item.name} may be missing inside its list, which a contract does not admit; it is left out")
        return None
    enum = value.pop("enum", None)
    items = value | ({"enum": enum} if enum else {})
    bounds = {"minItems": _fewest(axes[0], layout), "maxItems": axes[0].count}
    return {
        "name": item.name, "physicalType": item.picture, **is_there,
        "logicalType": "array", "items": items, "logicalTypeOptions": bounds,
    }  # fmt: skip


def _fewest(axis: Axis, layout: Layout) -> int:
    if not axis.counter:
        return axis.count
    return next(table.minimum for table in layout.tables if table.counter == axis.counter)


def _value(item: Item, notes: list[str]) -> dict[str, Any]:
    """Type, bounds and enumeration of one value."""
    if item.usage == "text":
        described: dict[str, Any] = {"logicalType": "string", "logicalTypeOptions": {"maxLength": item.length}}
    elif item.usage == "float":
        return {"logicalType": "number"}
    else:
        described = _number(item, notes)
    values = [_enum_value(item, condition, word) for condition in item.conditions for word in condition.values]
    is_whole = item.usage == "text" or item.scale <= 0
    if item.conditions and is_whole and all(condition.values for condition in item.conditions) and None not in values:
        unique = {entry["value"]: entry for entry in values if entry is not None}
        described["enum"] = list(unique.values())
        notes.append(f"{item.name} is held to the values of level 88; take enum away if there are others")
    elif item.conditions:
        notes.append(f"{item.name} has a level 88 with a range, which is left out")
    return described


def _number(item: Item, notes: list[str]) -> dict[str, Any]:
    largest = (10**item.digits - 1) * 10 ** max(0, -item.scale)
    if item.native:
        largest = min(2 ** (item.length * 8 - item.signed) - 1, 2**63 - 1)
    if item.scale <= 0:
        smallest = (-largest - item.native) if item.signed else 0
        bounds = {"minimum": smallest, "maximum": largest} if largest <= _LARGEST_BOUND else {}
        return {"logicalType": "integer", "logicalTypeOptions": bounds}
    if item.digits > _EXACT_DIGITS:
        notes.append(f"{item.name} has {item.digits} digits, of which a number holds {_EXACT_DIGITS} exactly")
    bound = largest / 10**item.scale
    return {
        "logicalType": "number",
        "logicalTypeOptions": {"minimum": -bound if item.signed else 0, "maximum": bound},
    }


def _enum_value(item: Item, condition: Condition, word: str) -> dict[str, Any] | None:
    """One value of a level 88 with its name; None where it is none of the field."""
    if word in _FIGURATIVE:
        value: str | int = _FIGURATIVE[word]
    elif word[0] in "'\"":
        value = word[1:-1].replace(word[0] * 2, word[0]).rstrip(" ")
    else:
        digits = word.removeprefix("+")
        if not digits.removeprefix("-").isdecimal():
            return None
        value = int(digits)
    if item.usage == "text":
        value = "0" * item.length if value == 0 else str(value)
        return {"value": value, "label": condition.name} if len(value) <= item.length else None
    return {"value": value, "label": condition.name} if isinstance(value, int) else None


def _sentinels(layout: Layout, sample: "pa.RecordBatch") -> Iterator[str]:
    """Propose values that may mean that there is none: all nines, -1, and dates beyond all time."""
    for item in layout.items:
        if item.gates or item.name not in sample.schema.names or item.usage == "float":
            continue
        values = sample.column(item.name).to_pylist()
        for candidate in _candidates(item):
            count = values.count(candidate)
            if count >= max(_LEAST_ROWS, _LEAST_SHARE * len(values)) and count < len(values):
                yield (
                    f"{item.name} is {candidate} in {count} of {len(values)} records; "
                    "declare it in sentinels if it means that there is no value"
                )


def _candidates(item: Item) -> Sequence[str | int | float]:
    if item.usage == "text":
        return _NO_DATES
    nines: int | float = 10**item.digits - 1
    nines = nines / 10**item.scale if item.scale > 0 else nines
    dates = tuple(int(each) for each in _NO_DATES if each.isdecimal() and len(each) == item.digits and each != "0" * 8)
    return (*((nines,) if item.digits > 1 else ()), *((-1,) if item.signed else ()), *dates)
