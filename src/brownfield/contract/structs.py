"""The fast half of the row path: a msgspec type generated from a schema.

The type is sound, not complete: what it decodes keeps every rule that it carries, and what it refuses is looked at
again by the strict reader, which knows every rule and names every break.
"""

from collections.abc import Callable
from datetime import date
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec

from brownfield.contract.fields import Field, Schema
from brownfield.contract.patterns import MAX_TEXT, compile_pattern
from brownfield.contract.tensors import nested_type
from brownfield.contract.values import EXACT_INTEGER, integer_bounds

__all__ = ["column_reader", "is_tight", "row_decoder"]

_INT64_HIGH = 2**63 - 1


def row_decoder(schema: Schema) -> Callable[[bytes], Any]:
    """Generate the decoder of one object, or an array of objects, into structs with the fields in order.

    Parameters
    ----------
    schema
        The schema of a record.

    Examples
    --------
    >>> schema = Schema("request", (Field(name="quantity", kind="integer", dtype="int64", required=True),))
    >>> msgspec.structs.astuple(row_decoder(schema)(b'{"quantity": 3}'))
    (3,)
    """
    members: list[Any] = []
    for index, field in enumerate(schema.fields):
        kind = _tight(field) if is_tight(field) else _loose(field)
        if field.required:
            members.append((f"f{index}", kind))
        else:
            members.append((f"f{index}", kind | None | msgspec.UnsetType, msgspec.UNSET))
    record = msgspec.defstruct(
        "Record",
        members,
        rename={f"f{index}": field.name for index, field in enumerate(schema.fields)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=any(field.kind in ("list", "tensor") for field in schema.fields),
    )
    return msgspec.json.Decoder(record | list[record]).decode  # type: ignore[valid-type]  # made just above


def column_reader(field: Field) -> Callable[[Any], list[Any] | None] | None:
    """Reader of a whole column of plain values; it gives None in doubt, and there is none for a field with more rules.

    Parameters
    ----------
    field
        The field of the column.

    Examples
    --------
    >>> read = column_reader(Field(name="q", kind="integer", dtype="int64", required=True, minimum=1))
    >>> read([1, 2]), read([1, 0])
    ([1, 2], None)
    """
    if not is_tight(field) or field.null_policy == "impute":
        return None
    value = _tight(field) if field.required else _tight(field) | None
    kind: Any = list[value]  # type: ignore[valid-type]  # made at run time
    texts = (field.item or field).kind == "string"

    def read(values: Any) -> list[Any] | None:
        try:
            accepted: list[Any] = msgspec.convert(values, kind, strict=True)
        except (msgspec.ValidationError, UnicodeEncodeError):
            return None
        if not texts:
            return accepted
        try:
            flat = chain.from_iterable(filter(None, accepted)) if field.item is not None else filter(None, accepted)
            return None if b"\0" in "".join(flat).encode() else accepted
        except UnicodeEncodeError:
            return None

    return read


def is_tight(field: Field) -> bool:
    """Whether the generated type carries all of the field's rules."""
    if field.sentinels or field.kind in ("timestamp", "tensor") or field.unique_items:
        return False
    if field.kind == "number" and field.enum:
        return False
    if field.kind == "date" and (field.enum or field.minimum is not None or field.maximum is not None):
        return False
    if field.kind == "integer" and field.enum:
        return bool(max(field.enum) <= _INT64_HIGH)
    if field.kind == "integer":
        high = integer_bounds(field.dtype)[1] if field.maximum is None else field.maximum
        return high <= _INT64_HIGH
    return field.item is None or is_tight(field.item)


def _tight(field: Field) -> Any:
    match field.kind:
        case "string":
            return Literal[field.enum] if field.enum else _string(field)
        case "integer":
            return Literal[field.enum] if field.enum else _integer(field)
        case "number":
            return _number(field)
        case "boolean":
            return bool
        case "date":
            return date
        case _:
            assert field.item is not None  # noqa: S101 (lists have items)
            return Annotated[
                list[_tight(field.item)],  # type: ignore[misc]  # a type made at run time
                msgspec.Meta(min_length=field.min_items, max_length=field.max_items),
            ]


def _string(field: Field) -> Any:
    longest = field.max_length
    pattern = None
    if field.pattern:
        longest = MAX_TEXT if longest is None else longest
        pattern = compile_pattern(field.pattern, longest).python
    if longest is None and field.min_length is None:
        return str
    return Annotated[str, msgspec.Meta(min_length=field.min_length, max_length=longest, pattern=pattern)]


def _integer(field: Field) -> Any:
    low, high = integer_bounds(field.dtype)
    if field.minimum is not None:
        low = max(low, field.minimum + field.exclusive_minimum)
    if field.maximum is not None:
        high = min(high, field.maximum - field.exclusive_maximum)
    return Annotated[int, msgspec.Meta(ge=low, le=high)]


def _number(field: Field) -> Any:
    # Beyond the exact whole numbers the strict reader decides, for it still knows whether the text was whole.
    # (2^53 itself may have been 2^53 + 1.)
    exact = EXACT_INTEGER[field.dtype] - 1
    bounds: dict[str, float] = {"ge": -exact, "le": exact}
    if field.minimum is not None and field.minimum > -exact:
        del bounds["ge"]
        bounds["gt" if field.exclusive_minimum else "ge"] = field.minimum
    if field.maximum is not None and field.maximum < exact:
        del bounds["le"]
        bounds["lt" if field.exclusive_maximum else "le"] = field.maximum
    return Annotated[float, msgspec.Meta(**bounds)]  # type: ignore[call-overload]  # at most one lower and upper bound


def _loose(field: Field) -> Any:
    match field.kind:
        case "integer":
            return int
        case "number":
            return int | float
        case "boolean":
            return bool
        case "tensor":
            return nested_type(field, bounded=True)
        case "list":
            assert field.item is not None  # noqa: S101 (lists have items)
            return list[_loose(field.item)]  # type: ignore[misc]  # a type made at run time
        case _:
            return str
