"""OpenAPI and JSON Schema made from contracts."""

import json
import re

import pytest
from jsonschema import Draft202012Validator

from brownfield.contract import compile_contract, json_schema, openapi
from brownfield.errors import ContractError, InputRefused


@pytest.fixture
def api(contract):
    """Give the OpenAPI document of two integrations."""
    return openapi({"store-recommendations": contract, "returns": contract})


def test_the_document_is_the_same_every_time(contract, api) -> None:
    """The document depends on the contracts alone, not on the order in which they are given."""
    again = openapi({"returns": contract, "store-recommendations": contract})
    assert json.dumps(api) == json.dumps(again)


def test_the_document_keeps_the_rules_of_openapi(api) -> None:
    """Version, info, paths, operations, responses, component names and references are as OpenAPI 3.1 wants them."""
    assert api["openapi"] == "3.1.0"
    assert {"title", "version"} <= api["info"].keys()
    for path, item in api["paths"].items():
        assert re.fullmatch(r"/v1/[a-z0-9-]+/predict", path)
        operation = item["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        assert all(re.fullmatch("[1-5][0-9]{2}", status) for status in operation["responses"])
        assert all("description" in each or "$ref" in each for each in operation["responses"].values())
    operations = [item["post"]["operationId"] for item in api["paths"].values()]
    assert len(set(operations)) == len(operations)
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for kind in api["components"].values() for name in kind)


def _references(node):
    if isinstance(node, dict):
        yield from [node["$ref"]] if "$ref" in node else []
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def test_every_reference_leads_somewhere_and_every_schema_is_one(api) -> None:
    """No reference dangles, and each schema is valid JSON Schema 2020-12 (the dialect of OpenAPI 3.1)."""
    for reference in _references(api):
        node = api
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def _validator(api, path, status=None):
    operation = api["paths"][path]["post"]
    content = operation["requestBody"]["content"] if status is None else operation["responses"][status]["content"]
    return Draft202012Validator(content["application/json"]["schema"] | {"components": api["components"]})


def test_bodies_and_answers_keep_the_schemas(api) -> None:
    """One object, an array, and answers with their decision validate; an unknown field does not."""
    request = _validator(api, "/v1/returns/predict")
    record = {"store_id": 1, "items": ["MILK"]}
    assert request.is_valid(record)
    assert request.is_valid([record, record | {"channel": None}])
    assert not request.is_valid([])
    assert not request.is_valid(record | {"till": 3})
    answer = _validator(api, "/v1/returns/predict", "200")
    decision = dict.fromkeys(("id", "integration", "source", "version", "contract", "cause"), "x")
    decision |= {"reason": "STATIC", "degraded": False}
    assert answer.is_valid({"prediction": {"items": ["A"], "scores": [0.5]}, "decision": decision})
    assert answer.is_valid({"predictions": [{"items": [], "scores": []}], "decision": decision})
    assert not answer.is_valid({"prediction": {"items": ["A"], "scores": [2]}, "decision": decision})


def _of(kind, **options) -> dict:
    return {"logicalType": kind, "logicalTypeOptions": options}


def _ours(**properties) -> dict:
    listed = [{"property": key, "value": value, "vendor": "brownfield"} for key, value in properties.items()]
    return {"customProperties": listed}


FIELDS = {
    "integer": (_of("integer", format="u8", maximum=9), [0, 9, None, -1, 10, "1", 1.5]),
    "number": (_of("number", exclusiveMinimum=0) | {"required": True}, [0.1, 0, None, "x"]),
    "string": (_of("string", minLength=2, pattern="^A"), ["AB", "A", "BB", 1]),
    "enum": (_of("string") | {"enum": [{"value": "A"}]}, ["A", None, "B"]),
    "sentinel": (_of("integer", minimum=0) | _ours(sentinels=[-1]), [0, -1, -2, None]),
    "list": (_of("array", maxItems=1) | {"items": _of("boolean")}, [[], [True], [1], [True, True], [None]]),
    "tensor": (_ours(tensor={"dtype": "int8", "shape": [2, None]}), [[[1], [2]], [[1]], [[1], [200]], None]),
}


@pytest.mark.parametrize(("field", "values"), FIELDS.values(), ids=FIELDS)
def test_the_json_schema_admits_what_the_contract_admits(compile_fields, field, values) -> None:
    """For one field at a time, the published schema and the checker accept the same values."""
    schema = compile_fields({"name": "v", **field})
    validator = Draft202012Validator(json_schema(schema))
    for value in values:
        try:
            schema.rows.decode(json.dumps({"v": value}).encode())
            accepted = True
        except InputRefused:
            accepted = False
        assert validator.is_valid({"v": value}) == accepted, value


def test_a_contract_without_a_request_has_no_door(flagship_document) -> None:
    """A contract that lacks the request or the response cannot be published."""
    flagship_document["schema"] = flagship_document["schema"][:2]
    with pytest.raises(ContractError, match="request"):
        openapi({"returns": compile_contract(flagship_document)})
