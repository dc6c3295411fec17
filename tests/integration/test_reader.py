"""The reader: every problem at once, in our own words, with the nearest key."""

import pickle

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, DeclarationErrors, load_document
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.reader import Reader
from brownfield.integration.workspace import WorkspaceDeclaration

SPOILED = """\
integration: next-items
falback: {deadline_ms: 50}
contract: contract.odcs.yaml
constraints: {memory_mib: -5, cpu_cores: 2}
fallback: {deadline_ms: 10 s}
"""


def test_every_problem_is_told_in_the_order_of_the_file() -> None:
    """B-66, B-68: one reading tells the typo, the negative size and the unit in the value, by line."""
    with pytest.raises(DeclarationErrors) as refused:
        Reader(load_document(SPOILED, "i.yaml"), DEFAULT).read(IntegrationDeclaration)
    typo, size, unit = refused.value.errors
    assert (typo.where, typo.path, typo.next_step) == ("i.yaml:2", "falback", "Did you mean fallback?")
    assert (size.where, size.path, size.got) == ("i.yaml:4", "constraints.memory_mib", "-5")
    assert size.expected == "a whole number in [16, 16777216]"
    assert str(unit) == (
        "i.yaml:5: fallback.deadline_ms: expected a whole number in [1, 600000], got the text '10 s'. "
        "The unit stands in the key: write a plain number of milliseconds."
    )


def test_one_problem_is_raised_as_itself(mistakes) -> None:
    """A single mistake is a plain error whose parts are attributes, and survives pickling."""
    document = load_document("integration: x\ncontract: c.yaml\npurpose: 5\n", "i.yaml")
    with pytest.raises(DeclarationError) as refused:
        Reader(document, DEFAULT).read(IntegrationDeclaration)
    assert not isinstance(refused.value, DeclarationErrors)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 (our own bytes)


def test_many_problems_survive_pickling() -> None:
    """A bundle of errors keeps its parts when it crosses a process."""
    both = DeclarationErrors([DeclarationError("a", where="f:1"), DeclarationError("b", where="f:2")])
    again = pickle.loads(pickle.dumps(both))  # noqa: S301 (our own bytes)
    assert [error.where for error in again.errors] == ["f:1", "f:2"]
    assert str(again) == "f:1: a\nf:2: b"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("sorces: {}\n", "Did you mean sources?", id="B-66-top"),
        pytest.param("fallback: {dedline_ms: 5}\n", "Did you mean deadline_ms?", id="B-66-nested"),
        pytest.param("sources: {a: {feed: true, connection: pos, tabel: t}}\n", "Did you mean table?", id="B-66-flat"),
        pytest.param(
            "sources: {a: {lookup: k, connection: d, path: a.csv, format: csv, delimeter: x}}\n",
            "Did you mean delimiter?",
            id="B-66-format-option",
        ),
        pytest.param("model: {pth: bundles/x}\n", "Did you mean path?", id="B-66-short-form"),
        pytest.param("doors: {htp: {}}\n", "Did you mean http?", id="B-66-door"),
        pytest.param("doors: {http: {port: 80}}\n", "expected one of the keys priority", id="B-66-one-key"),
        pytest.param("fallback: {deadline_ms:50}\n", "A space is missing after the colon.", id="B-66-colon"),
        pytest.param("zzz: 1\n", "the unknown key zzz", id="B-66-nothing-near"),
        pytest.param('"a\\nb\\e[31m": 1\n', "a\\nb\\x1b[31m", id="B-66-control-characters"),
        pytest.param("fallback: {deadline_ms: '50'}\n", "write a plain number of milliseconds", id="B-68-quoted"),
        pytest.param("fallback: {deadline_ms: -1}\n", "got -1", id="B-68-negative"),
        pytest.param("fallback: {deadline_ms: 0}\n", "got 0", id="B-68-zero"),
        pytest.param("fallback: {deadline_ms: 50.5}\n", "a whole number", id="B-68-fraction"),
        pytest.param("fallback: {deadline_ms: 99999999999}\n", "[1, 600000]", id="B-68-overflow"),
        pytest.param("fallback: {deadline_ms: true}\n", "got true", id="B-68-boolean"),
        pytest.param("fallback: {deadline_ms: }\n", "got nothing", id="B-68-empty"),
        pytest.param("constraints: {memory_mib: 512 MB}\n", "mebibytes", id="B-68-unit-in-value"),
        pytest.param("constraints: {memory_mib: 1e300}\n", "a whole number", id="B-68-float"),
        pytest.param("fallback:\n", "expected a mapping", id="left-empty"),
        pytest.param("fallback: []\n", "got a list", id="list-for-mapping"),
        pytest.param("sources: {a: 5}\n", "got 5", id="number-for-mapping"),
        pytest.param("fallback: {chain: {}}\n", "expected a list", id="mapping-for-list"),
        pytest.param("purpose: 1.10\n", "Quote it if it is meant as text.", id="number-for-text"),
        pytest.param("sources: {a: {feed: yes, connection: c, table: t}}\n", "Only true and false", id="B-20-yes"),
    ],
)
def test_mistakes_are_told_in_plain_words(mistakes, text: str, part: str) -> None:
    """Each mistake is one refusal that says where, what was expected, what was found, and the next step."""
    told = mistakes(text)
    assert len(told) == 1
    assert part in told[0]
    assert told[0].startswith("i.yaml:3: ")


def test_a_required_key_that_is_missing(mistakes) -> None:
    """A missing key is told with its own sentence of help."""
    assert mistakes("contract: c.yaml\n", head="") == [
        "i.yaml:1: expected the key integration, got none. Name of the integration; also the V2 name of its model."
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("connections: {pos: {kind: sqlite, path: a.db, password: hunter2}}\n", id="B-71-password"),
        pytest.param("connections: {pos: {kind: sqlite, path: a.db, api_key: hunter2}}\n", id="B-71-api-key"),
        pytest.param("access: {tokens: [{name: a, role: viewer, token: hunter2}]}\n", id="B-71-token"),
        pytest.param("connections: {pos: {kind: sqlite, path: 'postgres://u:hunter2@db/x'}}\n", id="B-71-userinfo"),
        pytest.param("serving: {host: 'http://u:hunter2@h/'}\n", id="B-71-host"),
        pytest.param("secret: hunter2\n", id="B-71-top"),
        pytest.param('workspce: "-----BEGIN RSA PRIVATE KEY-----hunter2"\n', id="B-71-private-key"),
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(text: str) -> None:
    """B-71: the message says how to name a secret, and does not hold it."""
    with pytest.raises(DeclarationError) as refused:
        Reader(load_document("workspace: shop\n" + text, "w.yaml"), DEFAULT).read(WorkspaceDeclaration)
    assert "hunter2" not in str(refused.value)
    assert "{env: NAME}" in str(refused.value)


@pytest.mark.parametrize("text", ["${HOME}", "{{7*7}}", "%s%n", "$(id)", "`id`", "{env: X}"])
def test_texts_are_data(declared, text: str) -> None:
    """B-70: nothing in a text is expanded."""
    assert declared(f"purpose: '{text}'\n").purpose == text
