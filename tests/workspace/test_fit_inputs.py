"""What the declaration and the command line give a search, before anything is measured."""

import hashlib
import shutil

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.errors import DeclarationError
from brownfield.integration import DeclarationErrors
from brownfield.workspace.fit_inputs import RowsFrom, gather
from brownfield.workspace.init import init_from_model

REGIONS = np.array(["north", "south"] * 30)
SLICES = "constraints: {accuracy: {metric: accuracy, max_drop: 0.01, slices: {region: 0.02}}}\n"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A workspace around a small classifier, with sixty rows in a file of its own."""
    folder = tmp_path_factory.mktemp("begun")
    weights = numpy_helper.from_array(np.random.default_rng(2).normal(size=(32, 5)).astype("f4"), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
    shop = init_from_model(folder / "shop", folder / "m.onnx", "shop").folder
    points = np.random.default_rng(4).normal(size=(60, 32)).astype("f4")
    np.savez(shop / "integrations/shop/rows.npz", x=points, truth=np.arange(60) % 5, region=REGIONS)
    shutil.copy(folder / "m.onnx", shop / "integrations/shop/student.onnx")
    return shop


@pytest.fixture
def shop(begun, tmp_path):
    """A workspace of the test's own."""
    return shutil.copytree(begun, tmp_path / "shop")


def declare(shop, text):
    """Add keys to the declaration."""
    path = shop / "integrations/shop/integration.yaml"
    path.write_text(path.read_text() + text)


def gathered(shop, said=RowsFrom(), seed=0):  # noqa: B008 (frozen)
    """What a search would be given."""
    return gather(shop, "shop", said, prices=None, seed=seed)


def table(shop, rows, **columns):
    """A table of the pipeline, in two parts."""
    folder = shop / "var/data/shop/visits"
    folder.mkdir(parents=True)
    points = np.random.default_rng(4).normal(size=(rows, 32)).astype("f4")
    whole = pa.table({"x": pa.array(points.tolist(), pa.list_(pa.float32())), **columns})
    pq.write_table(whole.slice(0, rows // 2), folder / "000000.parquet")
    pq.write_table(whole.slice(rows // 2), folder / "000001.parquet")


def test_declared_rows_labels_and_groups_are_taken(shop) -> None:
    """A group's column beside the inputs is no input, and the command line comes before the declaration."""
    declare(shop, SLICES + "fit: {rows: {file: rows.npz, labels: truth}}\n")
    given = gathered(shop)
    assert (len(given.rows), given.rows.labels[:3].tolist()) == (60, [0, 1, 2])
    assert given.rows.slices["region"].tolist() == REGIONS.tolist()
    assert given.wanted.slices == {"region": 0.02}
    other = shop / "integrations/shop/other.npz"
    np.savez(other, x=np.zeros((4, 32), "f4"), region=REGIONS[:4])
    assert len(gathered(shop, RowsFrom(file=other)).rows) == 4


def test_without_rows_groups_and_candidates_are_left_out(shop) -> None:
    """Nothing can be said of them on invented rows, and the notes say so."""
    declare(shop, SLICES + "fit: {candidates: {student: student.onnx}}\n")
    given = gathered(shop)
    assert given.rows.invented
    assert given.wanted.slices == {}
    assert list(given.given) == ["student"]
    assert any("declared candidates were left out" in note for note in given.notes)


@pytest.mark.full
def test_a_table_of_the_pipeline_gives_rows(shop) -> None:
    """Its parts are one table; which rows of a large one are taken depends on the seed alone."""
    table(shop, 6000, truth=pa.array(np.arange(6000) % 5), region=pa.array(["a", None] * 3000))
    declare(shop, SLICES + "fit: {rows: {table: visits, labels: truth}}\n")
    first, again, other = (gathered(shop, seed=seed).rows for seed in (0, 0, 1))
    assert len(first) == 5500
    assert first.digest == again.digest != other.digest
    assert set(first.slices["region"]) == {"a", "(missing)"}
    assert len(first.labels) == 5500


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (RowsFrom(table="sales"), "a table of the pipeline"),
        (RowsFrom(table="../shop"), "a table of the pipeline"),
        (RowsFrom(labels="truth"), "rows beside it"),
    ],
)
def test_rows_that_are_not_there_are_refused(shop, said, message) -> None:
    """A table that was never brought in, one outside the data, and labels of nothing."""
    table(shop, 8)
    with pytest.raises(DeclarationError, match=message):
        gathered(shop, said)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "slices.region: expected a column of the rows"),
        ({"region": np.arange(60)}, None),
        ({"region": np.random.default_rng(0).normal(size=60)}, None),
        ({"region": np.arange(65)}, "at most 64 values"),
    ],
    ids=["none", "numbers", "many-within", "too-many"],
)
def test_groups_that_are_none_are_refused(shop, columns, message) -> None:
    """A field that the rows lack, and one with a value for nearly every row."""
    declare(shop, SLICES)
    rows = len(columns.get("region", range(60)))
    np.savez(shop / "r.npz", x=np.zeros((rows, 32), "f4"), **columns)
    if message is None:
        assert len(np.unique(gathered(shop, RowsFrom(file=shop / "r.npz")).rows.slices["region"])) == rows
        return
    with pytest.raises(DeclarationError, match=message):
        gathered(shop, RowsFrom(file=shop / "r.npz"))


def test_a_classified_field_makes_no_groups(shop) -> None:
    """Its values would stand in the report."""
    contract = shop / "integrations/shop/contract.odcs.yaml"
    text = contract.read_text()
    contract.write_text(text.replace('- name: "x"\n', '- name: "x"\n        classification: personal\n', 1))
    assert contract.read_text() != text
    declare(shop, SLICES.replace("region", "x"))
    with pytest.raises(DeclarationError, match="a field without a classification"):
        gathered(shop, RowsFrom(file=shop / "integrations/shop/rows.npz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: {source: {module: a.py, train: b.py}}", "module and train"),
        ("fit: {source: {}}", "one of module, torchscript and train"),
        ("fit: {source: {train: a.py, weights: w.pt}}", "weights beside module alone"),
        ("fit: {rows: {file: a.npz, table: b}}", "either file or table"),
        ("fit: {prices: ../prices.yaml}", "a path inside the folder"),
    ],
)
def test_contradictions_are_refused_with_their_line(shop, text, message) -> None:
    """Before any file is read."""
    declare(shop, text + "\n")
    with pytest.raises((DeclarationError, DeclarationErrors), match=message) as caught:
        gathered(shop)
    assert "integration.yaml:" in str(caught.value)


TRAIN = """\
import torch


def train(rows, labels):
    assert rows["x"].shape == (30, 32) and labels.shape == (30,)
    return {"model": torch.nn.Linear(32, 5), "student": torch.nn.Linear(32, 5, bias=False)}
"""


@pytest.mark.full
def test_a_program_that_trains_never_sees_the_rows_that_judge(shop) -> None:
    """It has half of the rows, the search the other half; its student is a candidate, and the bundle stays as it is."""
    pytest.importorskip("torch")
    (shop / "integrations/shop/training").mkdir()
    (shop / "integrations/shop/training/fit.py").write_text(TRAIN)
    declare(
        shop, "fit:\n  source: {train: training/fit.py, exporter: classic}\n  rows: {file: rows.npz, labels: truth}\n"
    )
    given = gathered(shop)
    assert (len(given.rows), len(given.rows.labels)) == (30, 30)
    assert list(given.given) == ["student"]
    assert given.source != given.bundle.folder
    assert (given.source / "model.onnx").is_file()
    assert given.notes[0].startswith("model by the classic exporter")
    assert gathered(shop).source == given.source


def test_a_metric_in_another_encoding_is_refused(shop) -> None:
    """With its key and the place of the byte, where a traceback of the decoder was."""
    home = shop / "integrations/shop"
    (home / "mine.py").write_bytes(b"# caf\xe9\n")
    with (home / "integration.yaml").open("a") as declaration:
        declaration.write("constraints: {accuracy: {metric: mine, max_drop: 0.01, file: mine.py}}\n")
    with pytest.raises(DeclarationError, match=r"constraints\.accuracy\.file: .* offset 5"):
        gather(shop, None, RowsFrom(), prices=None, seed=0)


def test_declared_files_that_lack_are_named(shop) -> None:
    """Serving goes on without them; a search does not begin."""
    (shop / "integrations/shop/student.onnx").unlink()
    declare(shop, "fit: {candidates: {student: student.onnx}}\n")
    with pytest.raises(DeclarationError, match=r"fit\.candidates\.student"):
        gathered(shop)


@pytest.mark.parametrize("damage", ["bundle", "copy", "copy with more"])
def test_what_is_fitted_is_what_was_verified_whatever_becomes_of_the_bundle(shop, damage) -> None:
    """A file that is put into the bundle while it is measured for minutes is neither measured nor bundled anew."""
    given = gathered(shop)
    sealed = {entry.path: entry.sha256 for entry in given.bundle.manifest.files}
    path = (given.bundle.folder if damage == "bundle" else given.source) / "model.onnx"
    if damage == "copy with more":
        (given.source / "weights.bin").write_bytes(b"")
        given = gathered(shop)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        if damage == "copy":
            given = gathered(shop)
    assert hashlib.sha256((given.source / "model.onnx").read_bytes()).hexdigest() == sealed["model.onnx"]
    assert [each.name for each in given.source.iterdir()] == ["model.onnx"]
