"""Reads one property of an ODCS object into a Field, refusing what contradicts itself."""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from brownfield.contract.expectations import expectations
from brownfield.contract.fields import Field, Kind, Schema
from brownfield.contract.patterns import MAX_TEXT, PatternRefused, compile_pattern
from brownfield.contract.reading import Node, nearest, words
from brownfield.contract.values import ValueChecker, integer_bounds

__all__ = ["CUSTOM_FIELD", "CUSTOM_SCHEMA", "VENDOR", "custom", "read_field"]

VENDOR = "brownfield"
CUSTOM_SCHEMA = ("batched",)
CUSTOM_FIELD = ("unit", "sentinels", "nullPolicy", "impute", "padding", "nonFinite", "tensor")

PROPERTY_KEYS = words(
    "id name physicalType description businessName deprecated synonyms authoritativeDefinitions tags "
    "customProperties primaryKey primaryKeyPosition logicalType logicalTypeOptions physicalName required "
    "unique semanticType partitioned partitionKeyPosition classification encryptedName "
    "transformSourceObjects transformLogic transformDescription examples enum criticalDataElement "
    "relationships quality items"
)
BOUND_KEYS = words("minimum maximum exclusiveMinimum exclusiveMaximum")
OPTION_KEYS: dict[str, frozenset[str]] = {
    "string": words("minLength maxLength pattern format"),
    "integer": BOUND_KEYS | {"format"},
    "number": BOUND_KEYS | {"format"},
    "boolean": frozenset(),
    "date": BOUND_KEYS | {"format"},
    "timestamp": BOUND_KEYS | {"format", "timezone", "defaultTimezone"},
    "tensor": BOUND_KEYS,
    "array": words("minItems maxItems uniqueItems"),
    "vector": words("dimensions elementType distanceMetric embeddingModel embeddingModelVersion normalized"),
}
LOGICAL_TYPES = tuple(name for name in OPTION_KEYS if name != "tensor")
_INSTEAD_OF = {
    "object": "Flatten it in the integration: a property for each of its parts.",
    "map": "Flatten it in the integration: a property for each of its keys.",
    "time": "Take it as a string with a pattern, or with its date as a timestamp.",
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
    for entry in node.each("customProperties"):
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
    node.known(PROPERTY_KEYS, ours=CUSTOM_FIELD)
    ours = custom(node, CUSTOM_FIELD)
    logical = "tensor" if "tensor" in ours else _logical(node.at("logicalType"))
    name = "" if is_item else node.at("name").text()
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
    if is_item:
        base = replace(base, required=True, null_policy="reject")
    return _with_values(node, ours, base)


def _logical(node: Node) -> str:
    if isinstance(node.value, str) and node.value in _INSTEAD_OF:
        raise node.refuse(f"one of {', '.join(LOGICAL_TYPES)}", next_step=_INSTEAD_OF[node.value])
    return node.word(LOGICAL_TYPES)


def _kind(logical: str) -> Kind:
    kinds: dict[str, Kind] = {"array": "list", "vector": "tensor"}
    return kinds.get(logical, logical)  # type: ignore[arg-type]  # the other words are the same


def _refuse_on_items(node: Node, ours: dict[str, Node], logical: str) -> None:
    if logical in ("array", "vector", "tensor"):
        raise node.refuse("items of a plain kind", got=logical, next_step="Declare the property with tensor instead.")
    for key in ("required", "unique", "primaryKey", "relationships"):
        if key in node:
            raise node.at(key).refuse(f"no {key} on items: items are never null and are checked one by one")
    for key in ("sentinels", "nullPolicy", "impute", "padding"):
        if key in ours:
            raise ours[key].refuse(f"no {key} on items: items are never null")


def _tensor(node: Node) -> dict[str, Any]:
    node.known(("dtype", "shape"))
    dtype = node.at("dtype").word(TENSOR_DTYPES)
    sizes = node.at("shape").items()
    if len(sizes) > _MAX_DIMENSIONS:
        raise node.at("shape").refuse(f"at most {_MAX_DIMENSIONS} dimensions", got=str(len(sizes)))
    return {"dtype": dtype, "shape": tuple(None if size.value is None else size.count() for size in sizes)}


def _vector(node: Node) -> dict[str, Any]:
    options = node.at("logicalTypeOptions")
    element = options.at("elementType").word(VECTOR_DTYPES) if "elementType" in options else "float32"
    return {"dtype": element, "shape": (options.at("dimensions").count(),)}


def _array(node: Node) -> dict[str, Any]:
    item = read_field(node.at("items"), is_item=True)
    options = node.maybe("logicalTypeOptions")
    if item.kind == "number" and options is not None and options.is_set("uniqueItems"):
        raise options.at("uniqueItems").refuse("no uniqueItems on floating-point numbers")
    return {"item": item}


def _options(node: Node, logical: str) -> dict[str, Any]:
    options = node.at("logicalTypeOptions") if "logicalTypeOptions" in node else Node({}, node.path, node.where)
    options.known(OPTION_KEYS[logical])
    parts: dict[str, Any] = {}
    for key, name in (("Length", "length"), ("Items", "items")):
        for end in ("min", "max"):
            if f"{end}{key}" in options:
                parts[f"{end}_{name}"] = options.at(f"{end}{key}").count()
        low, high = parts.get(f"min_{name}"), parts.get(f"max_{name}")
        if low is not None and high is not None and low > high:
            raise options.at(f"min{key}").refuse(f"min{key} of at most max{key}, which is {high}")
    if "uniqueItems" in options:
        parts["unique_items"] = options.at("uniqueItems").flag()
    if logical in ("integer", "number"):
        widths = INTEGER_WIDTHS if logical == "integer" else FLOAT_WIDTHS
        parts["dtype"] = (
            widths[options.at("format").word(widths)] if "format" in options else f"{_default_width(logical)}64"
        )
    if "format" in options and logical not in ("integer", "number"):
        _format(options.at("format"), logical)
    if "pattern" in options:
        parts["pattern"] = _pattern(options.at("pattern"), parts.get("max_length"))
    if logical == "timestamp":
        parts["zone"] = _zone(options)
    return parts


def _format(node: Node, logical: str) -> None:
    if logical == "string":
        raise node.refuse("a pattern: formats of text are not checked", next_step="Write what is meant as a pattern.")
    if not node.text().lower().startswith("yyyy-mm-dd"):
        raise node.refuse("the ISO form, such as yyyy-MM-dd", next_step="Convert other spellings when you read them.")


def _default_width(logical: str) -> str:
    return "int" if logical == "integer" else "float"


def _pattern(node: Node, max_length: int | None) -> str:
    pattern = node.text()
    try:
        compile_pattern(pattern, MAX_TEXT if max_length is None else max_length)
    except PatternRefused as error:
        raise node.refuse("a pattern that Python and RE2 read alike", got=f"one that is refused: {error}") from error
    return pattern


def _zone(options: Node) -> ZoneInfo | None:
    carried = options.at("timezone").flag() if "timezone" in options else None
    if "defaultTimezone" not in options:
        if carried is False:
            raise options.at("timezone").refuse("a defaultTimezone beside timezone: false", got="none")
        return None
    node = options.at("defaultTimezone")
    if carried:
        raise node.refuse("no defaultTimezone beside timezone: true, which demands an offset in each value")
    try:
        return ZoneInfo(node.text())
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise node.refuse("a zone of the IANA database, such as Europe/Berlin") from error


def _meaning(node: Node, ours: dict[str, Node]) -> dict[str, Any]:
    required = node.is_set("required")
    required = required or "tensor" in ours or node.value.get("logicalType") == "vector"
    required = required or node.is_set("primaryKey")
    has_sentinels = "sentinels" in ours
    policy = "reject" if required else "pass"
    if "nullPolicy" in ours:
        policy = ours["nullPolicy"].word(("reject", "impute", "pass"))
        if required and policy != "reject" and not has_sentinels:
            raise ours["nullPolicy"].refuse(
                "reject for a required property without sentinels, for nothing can be missing",
                next_step="Declare sentinels, or take required away.",
            )
    if (policy == "impute") != ("impute" in ours):
        at = ours.get("impute") or ours.get("nullPolicy") or node
        raise at.refuse("nullPolicy: impute and an impute value together", got="one without the other")
    parts: dict[str, Any] = {"required": required or policy == "reject", "null_policy": policy}
    for name in ("classification", "description"):
        if name in node:
            parts[name] = node.at(name).text()
    if "unit" in ours:
        parts["unit"] = ours["unit"].text()
    if "nonFinite" in ours:
        parts["non_finite"] = ours["nonFinite"].flag()
    if "examples" in node:
        parts["examples"] = tuple(each.value for each in node.each("examples"))
    return parts


def _with_values(node: Node, ours: dict[str, Node], base: Field) -> Field:
    """Read the values that the property itself mentions, each checked by the property's own rules."""
    _refuse_misplaced(node, ours, base)
    bounded = replace(base, **_bounds(node, base))
    if "enum" in node:
        bounded = replace(bounded, enum=_enum(node.at("enum"), bounded))
    if base.kind == "tensor":
        return bounded
    for each in node.each("examples"):
        _own_value(each, bounded, "an example")
    final = replace(bounded, sentinels=_sentinels(ours["sentinels"], base) if "sentinels" in ours else ())
    if "impute" in ours:
        final = replace(final, impute=_own_value(ours["impute"], bounded, "an impute value"))
        if final.impute in final.sentinels:
            raise ours["impute"].refuse("an impute value that is no sentinel")
    return final if base.item is None else replace(final, padding=_padding(ours.get("padding"), base.item))


def _refuse_misplaced(node: Node, ours: dict[str, Node], base: Field) -> None:
    if base.non_finite and base.kind != "number" and not base.dtype.startswith("float"):
        raise ours["nonFinite"].refuse("nonFinite on numbers and floating-point tensors only")
    if base.item is None and "padding" in ours:
        raise ours["padding"].refuse("padding on lists only")
    if base.kind == "tensor":
        for key in ("sentinels", "impute"):
            if key in ours:
                raise ours[key].refuse(f"no {key} on a tensor")
    if base.kind in ("list", "tensor", "boolean") and "enum" in node:
        raise node.at("enum").refuse(f"no enum on a {base.kind}")


def _bounds(node: Node, base: Field) -> dict[str, Any]:
    options = node.maybe("logicalTypeOptions")
    parts: dict[str, Any] = {}
    if options is None or base.kind not in ("integer", "number", "date", "timestamp", "tensor"):
        return parts
    for end, other in (("minimum", "Minimum"), ("maximum", "Maximum")):
        exclusive = f"exclusive{other}"
        if end in options and exclusive in options:
            raise options.at(exclusive).refuse(f"either {end} or {exclusive}", got="both")
        key = end if end in options else exclusive if exclusive in options else None
        if key is not None:
            parts[end] = _bound(options.at(key), base)
            parts[f"exclusive_{end}"] = key == exclusive
    low, high = parts.get("minimum"), parts.get("maximum")
    if low is not None and high is not None:
        closed = not (parts["exclusive_minimum"] or parts["exclusive_maximum"])
        if low > high or (low == high and not closed):
            raise options.refuse("a minimum below the maximum", got="bounds that no value meets")
    return parts


def _bound(node: Node, base: Field) -> Any:
    if base.kind == "tensor":
        return node.number()
    if base.kind == "integer":
        if isinstance(node.number(), float) and node.value != int(node.value):
            raise node.refuse("a whole number, for the property is an integer")
        low, high = integer_bounds(base.dtype)
        if not low <= node.value <= high:
            raise node.refuse(f"a bound within {base.dtype}")
        return int(node.value)
    if base.kind == "number":
        return _own_value(node, base, "a bound")
    return _own_value(node, replace(base, required=True), "a bound")


def _enum(node: Node, bounded: Field) -> tuple[Any, ...]:
    values = []
    for each in node.items():
        each.known(("value", "label", "id", "description", "customProperties", "authoritativeDefinitions", "tags"))
        value = _own_value(each.at("value"), bounded, "an enum value")
        if value in values:
            raise each.refuse("each enum value once")
        values.append(value)
    if not values:
        raise node.refuse("at least one value", got="none")
    return tuple(values)


def _sentinels(node: Node, base: Field) -> tuple[Any, ...]:
    if base.kind in ("list", "boolean"):
        raise node.refuse(f"no sentinels on a {base.kind}")
    plain = replace(base, min_length=None, max_length=None, pattern="")
    return tuple(_own_value(each, plain, "a sentinel") for each in node.items())


def _padding(node: Node | None, item: Field) -> Any:
    if node is None:
        return "" if item.kind == "string" else None
    return _own_value(node, replace(item, min_length=None, pattern="", enum=(), minimum=None, maximum=None), "padding")


def _own_value(node: Node, field: Field, what: str) -> Any:
    field = replace(field, required=True, null_policy="reject", sentinels=())
    value, breaks = ValueChecker(field).check(node.value)
    if breaks:
        rule, asked = breaks[0].rule, expectations(Schema("", (field,)))
        raise node.refuse(
            f"{what} that keeps the property's own rules ({rule.rpartition('.')[2]}: {asked[rule]})",
            next_step=f"The property is of kind {field.kind}.",
        )
    return value
