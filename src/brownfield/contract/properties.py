"""Reads one property of an ODCS object into a Field, refusing what contradicts itself."""

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from brownfield.contract.fields import Field, Kind
from brownfield.contract.instants import parse_date, parse_timestamp
from brownfield.contract.patterns import MAX_TEXT, PatternRefused, compile_pattern
from brownfield.contract.reading import Node, nearest
from brownfield.contract.values import RowValue

__all__ = ["CUSTOM_FIELD", "CUSTOM_SCHEMA", "VENDOR", "custom", "read_field"]

VENDOR = "brownfield"
CUSTOM_SCHEMA = ("batched",)
CUSTOM_FIELD = ("unit", "sentinels", "nullPolicy", "impute", "padding", "nonFinite", "tensor")

PROPERTY_KEYS = frozenset(
    "id name physicalType description businessName deprecated synonyms authoritativeDefinitions tags customProperties "
    "primaryKey primaryKeyPosition logicalType logicalTypeOptions physicalName required unique semanticType "
    "partitioned partitionKeyPosition classification encryptedName transformSourceObjects transformLogic "
    "transformDescription examples enum criticalDataElement relationships quality items context".split()
)
OPTION_KEYS: dict[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
    "boolean": frozenset(),
    "date": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
    "timestamp": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format", "timezone", "defaultTimezone"}
    ),
    "array": frozenset({"minItems", "maxItems", "uniqueItems"}),
    "vector": frozenset(
        {"dimensions", "elementType", "distanceMetric", "embeddingModel", "embeddingModelVersion", "normalized"}
    ),
}
INTEGER_WIDTHS = {
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
FLOAT_WIDTHS = {"f32": "float32", "f64": "float64"}
VECTOR_DTYPES = {each: each for each in ("float16", "float32", "float64", "int8", "uint8")}
TENSOR_DTYPES = ("bool", "float16", "float32", "float64", "str", *INTEGER_WIDTHS.values())
_MAX_DIMENSIONS = 8


def custom(node: Node, names: tuple[str, ...]) -> dict[str, Node]:
    """Vendor properties of Brownfield by name; those of other vendors are left alone."""
    found: dict[str, Node] = {}
    for entry in node.at("customProperties").items() if "customProperties" in node else []:
        entry.known(("id", "property", "value", "description", "vendor"))
        name = entry.at("property").text()
        vendor = entry.at("vendor").text() if "vendor" in entry else ""
        if vendor != VENDOR:
            if not vendor and name in names:
                raise entry.refuse(f"vendor: {VENDOR} beside {name}", got="no vendor")
            continue
        if name not in names:
            raise entry.at("property").refuse("a property that Brownfield knows here", next_step=nearest(name, names))
        if name in found:
            raise entry.at("property").refuse("each property once")
        found[name] = entry.at("value")
    return found


def read_field(node: Node, *, is_item: bool = False) -> Field:
    """Field of one property (or, with ``is_item``, of the items of a list)."""
    node.known(PROPERTY_KEYS)
    logical = node.at("logicalType").word([*OPTION_KEYS]) if "tensor" not in custom(node, CUSTOM_FIELD) else "tensor"
    name = "" if is_item else node.at("name").text()
    ours = custom(node, CUSTOM_FIELD)
    parts: dict[str, Any] = {"name": name, "kind": _kind(logical)}
    if is_item:
        _refuse_on_items(node, ours, logical)
    if logical == "tensor":
        parts |= _tensor(ours["tensor"])
    elif logical == "vector":
        parts |= _vector(node)
    elif logical == "array":
        parts |= _array(node)
    elif "items" in node:
        raise node.at("items").refuse("items under logicalType: array only", got=f"logicalType: {logical}")
    parts |= _options(node, logical)
    parts |= _meaning(node, ours)
    base = Field(**parts)
    return _with_values(node, ours, base)


def _kind(logical: str) -> Kind:
    kinds: dict[str, Kind] = {"array": "list", "vector": "tensor"}
    return kinds.get(logical, logical)  # type: ignore[arg-type]  # the other words are the same
