"""Documents made from contracts: JSON Schema of a record, OpenAPI 3.1 of the prediction doors.

The same contracts always give the same document, so that a change of it is a change of the contract.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from brownfield.contract.fields import Contract, Field, Schema
from brownfield.contract.values import integer_bounds
from brownfield.errors import RejectionCode
from brownfield.types import Decision

__all__ = ["json_schema", "openapi"]

_PROBLEMS = {
    "400": "The body is no JSON, or not of the expected shape.",
    "401": "No valid token came with the request.",
    "403": "The token does not grant predictions.",
    "404": "There is no integration of that name.",
    "413": "The body is too large.",
    "415": "The body is no JSON by its content type.",
    "422": "The records break the contract; the violations say where.",
    "503": "Neither the model nor a fallback can answer in time.",
}
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS = {"date": "date", "timestamp": "date-time"}


def json_schema(schema: Schema) -> dict[str, Any]:
    """JSON Schema (2020-12) of one record.

    Record rules and set rules have no counterpart there; everything that it admits besides is admitted by the contract.

    Examples
    --------
    >>> json_schema(Schema("request", (Field(name="q", kind="integer", dtype="int64", required=True, minimum=1),)))
    {'type': 'object', 'properties': {'q': {'type': 'integer', 'minimum': 1}}, 'required': ['q'], \
'additionalProperties': False}
    """
    document: dict[str, Any] = {"type": "object"}
    if schema.description:
        document["description"] = schema.description
    document["properties"] = {field.name: _field(field) for field in schema.fields}
    required = [field.name for field in schema.fields if field.required]
    if required:
        document["required"] = required
    document["additionalProperties"] = False
    return document


def openapi(contracts: Mapping[str, Contract], *, title: str = "Predictions", version: str = "1") -> dict[str, Any]:
    """OpenAPI 3.1 of the named-fields door of several integrations.

    Parameters
    ----------
    contracts
        By name of the integration; each with the schemas ``request`` and ``response``.
    title, version
        Of the document.

    Returns
    -------
    dict
        ``POST /v1/{integration}/predict`` for each, in order of name.

    Raises
    ------
    ContractError
        When a contract lacks one of the two schemas.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _problem(), "Violation": _violation(), "Lookup": _lookup()}
    _, shared = msgspec.json.schema_components([Decision], ref_template="#/components/schemas/{name}")
    schemas |= shared
    for name in sorted(contracts):
        contract = contracts[name]
        request, response = contract.schema("request"), contract.schema("response")
        schemas[f"{name}.Request"] = json_schema(request)
        schemas[f"{name}.Response"] = json_schema(response)
        paths[f"/v1/{name}/predict"] = {"post": _operation(name, contract, request)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {status: _refusal(text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _field(field: Field) -> dict[str, Any]:
    document = _tensor(field) if field.kind == "tensor" else _value(field)
    if field.sentinels:
        document = {"anyOf": [document, {"enum": [_plain(each) for each in field.sentinels]}]}
    if not field.required:
        document = _or_null(document)
    if field.null_policy == "impute":
        document["default"] = _plain(field.impute)
    if field.description:
        document["description"] = field.description
    if field.examples:
        document["examples"] = list(field.examples)
    for word in ("unit", "classification"):
        if getattr(field, word):
            document[f"x-{word}"] = getattr(field, word)
    return document


def _or_null(document: dict[str, Any]) -> dict[str, Any]:
    if "type" not in document:
        return {"anyOf": [*document["anyOf"], {"type": "null"}]}
    document["type"] = [document["type"], "null"]
    if "enum" in document:
        document["enum"] = [*document["enum"], None]
    return document


def _value(field: Field) -> dict[str, Any]:
    if field.item is not None:
        document: dict[str, Any] = {"type": "array", "items": _field(field.item)}
        if field.unique_items:
            document["uniqueItems"] = True
    else:
        document = {"type": _TYPES.get(field.kind, "string")}
    if field.kind in _FORMATS:
        document["format"] = _FORMATS[field.kind]
    else:
        document |= _bounds(field)
    limits = {
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "minItems": field.min_items,
        "maxItems": field.max_items,
    }
    document |= {key: limit for key, limit in limits.items() if limit is not None}
    if field.pattern:
        document["pattern"] = field.pattern
    if field.enum:
        document["enum"] = [_plain(each) for each in field.enum]
    return document


def _bounds(field: Field) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    if field.kind == "integer" and field.dtype != "int64":
        bounds["minimum"], bounds["maximum"] = integer_bounds(field.dtype)
    for end, exclusive in (("minimum", field.exclusive_minimum), ("maximum", field.exclusive_maximum)):
        limit = getattr(field, end)
        if limit is not None:
            bounds.pop(end, None)
            bounds[f"exclusive{end.capitalize()}" if exclusive else end] = limit
    return bounds


def _tensor(field: Field) -> dict[str, Any]:
    letter = "U" if field.dtype == "str" else np.dtype(field.dtype).kind
    document: dict[str, Any] = {
        "type": {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}.get(letter, "string")
    }
    if letter in "iu":
        document["minimum"], document["maximum"] = integer_bounds(field.dtype)
    document |= _bounds(field)
    for size in reversed(field.shape):
        document = {"type": "array", "items": document}
        if size is not None:
            document |= {"minItems": size, "maxItems": size}
    return document


def _plain(value: Any) -> Any:
    return (
        value
        if isinstance(value, str | int | float | bool)
        else value.isoformat()
        if hasattr(value, "isoformat")
        else value
    )


def _operation(name: str, contract: Contract, request: Schema) -> dict[str, Any]:
    record, answer = _reference(f"{name}.Request"), _reference(f"{name}.Response")
    many = {"type": "array", "minItems": 1, "items": record}
    decision = _reference("Decision")
    one = _object({"prediction": answer, "decision": decision})
    several = _object({"predictions": {"type": "array", "items": answer}, "decision": decision})
    for document in (one, several):
        document["properties"]["lookups"] = {"type": "array", "items": _reference("Lookup")}
    return {
        "operationId": f"predict_{name.replace('-', '_')}",
        "summary": f"Predict with {name}",
        "description": f"Under contract {contract.reference}.",
        "requestBody": {"required": True, "content": _json({"oneOf": [record, many]} if request.batched else record)},
        "responses": {
            "200": {
                "description": "The answer, and who gave it: the model or a fallback that says so.",
                "content": _json({"oneOf": [one, several]} if request.batched else one),
            },
            **{status: {"$ref": f"#/components/responses/{status}"} for status in _PROBLEMS},
        },
    }


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": _reference("Problem")}}}


def _problem() -> dict[str, Any]:
    words = {"type": "string", "title": "string", "status": "integer", "detail": "string", "code": "string"}
    properties: dict[str, Any] = {word: {"type": kind} for word, kind in words.items()}
    properties["violations"] = {"type": "array", "items": _reference("Violation")}
    return {
        "description": "RFC 9457; never holds a value of a record.",
        "type": "object",
        "properties": properties,
        "required": ["title", "status"],
    }


def _violation() -> dict[str, Any]:
    codes = {"type": "string", "enum": sorted(RejectionCode)}
    text: dict[str, Any] = {"type": "string"}
    return _object({"field": text, "rule": text, "code": codes, "row": {"type": "integer"}, "expected": text})


def _lookup() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    states = {"type": "string", "enum": ["PRIMARY", "REPLICA", "SNAPSHOT", "FALLBACK", "REFUSE"]}
    reasons = {"type": "string", "enum": ["stale", "no_match", "unavailable", "null"]}
    missing = {"type": "array", "items": _object({"field": text, "reason": reasons})}
    document = _object(
        {
            "source": text,
            "bf_state": states,
            "bf_as_of": _or_null({"type": "string", "format": "date-time"}),
            "bf_stale_s": _or_null({"type": "number"}),
            "bf_missing": missing,
        }
    )
    return {"description": "What a lookup that is joined to requests gave.", **document}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
