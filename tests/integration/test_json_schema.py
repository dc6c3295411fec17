"""The published JSON Schema: valid itself, and of one mind with the loader."""

import jsonschema
import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, declaration_schema, load_document
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.reader import Reader
from brownfield.integration.workspace import WorkspaceDeclaration

HEAD = "integration: x\ncontract: c.yaml\n"
GOOD = [
    HEAD,
    HEAD + "sources: {a: {lookup: k, connection: d, path: a.csv, format: csv, delimiter: ';'}}\n",
    HEAD + "sources: {a: {lookup: [k, l], chain: [{connection: d, table: t}, {snapshot: last_good, max_age_h: 2}]}}\n",
    HEAD + "sources: {a: {lookup: k, chain: [{connection: d, path: a, format: copybook, layout: c.cpy}]}}\n",
    HEAD + "sources: {a: {feed: true, connection: p, table: t, cursor: {column: c, key: c}}}\n",
    HEAD + "model: bundles/x\nfallback: {chain: [previous_version, {table: a.csv}, {constant: {b: 1}}]}\n",
    HEAD + "model: {uri: 'models:/x@champion', cache: {ttl_s: 5}}\n",
    HEAD
    + "model: b\nrollout: {steps: [{setMirror: {weight: 5}}, {pause: {}}, {setWeight: 5}, {setWeight: {weight: 6}}]}\n",
    HEAD + "monitors: {drift: {}, slo: {availability: 0.9}, outcomes: {}}\ndoors: {http: {}}\n",
    "workspace: w\n",
    "workspace: w\nconnections: {a: {kind: sqlite, path: a.db}, b: {kind: folder, path: {env: B}}}\n",
    "workspace: w\nserving: {port: 0}\naccess: {tokens: [{name: a, role: caller, token: {file: t}}]}\n",
]
BAD = [
    "integration: x\n",
    HEAD + "falback: {}\n",
    HEAD + "fallback: {deadline_ms: 10s}\n",
    HEAD + "fallback: {deadline_ms: }\n",
    HEAD + "fallback: {chain: [next_version]}\n",
    HEAD + "fallback: {chain: [{table: a.csv, constant: {}}]}\n",
    HEAD + "sources: {a: {lookup: k, connection: d, path: a.csv, format: csb}}\n",
    HEAD + "sources: {a: {lookup: k, connection: d, path: a.csv, format: csv, layout: x}}\n",
    HEAD + "sources: {a: {lookup: k, connection: d, path: a.dat, format: copybook}}\n",
    HEAD + "sources: {A: {lookup: k, connection: d, table: t}}\n",
    HEAD + "model: b\nrollout: {steps: [{setWeight: 0}]}\n",
    HEAD + "model: b\nrollout: {steps: [{}]}\n",
    HEAD + "doors: {soap: {}}\n",
    HEAD + "doors: {http: {port: 1}}\n",
    "workspace: W\n",
    "workspace: w\nconnections: {a: {kind: oracle, path: a.db}}\n",
    "workspace: w\nconnections: {a: {kind: sqlite, path: a.db, x: 1}}\n",
    "workspace: w\naccess: {tokens: [{name: a, role: caller, token: plain}]}\n",
    "workspace: w\naccess: {tokens: [{name: a, role: caller, token: {}}]}\n",
]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """The published schema, ready to judge."""
    schema = declaration_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("text", [*GOOD, *BAD])
def test_schema_and_loader_agree(validator, text: str) -> None:
    """What an editor underlines is what the loader refuses, and nothing else (contradictions apart)."""
    document = load_document(text, "x.yaml")
    spec = WorkspaceDeclaration if "workspace" in document.data else IntegrationDeclaration
    try:
        Reader(document, DEFAULT).read(spec)
        loads = True
    except DeclarationError:
        loads = False
    assert loads is (text in GOOD)
    assert validator.is_valid(document.data) is loads


def test_every_key_has_its_sentence() -> None:
    """Each key of each spec carries help, for editors and for messages."""
    definitions = declaration_schema()["$defs"]
    without = [
        f"{name}.{key}"
        for name, schema in definitions.items()
        for branch in schema.get("oneOf") or schema.get("anyOf") or [schema]
        for key, value in branch.get("properties", {}).items()
        if not (value.get("description") or "$ref" in value or "const" in value)
    ]
    assert without == []
