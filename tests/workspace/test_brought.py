"""The how-to page on Python models, run as it stands, and what its commands refuse."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from brownfield.errors import DeclarationError
from brownfield.serving import serve_workspace
from brownfield.workspace.brought import environments_of, read_brought
from brownfield.workspace.check import check
from brownfield.workspace.init import init_empty, init_from_model
from brownfield.workspace.make_bundle import make_bundle
from harness.wheels import downloaded, lock_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "serve-a-python-model.md").read_text(encoding="utf-8")
BUNDLE = Path("integrations") / "shop" / "bundles" / "shop"


def run_commands_of_the_page(verb: str, folder: Path) -> None:
    """Every ``brownfield`` command of the page with a verb, as it stands."""
    for command in re.findall(rf"^\$ brownfield ({verb} .+)$", PAGE, re.MULTILINE):
        arguments = [sys.executable, "-m", "brownfield", *shlex.split(command)]
        done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.full
def test_the_page_runs_as_it_stands(tmp_path):
    """The class, ``init`` with a lock and wheels, a second version, the environment on another host, a prediction."""
    [text] = re.findall(r"<!-- file: risk.py -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "risk.py").write_text(text)
    random = np.random.default_rng(7)
    np.savez(
        tmp_path / "weights.npz",
        hidden=random.normal(size=(3, 8)).astype("f4"),
        out=random.normal(size=(8, 1)).astype("f4"),
    )
    (tmp_path / "requirements.lock").write_bytes(lock_of(downloaded("numpy", "1.26.4", tmp_path / "wheels")))
    run_commands_of_the_page("init", tmp_path)
    shop = tmp_path / "shop"
    manifest = json.loads((shop / BUNDLE / "manifest.json").read_text())
    assert manifest["python"] == {"module": "risk.py", "class_name": "Risk"}
    shutil.rmtree(shop / "var")
    [finding] = [each for each in check(shop).findings if "environment" in each.message]
    assert "--build-environment" in finding.next_step
    run_commands_of_the_page("bundle", tmp_path)
    assert [each for each in check(shop).findings if "environment" in each.message] == []
    second = json.loads((shop / BUNDLE.with_name("shop-2") / "manifest.json").read_text())
    assert second["version"] == "2"
    assert len(list((shop / "var" / "environments").glob("[!.]*"))) == 1
    with serve_workspace(shop) as served:
        answer = httpx.post(f"{served.url}/v1/shop/predict", json={"amounts": [1, 2, 3]}).json()
    assert answer["decision"]["source"] == "model"
    assert 0 < answer["prediction"]["risk"][0] < 1


@pytest.mark.parametrize(
    ("model", "files", "told"),
    [
        ("nowhere.onnx", (), "--model: .*nowhere.onnx"),
        ("nowhere.py:Risk", (), "--model: .*nowhere.py"),
        ("{here}:Risk", ("nowhere.npz",), "--file: .*nowhere.npz"),
        ("{here}", ("{here}",), r"--file: .*MODULE\.py:CLASS, got .*risk\.py"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, model, files, told):
    """A file that is not there, or files beside a graph, are refused before anything is written."""
    here = tmp_path / "risk.py"
    here.write_text("")
    with pytest.raises(DeclarationError, match=told):
        read_brought(model.format(here=here), [Path(file.format(here=here)) for file in files])


def test_a_bundle_is_made_for_an_integration(tmp_path):
    """Elsewhere there is no contract to make it for, and no workspace to build its environment in."""
    model = tmp_path / "risk.py"
    model.write_text("")
    with pytest.raises(DeclarationError, match="integrations/NAME/bundles"):
        make_bundle(tmp_path / "bundle", read_brought(f"{model}:Risk"), version="1")
    with pytest.raises(DeclarationError, match=r"brownfield\.yaml"):
        environments_of(tmp_path)
    init_empty(tmp_path / "shop")
    assert environments_of(tmp_path / "shop" / "integrations")


def test_a_folder_of_another_name_is_that_of_its_integration(tmp_path):
    """The declaration says the name; a bundle is made for the integration in whose folder it is to lie."""
    shop = tmp_path / "shop"
    init_empty(shop)
    declaration = shop / "integrations/shop/integration.yaml"
    declaration.write_text(declaration.read_text().replace("integration: shop", "integration: till"))
    there = shop / "integrations/shop/bundles/till"
    there.mkdir(parents=True)
    (tmp_path / "risk.py").write_text("")
    with pytest.raises(DeclarationError, match="a folder that is not there yet"):
        make_bundle(there, read_brought(f"{tmp_path / 'risk.py'}:Risk"), version="1")


def _graph(folder, nodes, given, got, weights):
    graph = helper.make_graph(nodes, "g", [given], [got], [numpy_helper.from_array(*weight) for weight in weights])
    model = folder / "any.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
    return model


def _second_version(shop, model):
    return make_bundle(shop / BUNDLE.with_name("shop-2"), read_brought(str(model)), version="2")


def test_a_second_version_keeps_the_records_that_the_first_was_begun_with(tmp_path):
    """A model that answers real records only is made a second time with those of the first version."""
    nodes = [helper.make_node("Sub", ["id", "first"], ["row"]), helper.make_node("Gather", ["table", "row"], ["y"])]
    model = _graph(
        tmp_path,
        nodes,
        helper.make_tensor_value_info("id", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4]),
        [(np.array([100]), "first"), (np.ones((10, 4), "f4"), "table")],
    )
    (tmp_path / "sample.json").write_text('[{"id": 101}, {"id": 105}]')
    init_from_model(tmp_path / "shop", model, sample=tmp_path / "sample.json")
    bundle = _second_version(tmp_path / "shop", model)
    assert bundle.golden.inputs["id"].tolist() == [101, 105]


def test_a_second_version_is_tried_with_larger_sizes(tmp_path):
    """A model that needs images of some size gets invented ones of that size, also in its second version."""
    model = _graph(
        tmp_path,
        [helper.make_node("Conv", ["image", "kernel"], ["y"])],
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, "h2", "w2"]),
        [(np.ones((2, 3, 5, 5), "f4"), "kernel")],
    )
    init_from_model(tmp_path / "shop", model)
    shutil.rmtree(tmp_path / "shop" / BUNDLE)  # nothing to take over
    bundle = _second_version(tmp_path / "shop", model)
    assert bundle.golden.inputs["image"].shape == (8, 3, 16, 16)


def test_what_is_no_new_bundle_is_refused(tmp_path):
    """A folder that is there, and a module without its class, are refused with the words that mend it."""
    init_empty(tmp_path / "shop")
    model = tmp_path / "risk.py"
    model.write_text("")
    (tmp_path / "shop" / BUNDLE).mkdir(parents=True)
    with pytest.raises(DeclarationError, match="a folder of its own"):
        make_bundle(tmp_path / "shop" / BUNDLE, read_brought(f"{model}:Risk"), version="1")
    with pytest.raises(DeclarationError, match=r"MODULE\.py:CLASS"):
        make_bundle(tmp_path / "shop" / BUNDLE.with_name("two"), read_brought(str(model)), version="1")


DECLARED = {
    "contract.odcs.yaml": """\
apiVersion: v3.2.0
kind: DataContract
id: shop
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    customProperties: [{property: batched, value: true, vendor: brownfield}]
    properties: [{name: product_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    customProperties: [{property: batched, value: true, vendor: brownfield}]
    properties: [{name: score, logicalType: number, required: true}]
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: price, logicalType: number, required: true}
""",
    "integration.yaml": """\
integration: shop
contract: contract.odcs.yaml
features: features.yaml
sources:
  products:
    lookup: product_id
    chain: [{connection: crm, endpoint: {path: '/p/{product_id}'}, format: json}, {constant: {price: 7}}]
enrich: [{source: products, on: product_id, take: [price]}]
fallback: {deadline_ms: 100}
doors: {http: {}}
""",
    "features.yaml": """\
inputs:
  - {field: product_id, kind: numeric, tensor: x}
  - {field: price, kind: numeric, tensor: x, scaling: standard, mean: 5, std: 2}
outputs: [{field: score, kind: scalar, tensor: y}]
""",
}


def _declared(tmp_path):
    home = tmp_path / "shop" / BUNDLE.parent.parent
    home.mkdir(parents=True)
    (tmp_path / "shop" / "brownfield.yaml").write_text(
        "workspace: shop\nconnections:\n  crm: {kind: http, base_url: {env: CRM_URL}, network: this_machine, "
        "tls: {mode: 'off'}, budget: {max_connections: 1, requests_per_s: 10}}\n"
    )
    for name, text in DECLARED.items():
        (home / name).write_text(text)
    model = _graph(
        tmp_path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1]),
        [(np.ones((2, 1), "f4"), "w")],
    )
    return home, model


def test_a_first_bundle_takes_the_declared_features(tmp_path):
    """Where no bundle is there yet, the features file says what the graph is fed, also of a lookup's fields."""
    _, model = _declared(tmp_path)
    bundle = make_bundle(tmp_path / "shop" / BUNDLE, read_brought(str(model)), version="1")
    assert [each.field for each in bundle.features.inputs] == ["product_id", "price"]
    assert bundle.golden.inputs["x"].shape == (8, 2)


def test_features_that_were_not_learned_make_no_bundle(tmp_path):
    """What the features file leaves open is to be declared or learned, and the refusal says so."""
    home, model = _declared(tmp_path)
    (home / "features.yaml").write_text(DECLARED["features.yaml"].replace(", mean: 5, std: 2", ""))
    with pytest.raises(DeclarationError, match="learn it from rows"):
        make_bundle(tmp_path / "shop" / BUNDLE, read_brought(str(model)), version="1")
