"""The fallback table and the constant."""

import pytest

from brownfield.errors import DeclarationError
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.fallback.table import Table


@pytest.fixture
def load(retail, tmp_path):
    def from_text(text: str) -> Table:
        path = tmp_path / "popular.csv"
        path.write_text(text, encoding="utf-8")
        return Table.from_csv(path, retail.schema("request"), retail.schema("response"))

    return from_text


def test_a_table_answers_by_key(load):
    """Values come back in the types of the response, one per record and in the order of the records."""
    table = load("store_id,items,scores\n1,MILK|BREAD,0.5|0.25\n2,,\n")
    answer = table.answer({"store_id": [2, 1], "items": [[], []]}, 2)
    assert answer == {"items": [[], ["MILK", "BREAD"]], "scores": [[], [0.5, 0.25]]}


def test_a_table_without_a_match_passes_on(load):
    """One record without a row is enough: an answer is from one source."""
    table = load("store_id,items\n1,MILK\n")
    assert table.answer({"store_id": [1, 9]}, 2) is None


def test_a_key_column_that_the_request_lacks_passes_on(load):
    """Also when the checked columns do not have the key at all."""
    assert load("store_id,items\n1,MILK\n").answer({}, 1) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key"),
        ("store_id\n1\n", "no answer"),
        ("items\nMILK\n", "no key"),
        ("store,items\n1,MILK\n", "another name or type"),
        ("store_id,store_id,items\n1,1,MILK\n", "every column once"),
        ("store_id,items\nx,MILK\n", "popular.csv:2: store_id"),
        ("store_id,items\n\u0663,MILK\n", "popular.csv:2: store_id"),
        ("store_id,items\n1\n", "popular.csv:2: expected 2 cells, got 1"),
        ("store_id,items\n1,MILK\n1,BREAD\n", "popular.csv:3: the key stands in the table twice"),
        ("store_id,items,scores\n1,MILK,7\n", "popular.csv:2: this answer breaks the response contract"),
        ("store_id,items,scores\n1,MILK,nan\n", "popular.csv:2: "),
        ("store_id,items,scores\n1,MILK,0.2_5\n", "popular.csv:2: "),
        ("store_id,items,scores\n1,MILK, 0.25\n", "popular.csv:2: "),
        ("store_id,items,scores\n1,MILK,\u0661\n", "popular.csv:2: "),
        ('store_id,items\n1,"MILK\n', "cannot be read"),
    ],
)
def test_a_table_that_is_not_as_declared_is_refused_with_its_line(load, text, words):
    """At load, not when the answer is needed."""
    with pytest.raises(DeclarationError) as caught:
        load(text)
    assert words in str(caught.value)


def test_a_constant_that_breaks_the_contract_is_refused(retail):
    """At load: it is checked like a model's answer."""
    with pytest.raises(DeclarationError, match="constant fallback breaks"):
        Constant({"items": ["MILK"], "scores": [2.0]}, retail.schema("response"))


def test_a_constant_of_an_unbatched_contract_keeps_the_declared_shape(make_contract, tensor_property):
    """A request of such a contract is one record, whose tensors are not stacked."""
    contract = make_contract(
        [tensor_property("x", "float32", [2])], [tensor_property("y", "float32", [2])], batched=False
    )
    response = contract.schema("response")
    answer = Constant({"y": [1.0, 2.0]}, response).answer({}, 1)
    assert response.rows.check_columns(answer, 1).columns["y"].shape == (2,)
