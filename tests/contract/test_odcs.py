"""Compiling ODCS documents: what is read, what is refused, and what an error says."""

import copy
import hashlib
import json

import pytest

from brownfield.contract import compile_contract
from brownfield.errors import ContractError


def test_a_contract_carries_its_identity_schemas_and_digest(contract, flagship_document) -> None:
    """Identity, schemas and a digest of the canonical document come out of a contract."""
    canonical = json.dumps(flagship_document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert contract.reference == "till@1.2.0"
    assert list(contract.schemas) == ["transactions", "products", "request", "response"]
    assert contract.digest == hashlib.sha256(canonical).hexdigest()


def test_the_digest_ignores_the_order_of_keys_and_sees_every_value(flagship_document) -> None:
    """Two spellings of one document have one digest, and any changed value has another."""
    turned = dict(reversed(flagship_document.items()))
    changed = copy.deepcopy(flagship_document) | {"status": "draft"}
    digest = compile_contract(flagship_document).digest
    assert compile_contract(turned).digest == digest != compile_contract(changed).digest


def test_units_and_classification_are_carried(compile_fields, make_document) -> None:
    """Unit, classification, description and examples stand in the compiled field."""
    _, ours, _ = make_document
    field = compile_fields(
        {
            "name": "weight",
            "logicalType": "number",
            "classification": "confidential",
            "description": "Net weight.",
            "examples": [1.5],
            "customProperties": ours(unit="kg"),
        }
    ).field("weight")
    assert (field.unit, field.classification, field.description, field.examples) == (
        "kg",
        "confidential",
        "Net weight.",
        (1.5,),
    )


def test_parts_that_are_not_interpreted_are_admitted(flagship_document) -> None:
    """Team, price, servers, service levels and checks of other engines do not hinder, and the checks are listed."""
    flagship_document |= {
        "team": {"name": "merchandising"},
        "servers": [{"server": "mainframe", "type": "custom"}],
        "slaProperties": [{"property": "latency", "value": 4}],
        "price": {"priceAmount": 1},
    }
    flagship_document["schema"][1]["quality"] = [
        {"type": "text", "description": "Looks right."},
        {"type": "custom", "engine": "soda", "implementation": "checks"},
    ]
    assert compile_contract(flagship_document).unchecked == ("schema[1].quality[0]", "schema[1].quality[1]")


def test_an_error_says_where_what_and_the_nearest_key() -> None:
    """B-66: an unknown key is an error with file, line, path and the nearest known key."""
    schema = {"name": "request", "properties": [{"name": "q", "logicalType": "integer", "requird": True}]}
    broken = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "t", "version": "1", "schema": [schema]}
    lines = {("schema", 0, "properties", 0, "requird"): "contract.odcs.yaml:7"}
    with pytest.raises(ContractError) as caught:
        compile_contract(broken, lambda path: lines[tuple(path)])
    assert str(caught.value) == (
        "contract.odcs.yaml:7: schema[0].properties[0].requird: expected a known key, got 'requird'. "
        "Did you mean 'required'?"
    )


def test_a_property_of_ours_that_stands_as_a_key_is_told_how_it_is_written() -> None:
    """The standard has no key for units, sentinels and the like: the message says where they go."""
    schema = {"name": "request", "properties": [{"name": "q", "logicalType": "number", "unit": "kg"}]}
    broken = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "t", "version": "1", "schema": [schema]}
    with pytest.raises(ContractError) as caught:
        compile_contract(broken)
    written = "Write customProperties: [{property: unit, value: ..., vendor: brownfield}]."
    assert caught.value.next_step == written


def _integer(**more) -> dict:
    return {"name": "q", "logicalType": "integer", **more}


def _ours(**properties) -> list[dict]:
    return [{"property": key, "value": value, "vendor": "brownfield"} for key, value in properties.items()]


CONTRADICTIONS = {
    "B-66-option": _integer(logicalTypeOptions={"minimun": 1}),
    "B-66-vendor-property": _integer(customProperties=_ours(sentinel=[1])),
    "B-66-logical-type": {"name": "q", "logicalType": "int"},
    "B-67-minimum-above-maximum": _integer(logicalTypeOptions={"minimum": 5, "maximum": 1}),
    "B-67-empty-open-range": _integer(logicalTypeOptions={"exclusiveMinimum": 5, "maximum": 5}),
    "B-67-two-minima": _integer(logicalTypeOptions={"exclusiveMinimum": 5, "minimum": 5}),
    "B-67-lengths": {"name": "q", "logicalType": "string", "logicalTypeOptions": {"minLength": 3, "maxLength": 2}},
    "B-67-impute-out-of-range": _integer(
        logicalTypeOptions={"minimum": 1}, customProperties=_ours(nullPolicy="impute", impute=0)
    ),
    "B-67-impute-is-sentinel": _integer(customProperties=_ours(nullPolicy="impute", impute=9, sentinels=[9])),
    "B-67-impute-without-value": _integer(customProperties=_ours(nullPolicy="impute")),
    "B-67-value-without-impute": _integer(customProperties=_ours(impute=1)),
    "B-67-required-and-pass": _integer(required=True, customProperties=_ours(nullPolicy="pass")),
    "B-67-enum-of-another-type": _integer(enum=[{"value": "one"}]),
    "B-67-enum-twice": _integer(enum=[{"value": 1}, {"value": 1}]),
    "B-67-enum-out-of-range": _integer(enum=[{"value": 7}], logicalTypeOptions={"maximum": 5}),
    "B-67-example-out-of-range": _integer(examples=[7], logicalTypeOptions={"maximum": 5}),
    "B-67-sentinel-of-another-type": _integer(customProperties=_ours(sentinels=["N/A"])),
    "B-67-bound-beyond-width": _integer(logicalTypeOptions={"format": "i8", "maximum": 300}),
    "B-67-fractional-bound": _integer(logicalTypeOptions={"minimum": 0.5}),
    "B-67-zone-and-default": {
        "name": "q",
        "logicalType": "timestamp",
        "logicalTypeOptions": {"timezone": True, "defaultTimezone": "UTC"},
    },
    "B-67-unknown-zone": {
        "name": "q",
        "logicalType": "timestamp",
        "logicalTypeOptions": {"defaultTimezone": "Mars/Olympus"},
    },
    "B-67-relative-zone": {
        "name": "q",
        "logicalType": "timestamp",
        "logicalTypeOptions": {"defaultTimezone": "../etc/passwd"},
    },
    "B-67-required-items": {"name": "q", "logicalType": "array", "items": {"logicalType": "integer", "required": True}},
    "B-67-list-of-lists": {"name": "q", "logicalType": "array", "items": {"logicalType": "array"}},
    "B-67-non-finite-integer": _integer(customProperties=_ours(nonFinite=True)),
    "B-67-tensor-of-unknown-width": {"name": "q", "customProperties": _ours(tensor={"dtype": "bfloat16", "shape": []})},
    "B-68-negative-length": {"name": "q", "logicalType": "string", "logicalTypeOptions": {"maxLength": -1}},
    "B-68-not-a-number": _integer(logicalTypeOptions={"minimum": "1"}),
    "B-68-infinite": {"name": "q", "logicalType": "number", "logicalTypeOptions": {"minimum": float("inf")}},
    "B-69-control-characters-in-a-name": {"name": "q\x00", "logicalType": "integer"},
    "B-74-nested-repetition": {"name": "q", "logicalType": "string", "logicalTypeOptions": {"pattern": "(a+)+$"}},
    "vendor-forgotten": _integer(customProperties=[{"property": "unit", "value": "kg"}]),
    "format-of-text": {"name": "q", "logicalType": "string", "logicalTypeOptions": {"format": "email"}},
    "nested-object": {"name": "q", "logicalType": "object"},
    "unknown-relationship": _integer(relationships=[{"to": "nowhere.key"}]),
    "unique-float-items": {
        "name": "q",
        "logicalType": "array",
        "logicalTypeOptions": {"uniqueItems": True},
        "items": {"logicalType": "number"},
    },
    "unique-float": {"name": "q", "logicalType": "number", "unique": True},
    "metric-not-computed": _integer(quality=[{"type": "library", "metric": "nullValues", "mustBe": 0}]),
}


@pytest.mark.parametrize("broken", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused_with_its_place(compile_fields, broken) -> None:
    """A property that contradicts itself or the standard is refused, and the error names its path."""
    with pytest.raises(ContractError) as caught:
        compile_fields(broken)
    assert caught.value.path.startswith("schema[0]")
    assert caught.value.expected


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"apiVersion": "v2.2.0"}, "apiVersion"),
        ({"kind": "Table"}, "kind"),
        ({"schema": []}, "schema"),
        ({"version": 1.2}, "version"),
        ({"owner": "me"}, "owner"),
        ({"id": ""}, "id"),
    ],
)
def test_a_document_of_another_kind_is_refused(flagship_document, change, path) -> None:
    """Other versions and kinds, missing parts and unknown keys of the document are refused by path."""
    with pytest.raises(ContractError) as caught:
        compile_contract(flagship_document | change)
    assert caught.value.path == path


def test_names_stand_once(compile_fields, flagship_document) -> None:
    """Two properties, two objects or two rules of one name are refused."""
    with pytest.raises(ContractError, match="no other property"):
        compile_fields(_integer(), _integer())
    with pytest.raises(ContractError, match="no other object"):
        compile_contract(flagship_document | {"schema": [*flagship_document["schema"], flagship_document["schema"][1]]})
    check = {"id": "twice", "type": "custom", "engine": "brownfield", "implementation": {"rule": "q > 0"}}
    with pytest.raises(ContractError, match="more than once"):
        compile_fields(_integer(), quality=[check, check])


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (_integer(relationships=[{"to": "nowhere.key"}]), r"schema\[0\]\.properties\[0\]: .*got 'nowhere.key'"),
        ({"name": "a", "logicalType": "object"}, "got 'object'. Flatten it"),
        ({"name": "a", "logicalType": "time"}, "got 'time'. Take it as a string"),
        (_integer(logicalTypeOptions={"format": "i7"}), "got 'i7'$"),
        (_integer(required="yes"), "got 'yes'$"),
        ({"name": "a", "logicalType": "number", "enum": [{"value": True}]}, "got true"),
    ],
)
def test_an_error_says_what_to_do_once_and_in_words_of_yaml(compile_fields, broken, told) -> None:
    """The property that refers is named, refused types say what is taken instead, and no list stands there twice."""
    with pytest.raises(ContractError, match=told):
        compile_fields(broken)


def test_a_relationship_must_fit_the_type_of_its_target(flagship_document) -> None:
    """A reference between an integer and a text is refused."""
    flagship_document["schema"][1]["properties"][0] = {"name": "product_id", "logicalType": "string"}
    with pytest.raises(ContractError, match="one type"):
        compile_contract(flagship_document)


def test_looking_up_a_name_that_is_not_there_names_the_nearest(contract) -> None:
    """A schema or field looked up by a wrong name is refused with the nearest one."""
    with pytest.raises(ContractError, match="Did you mean 'request'"):
        contract.schema("requests")
    with pytest.raises(ContractError, match="Did you mean 'items'"):
        contract.schema("request").field("item")
