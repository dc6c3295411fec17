"""Contracts are drafted from graphs under exactly their names, and integrations get names that are safe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brownfield.contract import compile_contract
from brownfield.errors import DeclarationError
from brownfield.integration import load_document
from brownfield.model import Signature, TensorSpec
from brownfield.model.manifest import checked_slug
from brownfield.workspace.draft import draft_contract, slug

ODD_NAMES = [
    "gpu_0/data_0",
    "serving_default_input:0",
    "x.1",
    "my input",
    "größe",
    "入力",
    "😀",
    'quo"te',
    "back\\slash",
    "- dash",
    "{brace}",
    "#hash",
    "null",
    "true",
    "1e3",
    "a" * 200,
    "tab\there",
    "${HOME}",
]


def _compiled(inputs, outputs, **options):
    text = draft_contract(Signature(tuple(inputs), tuple(outputs), 17, 1), "any", **options)
    return compile_contract(load_document(text, "contract.odcs.yaml").data)


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_field_names_are_the_tensor_names(name):
    """Whatever a graph calls its tensors, the drafted fields are called exactly so."""
    contract = _compiled([TensorSpec(name, "float32", (2,), ("",))], [TensorSpec(name, "int64", (), ())])
    assert contract.schema("request").names == (name,)
    assert contract.schema("response").names == (name,)


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_any_text_survives_the_yaml(name):
    """Every name that a graph can hold comes back from the YAML as it was."""
    document = load_document(draft_contract(Signature((TensorSpec(name, "bool", (), ()),), (), 17, 1), "any"), "c.yaml")
    assert document.data["schema"][0]["properties"][0]["name"] == name


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "str",
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ],
)
def test_every_type_of_the_protocol_has_a_field(dtype):
    """Types and shapes, scalars included, are carried over one by one."""
    contract = _compiled(
        [TensorSpec("s", dtype, (), ()), TensorSpec("t", dtype, (None, 2), ("", ""))],
        [TensorSpec("y", dtype, (1,), ("",))],
    )
    fields = contract.schema("request").fields
    assert [(each.kind, each.dtype, each.shape) for each in fields] == [
        ("tensor", dtype, ()),
        ("tensor", dtype, (None, 2)),
    ]
    assert not contract.schema("request").batched


def test_a_common_named_first_dimension_counts_records():
    """Tensors with one common named first dimension make a batched contract whose shapes leave it out."""
    contract = _compiled(
        [TensorSpec("a", "float32", (None, 3), ("batch", "")), TensorSpec("b", "int64", (None,), ("batch",))],
        [TensorSpec("y", "float32", (None, None), ("batch", "classes"))],
    )
    assert contract.schema("request").batched
    assert [each.shape for each in contract.schema("request").fields] == [(3,), ()]
    assert contract.schema("response").field("y").shape == (None,)


@pytest.mark.parametrize(
    "output",
    [
        TensorSpec("y", "float32", (None, 2), ("other", "")),
        TensorSpec("y", "float32", (None, 2), ("", "")),
        TensorSpec("y", "float32", (1, 2), ("", "")),
        TensorSpec("y", "float32", (), ()),
    ],
    ids=["other-name", "no-name", "fixed", "scalar"],
)
def test_without_a_common_first_dimension_a_request_is_one_record(output):
    """Where the graph does not say that records stand side by side, the contract keeps the graph's full shapes."""
    contract = _compiled([TensorSpec("x", "float32", (None, 3), ("batch", ""))], [output])
    assert not contract.schema("request").batched
    assert contract.schema("request").field("x").shape == (None, 3)


@pytest.mark.parametrize(
    ("output", "options"),
    [
        (TensorSpec("y", "float32", None), {}),
        (TensorSpec("y", "float32", (1, 2), ("", "")), {"batched": True}),
        (TensorSpec("y", "float32", (), ()), {"batched": True}),
    ],
    ids=["no-rank", "fixed", "scalar"],
)
def test_what_cannot_be_drafted_is_refused(output, options):
    """An output without a number of dimensions, or a batch without a dimension for it, is a typed error."""
    with pytest.raises(DeclarationError):
        _compiled([TensorSpec("x", "float32", (None,), ("n",))], [output], **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Fraud Model", "fraud-model"),
        ("déjà_vu.onnx", "deja-vu-onnx"),
        ("../../etc/passwd", "etc-passwd"),
        ("--a--b--", "a-b"),
        ("入力", "model"),
        ("", "model"),
        ("CON", "con-model"),
        ("lpt1", "lpt1-model"),
        ("a" * 100, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
    ],
    ids=ascii,
)
def test_names_become_slugs(name, expected):
    """B-69: any folder name becomes a slug that is safe in a path, a URL and on any system."""
    assert slug(name) == expected


@given(name=st.text(max_size=80))
def test_a_slug_is_always_a_slug(name):
    """B-69: whatever comes in, the bundle's own rule admits what comes out, and making it again changes nothing."""
    assert slug(checked_slug(slug(name))) == slug(name)


def test_drafted_checkers_take_the_graphs_tensors():
    """The drafted contract admits a tensor of the graph's shape, and refuses another."""
    schema = _compiled(
        [TensorSpec("x", "float32", (None, 3), ("n", ""))], [TensorSpec("y", "float32", (None, 1), ("n", ""))]
    ).schema("request")
    array = np.ones((2, 3), dtype=np.float32)
    assert schema.rows.check_columns({"x": array}, 2).rows == 2
    assert schema.rows.decode(b'[{"x": [1, 2, 3]}]').columns["x"].tolist() == [[1.0, 2.0, 3.0]]
