"""The other keys of ``integration.yaml``: short forms, defaults, and contradictions."""

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, DoorsSpec, FallbackSpec, ModelSpec, RolloutSpec, Spec, load_document
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.reader import Reader, each_error

WHOLE = """\
integration: store-recommendations
purpose: Suggest the next items at the till.
owner: merchandising
contract: contract.odcs.yaml
sources:
  products:
    lookup: product_id
    chain:
      - {connection: mainframe_drop, path: PRODUCT.DAT, format: copybook, layout: product.cpy}
      - {connection: warehouse, table: products}
      - {snapshot: last_good, max_age_h: 24}
  baskets: {feed: true, connection: pos, table: tx, cursor: {column: line_id, key: line_id, lag_s: 300}}
constraints: {cpu_cores: 1, memory_mib: 512, latency_p99_ms: 20, accuracy: {metric: recall_at_10, max_drop: 0.01}}
features: features.yaml
model: {uri: "models:/store-recommender@champion", cache: {ttl_s: 300}}
fallback: {deadline_ms: 50, chain: [previous_version, {table: popular_by_store.csv}, {constant: {items: []}}]}
doors:
  http: {}
  soap: {}
  sql_table: {connection: pos, request_table: BF_REQUEST, response_table: BF_RESPONSE}
rollout:
  unit: store_id
  steps:
    - setMirror: {weight: 100, min_samples: 5000, analysis: [agreement]}
    - setSegment: {file: pilot-stores.csv, analysis: [request-success-rate, uplift]}
    - pause: {}
    - setWeight: 25
    - setWeight: 100
monitors: {drift: {false_alarms_per_month: 1}, slo: {availability: 0.999}, outcomes: {key: decision_id, delay_d: 7}}
"""


class SoapDoor(Spec, frozen=True, kw_only=True):
    """A door as a plug-in would bring it."""


class SqlTableDoor(Spec, frozen=True, kw_only=True):
    """A door with options, as a plug-in would bring it."""

    connection: str
    request_table: str
    response_table: str


def test_a_whole_declaration_and_its_doors() -> None:
    """Every part of a declaration is read; doors that are not installed are the only mistakes, until they are."""
    with pytest.raises(DeclarationError) as refused:
        Reader(load_document(WHOLE, "i.yaml"), DEFAULT).read(IntegrationDeclaration)
    assert [error.path for error in each_error(refused.value)] == ["doors.soap", "doors.sql_table"]
    registry = DEFAULT.adding("doors", "soap", SoapDoor).adding("doors", "sql_table", SqlTableDoor)
    spec = Reader(load_document(WHOLE, "i.yaml"), registry).read(IntegrationDeclaration)
    assert list(spec.doors.options) == ["http", "soap", "sql_table"]
    assert spec.doors.options["sql_table"].request_table == "BF_REQUEST"
    assert [step.kind for step in spec.rollout.steps][:2] == ["set_mirror", "set_segment"]


def test_the_smallest_declaration(declared) -> None:
    """Name and contract are enough; everything else has a default that is safe for the legacy system."""
    spec = declared("")
    assert spec.model is None
    assert spec.fallback == FallbackSpec(deadline_ms=1000, chain=())
    assert list(spec.doors.options) == ["http"]
    assert spec.constraints.cpu_cores == 1
    assert (spec.rollout, spec.monitors, spec.features) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bundles/x", ModelSpec(path="bundles/x")),
        ("{path: bundles/x}", ModelSpec(path="bundles/x")),
        ("models:/x@champion", ModelSpec(uri="models:/x@champion")),
        ("{uri: 'models:/x/3'}", ModelSpec(uri="models:/x/3")),
    ],
)
def test_a_model_is_a_folder_or_a_name(declared, text: str, spec: ModelSpec) -> None:
    """A bundle is named by its folder or by its place in the registry, short or long."""
    assert declared(f"model: {text}\n").model == spec


def test_fallback_steps(declared) -> None:
    """The previous version, a table and a constant are asked in the declared order."""
    chain = declared(
        "fallback: {deadline_ms: 50, chain: [previous_version, {table: t.csv}, {constant: {items: []}}]}\n"
    ).fallback.chain
    assert [step.kind for step in chain] == ["previous_version", "table", "constant"]
    assert chain[1].table == "t.csv"
    assert chain[2].constant == {"items": []}


def test_the_rollout_of_the_design(declared) -> None:
    """Steps keep Argo's words; a weight may stand alone."""
    rollout = declared(
        """\
model: bundles/x
rollout:
  unit: store_id
  steps:
    - setMirror: {weight: 100, min_samples: 5000, analysis: [agreement]}
    - setSegment: {file: pilot-stores.csv, analysis: [uplift]}
    - pause: {}
    - pause: {duration_s: 3600}
    - setWeight: 25
    - analysis: [request-duration]
    - setWeight: {weight: 100, analysis: [uplift]}
"""
    ).rollout
    assert isinstance(rollout, RolloutSpec)
    kinds = ["set_mirror", "set_segment", "pause", "pause", "set_weight", "analysis", "set_weight"]
    assert [step.kind for step in rollout.steps] == kinds
    assert rollout.steps[0].set_mirror.min_samples == 5000
    assert rollout.steps[2].pause.duration_s is None
    assert [step.set_weight.weight for step in rollout.steps if step.set_weight] == [25.0, 100.0]


def test_monitors_and_constraints_of_the_design(declared) -> None:
    """What is watched and what the site can bear are read with their units."""
    spec = declared(
        "constraints: {cpu_cores: 1, memory_mib: 512, latency_p99_ms: 20, expected_rate_per_s: 50, "
        "accuracy: {metric: recall_at_10, max_drop: 0.01}}\n"
        "monitors: {drift: {false_alarms_per_month: 1}, slo: {availability: 0.999, latency_p99_ms: 20}, "
        "outcomes: {key: decision_id, delay_d: 7}}\n"
    )
    assert spec.constraints.accuracy.max_drop == 0.01
    assert spec.monitors.slo.availability == 0.999
    assert spec.monitors.outcomes.delay_d == 7.0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("rollout: {steps: [setWeight: 50]}", "a model beside rollout", id="B-67-rollout-no-model"),
        pytest.param("model: b\nrollout: {steps: [setWeight: 250]}", "a number in (0, 100], got 250", id="B-68-weight"),
        pytest.param("model: b\nrollout: {steps: [setWeight: 0]}", "Weights are cumulative", id="B-68-zero"),
        pytest.param("model: b\nrollout: {steps: [setWeight: true]}", "got true", id="B-68-boolean"),
        pytest.param(
            "model: b\nrollout: {steps: [setWeight: 50, setWeight: 50]}",
            "a weight above 50, got 50",
            id="B-67-does-not-grow",
        ),
        pytest.param(
            "model: b\nrollout: {steps: [{setWeight: 50}, {setWeight: 25}]}",
            "a weight above 50, got 25",
            id="B-67-shrinks",
        ),
        pytest.param(
            "model: b\nrollout: {steps: [{setWeight: 60}, {setMirror: {weight: 60}}]}",
            "mirroring before any setWeight",
            id="B-67-canary-and-shadow",
        ),
        pytest.param(
            "model: b\nrollout: {steps: [{setWeight: 60, pause: {}}]}",
            "exactly one key in a step, got 2",
            id="B-67-two-in-one",
        ),
        pytest.param("model: b\nrollout: {steps: [{}]}", "exactly one key in a step, got 0", id="empty-step"),
        pytest.param(
            "model: b\nrollout: {steps: [{setSegment: {file: a.csv}}]}", "a unit beside steps", id="B-67-no-unit"
        ),
        pytest.param("model: b\nrollout: {steps: [{setwieght: 5}]}", "Did you mean setWeight?", id="B-66"),
        pytest.param("model: b\nrollout: {unit: a}", "the key steps", id="no-steps"),
        pytest.param("model: {path: a, uri: 'models:/a/1'}", "either path or uri, got both", id="B-67-both-models"),
        pytest.param("model: {cache: {ttl_s: 5}}", "either path or uri, got neither", id="B-67-no-model"),
        pytest.param("model: 'models:/a'", "models:/name/version", id="uri"),
        pytest.param("model: 'https://h/x'", "a path inside the folder", id="B-72-url"),
        pytest.param("fallback: {chain: [{table: a.csv, constant: {}}]}", "exactly one of", id="B-67-two-answers"),
        pytest.param("fallback: {chain: [{}]}", "exactly one of", id="B-67-no-answer"),
        pytest.param(
            "fallback: {chain: [{constant: {}}, {table: a.csv}]}",
            "the constant as the last step",
            id="B-67-after-constant",
        ),
        pytest.param("fallback: {chain: [previous]}", "previous_version, table, constant", id="unknown-short-form"),
        pytest.param(
            "constraints: {latency_p99_ms: 100}\nfallback: {deadline_ms: 50}",
            "at least constraints.latency_p99_ms (100)",
            id="B-67-p99",
        ),
        pytest.param(
            "monitors: {slo: {latency_p99_ms: 100}}\nfallback: {deadline_ms: 50}",
            "at least monitors.slo",
            id="B-67-slo",
        ),
        pytest.param(
            "model: {path: b, cache: {ttl_s: 7200}}\n"
            "sources: {a: {lookup: k, chain: [{connection: c, table: t}, {snapshot: last_good, max_age_h: 1}]}}",
            "at most the shortest max_age_h of a source (1 h), got 7200 s",
            id="B-67-cache",
        ),
        pytest.param("monitors: {slo: {availability: 1}}", "a number in (0, 1), got 1", id="availability"),
        pytest.param(
            "doors: {soap: {}}", "one of the installed doors (http), got the text soap", id="door-not-installed"
        ),
        pytest.param("doors: [http]", "a key for each door", id="door-list"),
    ],
)
def test_declarations_that_contradict_themselves(mistakes, text: str, part: str) -> None:
    """B-67: each contradiction is one refusal that names the keys."""
    told = mistakes(text + "\n")
    assert [part in each for each in told] == [True]


def test_no_door_is_a_choice(declared) -> None:
    """An integration without doors is read, for batch work alone."""
    assert declared("doors: {}\n").doors == DoorsSpec(options={})
