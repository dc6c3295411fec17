"""``brownfield fit`` from a workspace to a verdict, its reports and a bundle."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.model import ServedSession, TensorSpec, open_bundle, probe
from brownfield.serving.loading import _may_share_batches
from brownfield.workspace.fit_rows import _as_graph, read_rows, stand_in_rows
from brownfield.workspace.init import init_from_model

LIMITS = """\
constraints: {{cpu_cores: 1, memory_mib: 512, latency_p99_ms: {}, accuracy: {{metric: accuracy, max_drop: 0.05}}}}
"""


@pytest.fixture
def shop(tmp_path):
    """A workspace around a wide classifier."""
    random = np.random.default_rng(2)
    weights, nodes, value = [], [], "x"
    for index, (before, after) in enumerate(((16, 256), (256, 256), (256, 4))):
        matrix = random.normal(size=(before, after)) * np.sqrt(2 / before)
        weights.append(numpy_helper.from_array(matrix.astype("f4"), f"w{index}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"h{index}"]))
        nodes.append(helper.make_node("Relu" if after != 4 else "Identity", [f"h{index}"], [f"r{index}"]))
        value = f"r{index}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])
    y = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "shop.onnx")
    begun = init_from_model(tmp_path / "shop", tmp_path / "shop.onnx")
    return begun.folder


def _bundle(shop):
    spec = load_workspace(shop).integrations["shop"]
    return open_bundle(spec.file(spec.model.path)), spec


def _judged(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command again while the machine is too busy for a verdict: it goes on where it ended."""
    for _ in range(5):
        done = _fit(folder, *options)
        if "INVALID" not in done.stdout:
            break
    return done


def _fit(shop, *options):
    command = [sys.executable, "-m", "brownfield", "fit", str(shop), "--name", "shop", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _declare(shop, latency_ms):
    path = shop / "integrations/shop/integration.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("constraints")]
    path.write_text("\n".join(lines) + "\n" + LIMITS.format(latency_ms))


def _rows(tmp_path, **more):
    points = np.random.default_rng(4).normal(size=(600, 16)).astype("f4")
    np.savez(tmp_path / "rows.npz", x=points, **more)
    return str(tmp_path / "rows.npz")


@pytest.mark.full
@pytest.mark.timeout(400)
def test_what_fits_is_written_as_a_bundle_and_reported(shop, tmp_path) -> None:
    """Exit 0; the new bundle is probed sound and names its session, machine and cost curve; both reports are whole."""
    _declare(shop, 1000)
    done = _judged(shop, "--rows", _rows(tmp_path), "--time-limit-s", "30", "--write-bundle", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["fit"]["choice"]["verdict"] == "FITS"
    before, _ = _bundle(shop)
    bundle = open_bundle(Path(report["written"]))
    fitted = bundle.provenance["fit"]
    assert fitted["of"] == before.digest
    assert set(fitted["cost_curve_us"]) == {"1", "8", "32"}
    assert fitted["machine"]["cpu_model"]
    assert bundle.session == ServedSession()
    assert bundle.metrics["fit_drop_upper"] <= 0.05
    assert probe(bundle).batch_isolated is True
    page = Path(report["html"]).read_text(encoding="utf-8")
    assert all(reason for reason in report["fit"]["choice"]["reasons"].values())
    assert page.count("<tr>") > len(report["fit"]["rows"])
    assert "Plotly" in page
    assert "agreement with the fp32 model stands for accuracy" in page
    kept = json.loads(Path(report["json"]).read_text(encoding="utf-8"))
    assert set(kept["pareto"]) <= set(report["fit"]["choice"]["reasons"])
    for written in (report["written"], report["written"] + "-2"):  # found again as it was; else one beside it
        again = _fit(shop, "--rows", _rows(tmp_path), "--time-limit-s", "30", "--write-bundle", "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["written"] == written
        open_bundle(Path(written))
        (Path(report["written"]) / "manifest.json").write_text("{}")


@pytest.mark.full
@pytest.mark.timeout(400)
def test_what_does_not_fit_ends_with_exit_code_1_and_the_shortfall(shop) -> None:
    """Without rows nothing is quantised, and the note says so; ways out are priced from the book, for gates too."""
    _declare(shop, 0.001)
    home = shop / "integrations/shop"
    (home / "prices.yaml").write_text("currency: EUR\nday_rate: 360\nbatch: {effort_days: 5}\n")
    with (home / "integration.yaml").open("a") as declaration:
        declaration.write("fit: {prices: prices.yaml}\n")
    done = _judged(shop, "--time-limit-s", "30", "--write-bundle")
    assert done.returncode == 1, done.stderr
    assert "DOES_NOT_FIT" in done.stdout
    assert "short of latency_p99_ms: 0.001 declared" in done.stdout
    assert "int8" not in done.stdout.replace("nothing is quantised", "")
    assert "note: no rows were given" in done.stdout
    assert len(list((home / "bundles").iterdir())) == 1
    assert re.search(r"batches ahead of the requests +\? +measured +50 EUR", done.stdout)
    kept = json.loads((shop / "var/fit/shop/report.json").read_text(encoding="utf-8"))
    latency = kept["gate"]["limits"][0]
    assert (kept["gate"]["passed"], latency["name"], latency["met"]) == (False, "latency_p99_ms", False)
    assert kept["advice"]["scaling"]["points"][0]["threads"] == 1
    page = (shop / "var/fit/shop/report.html").read_text(encoding="utf-8")
    assert all(each["name"] in page for each in kept["advice"]["options"])


def test_rows_come_from_arrays_and_labels_beside_them(shop, tmp_path) -> None:
    """By the graph's input names; the labels leave the columns."""
    bundle, spec = _bundle(shop)
    np.savez(tmp_path / "r.npz", x=np.zeros((3, 16)), truth=[0, 1, 2])
    rows = read_rows(tmp_path / "r.npz", bundle, spec.contract.schema("request"), "truth")
    assert (len(rows), rows.labels.tolist(), rows.samples[0]["x"].dtype) == (3, [0, 1, 2], np.float32)


def test_stand_ins_are_marked_as_invented(shop) -> None:
    """They serve for timing alone."""
    bundle, spec = _bundle(shop)
    rows = stand_in_rows(bundle, spec.contract.schema("request"))
    assert rows.invented
    assert len(rows) > 0


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        ({"z": np.zeros((2, 16))}, None, "the graph's inputs 'x'"),
        ({"x": np.zeros((2, 16))}, "truth", "a column of the rows"),
        ({"x": np.array([{}, {}], dtype=object)}, None, "without objects"),
        ({"x": np.zeros((2, 15))}, None, r"x: expected rows of the shape \[16\], got \[15\]"),
        ({"x": np.zeros(16)}, None, r"rows of the shape \[16\], got \[\]"),
        ({"x": np.zeros((2, 15)), "more": np.zeros(2)}, None, r"rows of the shape \[16\], got \[15\]"),
        ({"x": np.float32(1)}, None, "arrays of one length, at least one row"),
        ({"x": np.zeros((0, 16))}, None, "arrays of one length, at least one row"),
        ({"x": np.zeros((3, 16)), "truth": np.zeros(2)}, "truth", "got 'truth' of 2, 'x' of 3"),
        ({"x": np.full((2, 16), "1")}, None, "values that are float32 exactly, got <U1"),
    ],
)
def test_rows_that_are_none_are_refused(shop, tmp_path, columns, labels, message) -> None:
    """Other columns, shapes and kinds, a missing label, and objects, which would need unsafe deserialisation (S-08)."""
    bundle, spec = _bundle(shop)
    np.savez(tmp_path / "r.npz", allow_pickle=True, **columns)
    with pytest.raises(DeclarationError, match=message):
        read_rows(tmp_path / "r.npz", bundle, spec.contract.schema("request"), labels)


@pytest.mark.parametrize(("value", "kept"), [(3, True), (3.0, True), (3.5, False), (2**40, False), (np.nan, False)])
def test_a_value_that_the_graph_would_not_see_as_it_is_is_refused(tmp_path, value, kept) -> None:
    """Fractions and numbers that are too large for whole numbers of the graph: they were cut to other ones."""
    spec = TensorSpec("x", "int32", (None, 2))
    given = np.array([[1, value]])
    if kept:
        assert _as_graph("r.npz", spec, given, batched=True).tolist() == [[1, 3]]
    else:
        with pytest.raises(DeclarationError, match="int32 exactly"):
            _as_graph("r.npz", spec, given, batched=True)


@pytest.mark.parametrize("kind", ["U", "S", object])
def test_texts_are_kept(kind) -> None:
    """As an array holds them, or as the features of a bundle give them."""
    given = _as_graph("r.npz", TensorSpec("x", "str", (None, 2)), np.array([["a", "b"]]).astype(kind), batched=True)
    assert (given.dtype, given.shape) == (np.dtype(object), (1, 2))


def test_an_array_without_a_name_is_no_rows(shop, tmp_path) -> None:
    """What ``numpy.save`` writes, under the name of an archive, is refused like any other file."""
    bundle, spec = _bundle(shop)
    with (tmp_path / "r.npz").open("wb") as file:
        np.save(file, np.zeros((3, 16)))
    with pytest.raises(DeclarationError, match=r"numpy\.savez"):
        read_rows(tmp_path / "r.npz", bundle, spec.contract.schema("request"), None)


def test_parquet_with_other_columns_is_refused(shop, tmp_path) -> None:
    """The message names what the graph and the contract want."""
    bundle, spec = _bundle(shop)
    pq.write_table(pa.table({"z": [1]}), tmp_path / "r.parquet")
    with pytest.raises(DeclarationError, match="request fields 'x'"):
        read_rows(tmp_path / "r.parquet", bundle, spec.contract.schema("request"), None)


def test_a_bundle_that_fit_saw_leaking_is_never_batched() -> None:
    """Golden records may be too alike to show the leak to the probe: the manifest says it."""
    features, report = SimpleNamespace(batched=True), SimpleNamespace(batch_isolated=True)
    for alone in (False, True):
        bundle = SimpleNamespace(features=features, session=ServedSession(alone=alone))
        assert _may_share_batches(bundle, report) is not alone
