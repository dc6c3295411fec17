"""A bundle is written whole or not at all, and opened only as it was written."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto

import brownfield.model
from brownfield.contract import compile_contract
from brownfield.errors import BundleRefused
from brownfield.model import (
    RULES,
    Golden,
    bundle_files,
    digest_of_bundle,
    open_bundle,
    reopen_bundle,
    sample_columns,
    write_bundle,
)
from brownfield.model import files as files_module


def test_memory_is_taken_for_what_a_file_holds_and_not_for_what_it_might(tmp_path):
    """Where address space is bounded, a small file is read under any limit."""
    (tmp_path / "small").write_bytes(b"small")
    assert files_module.read_plain(tmp_path / "small", limit_bytes=1 << 60) == b"small"
    with pytest.raises(BundleRefused, match="up to 4 bytes"):
        files_module.read_plain(tmp_path / "small", limit_bytes=4)


def test_a_bundle_is_read_back_as_it_was_written(bundle_folder, make_features, contract):
    """Name, version, features, golden records, signature, figures and origin survive the way through the folder."""
    bundle = open_bundle(bundle_folder)
    assert (bundle.name, bundle.version, bundle.contract_digest) == ("till-model", "1", contract.digest)
    assert bundle.features == make_features()
    assert [(each.name, each.dtype, each.shape) for each in bundle.inputs] == [("x", "float32", (None, 3))]
    assert bundle.golden.outputs["y"].tolist() == [[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]]
    assert bundle.metrics == {"recall_at_10": 0.179}
    assert bundle.provenance == {"seed": 7}
    assert {each.name for each in bundle_folder.iterdir()} == {
        "features.json",
        "golden.json",
        "manifest.json",
        "model.onnx",
    }


def test_the_same_parts_give_the_same_digest(bundle_folder, tmp_path, model_of, make_features, contract):
    """The digest depends on what is in the bundle, not on when or where it was made, and on all of what is in it."""
    first = open_bundle(bundle_folder)
    parts = {
        "name": "till-model",
        "version": "1",
        "model": model_of(),
        "features": make_features(),
        "contract": contract,
    }
    parts |= {"golden": first.golden, "metrics": first.metrics, "provenance": first.provenance}
    assert write_bundle(tmp_path / "again", **parts).digest == first.digest
    assert write_bundle(tmp_path / "other", **parts | {"version": "2"}).digest != first.digest
    assert write_bundle(tmp_path / "third", **parts | {"metrics": {"recall_at_10": 0.18}}).digest != first.digest


def _edit(folder, **changes):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")


def _files(folder, **changes):
    return [entry | changes for entry in json.loads((folder / "manifest.json").read_text())["files"]]


def _link(folder, make):
    target = folder.parent / "elsewhere"
    shutil.move(folder / "features.json", target)
    make(target, folder / "features.json")


TAMPERED = {
    "bundle-file-extra": lambda folder: (folder / "extra.txt").write_text("hello"),
    "bundle-file-missing": lambda folder: (folder / "golden.json").unlink(),
    "manifest-digest": lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b" "),
    "manifest-schema": lambda folder: _edit(folder, schema_version=2),
    "manifest-hash": lambda folder: _edit(folder, hash="md5"),
    "manifest-form": lambda folder: _edit(folder, surprise=True),
    "bundle-name": lambda folder: _edit(folder, name="../evil"),
    "bundle-version": lambda folder: _edit(folder, version="1/../2"),
    "bundle-file-name": lambda folder: _edit(folder, files=_files(folder, path="../model.onnx")),
    "bundle-file": lambda folder: _link(folder, lambda target, name: name.symlink_to(target)),
    "features-digest": lambda folder: _edit(folder, features_digest="0" * 64),
}


@pytest.mark.parametrize("rule", TAMPERED, ids=lambda rule: f"B-62-{rule}")
def test_a_bundle_that_was_tampered_with_is_refused(bundle_folder, rule):
    """Whatever was changed after writing is refused by a rule of its own."""
    TAMPERED[rule](bundle_folder)
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle_folder)
    assert refusal.value.rule == rule


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 2, "hash": "sha256"}'], ids=["empty", "version"])
def test_b62_what_is_wrong_with_a_manifest_is_said_with_its_place(bundle_folder, content):
    """B-62: a reload reads the bundles of all integrations: which one is empty after a power failure is to be told."""
    (bundle_folder / "manifest.json").write_bytes(content)
    for read in (open_bundle, digest_of_bundle):
        with pytest.raises(BundleRefused) as refused:
            read(bundle_folder)
        assert refused.value.where == str(bundle_folder / "manifest.json")


@pytest.mark.parametrize(
    ("tamper", "rule"),
    [
        (lambda folder: _link(folder, os.link), "bundle-file"),
        (lambda folder: (folder / "sub").mkdir(), "bundle-file-extra"),
        (lambda folder: (folder / ".hidden").touch(), "bundle-file-extra"),
        (lambda folder: (folder / "manifest.json").unlink(), "bundle-file-missing"),
        (lambda folder: _edit(folder, files=_files(folder)[:-1]), "manifest-form"),
        (lambda folder: _edit(folder, files=_files(folder) * 2), "manifest-form"),
        (lambda folder: _edit(folder, files=_files(folder, sha256="0" * 64)), "manifest-digest"),
        (
            lambda folder: _edit(folder, files=_files(folder, sha256="d41d8cd98f00b204e9800998ecf8427e")),
            "manifest-form",
        ),
        (lambda folder: _edit(folder, inputs=[]), "manifest-form"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\x80\x04]."), "manifest-form"),
        (lambda folder: (folder / "manifest.json").write_bytes(b'{"a":' * 100_000), "manifest-form"),
    ],
    ids=[
        "hard-link",
        "folder",
        "hidden",
        "no-manifest",
        "unlisted",
        "twice",
        "digest",
        "md5",
        "signature",
        "bytes",
        "deep",
    ],
)
def test_b62_further_ways_to_tamper(bundle_folder, tamper, rule):
    """B-62: links, folders, hidden files, and manifests that are not in the one form are refused."""
    tamper(bundle_folder)
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle_folder)
    assert refusal.value.rule == rule


def test_a_bundle_that_was_verified_is_opened_again_without_its_graph(bundle_folder):
    """Who starts its process reads golden records and lock as well; who asks it does without."""
    whole = open_bundle(bundle_folder)
    (bundle_folder / "model.onnx").unlink()
    again = reopen_bundle(bundle_folder, whole.digest, to_start=True)
    assert (again.manifest, again.lock, again.features.digest) == (whole.manifest, whole.lock, whole.features.digest)
    assert again.golden.to_json() == whole.golden.to_json()
    assert reopen_bundle(bundle_folder, whole.digest).golden is None
    with pytest.raises(BundleRefused) as caught:
        reopen_bundle(bundle_folder, "0" * 64)
    assert caught.value.rule == "manifest-digest"


def test_golden_records_that_were_changed_since_are_refused(bundle_folder):
    """The digest that was verified stands for each file that is read again."""
    digest = open_bundle(bundle_folder).digest
    golden = bundle_folder / "golden.json"
    golden.write_bytes(golden.read_bytes() + b" ")
    with pytest.raises(BundleRefused) as caught:
        reopen_bundle(bundle_folder, digest, to_start=True)
    assert caught.value.rule == "manifest-digest"


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that were hashed, in order."""
    names = []

    def spy(path):
        assert path.stat().st_size < 1 << 30, "that would take hours"
        names.append(path.name)
        return files_module.sha256_of(path)

    monkeypatch.setattr(bundle_files, "sha256_of", spy)
    return names


@pytest.fixture
def long_ago(monkeypatch):
    """Every file was changed a minute ago."""
    now_ns = files_module.time.time_ns
    monkeypatch.setattr(files_module, "time", SimpleNamespace(time_ns=lambda: now_ns() + 60 * 10**9))


def _in_place(path):
    """Change one byte, and give the file its times back."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(facts.st_size // 2)
        byte = file.read(1)[0] ^ 1
        file.seek(facts.st_size // 2)
        file.write(bytes([byte]))
    _tick(path, facts)


def _tick(path, facts):
    """Give a file its times back, in a later tick of the file system's clock than its last change."""
    while path.stat().st_ctime_ns == facts.st_ctime_ns or path.stat().st_mtime_ns != facts.st_mtime_ns:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _linked(path):
    """Give a file another name elsewhere, by which it could be changed."""
    facts = path.stat()
    os.link(path, path.parent.parent / "other")
    _tick(path, facts)


def _anew(path, data=None):
    """Put another file in its place by renaming, as rsync does."""
    fresh = path.parent.parent / "fresh"
    fresh.write_bytes(path.read_bytes() if data is None else data)
    fresh.rename(path)


CHANGED = {
    "in place": (_in_place, "manifest-digest"),
    "another": (lambda path: _anew(path, b"x" * path.stat().st_size), "manifest-digest"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b" "), "manifest-digest"),
    "gone": (Path.unlink, "bundle-file-missing"),
    "a link": (lambda path: path.symlink_to(path.rename(path.parent.parent / "elsewhere")), "bundle-file"),
    "linked": (_linked, "bundle-file"),
}


@pytest.mark.parametrize("name", ["model.onnx", "golden.json"])
@pytest.mark.parametrize(("change", "rule"), CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("settled", [True, False], ids=["long after", "at once"])
def test_b62_a_file_that_was_changed_since_is_refused_when_it_is_to_be_started(
    bundle_folder, request, change, rule, name, settled
):
    """B-62: whatever became of a file since it was verified, also within the tick in which it was."""
    if settled:
        request.getfixturevalue("long_ago")
    bundle = open_bundle(bundle_folder)
    bundle.check_files()
    change(bundle_folder / name)
    for _ in range(2):
        with pytest.raises(BundleRefused, match="changed since it was verified") as refusal:
            bundle.check_files()
        assert refusal.value.rule == rule
        assert name in str(refusal.value)


def test_what_has_not_changed_is_not_hashed_again(bundle_folder, hashed, long_ago):
    """A start costs a look at each file; a copy of the same content is hashed once, and goes on."""
    bundle = open_bundle(bundle_folder)
    assert sorted(hashed) == ["features.json", "golden.json", "model.onnx"]
    hashed.clear()
    bundle.check_files()
    assert hashed == []
    _anew(bundle_folder / "model.onnx")
    for _ in range(2):
        bundle.check_files()
        assert hashed == ["model.onnx"]


def test_marks_from_before_the_verification_stand_for_it(bundle_folder, hashed, long_ago):
    """Where another process verified it, all that has been the same since is not hashed here; without marks it is."""
    marks = files_module.marks_of(bundle_folder)
    digest = open_bundle(bundle_folder).digest
    hashed.clear()
    reopen_bundle(bundle_folder, digest, to_start=True, marks=marks).check_files()
    assert hashed == []
    reopen_bundle(bundle_folder, digest, to_start=True).check_files()
    assert sorted(hashed) == ["features.json", "golden.json", "model.onnx"]
    assert files_module.marks_of(bundle_folder / "nowhere") == {}


def test_a_giant_full_of_holes_is_refused_by_its_size(bundle_folder, hashed):
    """B-62: it is not read, which would take hours."""
    os.truncate(bundle_folder / "model.onnx", 1 << 40)
    with pytest.raises(BundleRefused, match=f"bytes, got {1 << 40}") as refusal:
        open_bundle(bundle_folder)
    assert refusal.value.rule == "manifest-digest"
    assert "model.onnx" not in hashed


def test_a_manifest_with_a_key_twice_is_refused(bundle_folder):
    """B-62: a manifest that says one thing to one reader and another to the next is refused."""
    path = bundle_folder / "manifest.json"
    path.write_text(path.read_text().replace('"name": "till-model"', '"name": "other",\n "name": "till-model"'))
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle_folder)
    assert refusal.value.rule == "manifest-form"


def _session(**keys) -> dict:
    return {"fit": {"session": keys}}


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        pytest.param({"name": "No Slug"}, "bundle-name", id="B-69-name"),
        pytest.param({"name": "a" * 64}, "bundle-name", id="B-69-long-name"),
        pytest.param({"version": ""}, "bundle-version", id="B-69-version"),
        pytest.param({"metrics": {"loss": float("nan")}}, "manifest-form", id="nan-metric"),
        pytest.param({"provenance": _session(engine="magic")}, "manifest-session", id="unknown-engine"),
        pytest.param({"provenance": _session(precision="bf16")}, "manifest-session", id="precision-of-another-engine"),
        pytest.param({"provenance": _session(threads=0)}, "manifest-session", id="no-threads"),
        pytest.param({"provenance": {"rows": 2**60}}, "manifest-form", id="large-number"),
        pytest.param({"provenance": {"script": object()}}, "manifest-form", id="object"),
        pytest.param({"model": b"nothing"}, "model-format", id="B-51-model"),
        pytest.param({"labels": ["d", "e", "f"]}, "features-labels", id="B-64-count"),
        pytest.param({"known": ["a", "b"]}, "features-signature", id="B-55-width"),
        pytest.param({"tensor": "z"}, "features-signature", id="B-55-input"),
        pytest.param({"golden": Golden({}, {})}, "golden-form", id="golden-names"),
        pytest.param(
            {"golden": Golden({"x": np.zeros((1, 3), "f8")}, {"y": np.zeros((1, 2), "f4")})},
            "golden-form",
            id="golden-dtype",
        ),
        pytest.param(
            {"golden": Golden({"x": np.zeros((1, 4), "f4")}, {"y": np.zeros((1, 2), "f4")})},
            "golden-form",
            id="golden-shape",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_nothing_is_left(
    tmp_path, model_of, make_features, contract, parts, rule
):
    """What does not fit together is refused at writing, and neither the folder nor a temporary one stays behind."""
    features = make_features(**{key: parts.pop(key) for key in ("labels", "known", "tensor") if key in parts})
    given = {"name": "n", "version": "1", "model": model_of(), "features": features, "contract": contract, **parts}
    with pytest.raises(BundleRefused) as refusal:
        write_bundle(tmp_path / "bundle", **given)
    assert refusal.value.rule == rule
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_written_over(bundle_folder, model_of, make_features, contract):
    """A bundle never changes: writing to an existing folder is refused, and the folder stays as it was."""
    before = open_bundle(bundle_folder).digest
    with pytest.raises(FileExistsError):
        write_bundle(
            bundle_folder, name="n", version="1", model=model_of(), features=make_features(), contract=contract
        )
    assert open_bundle(bundle_folder).digest == before


def _with_external_weights(folder, model_of):
    model = onnx.load_from_string(model_of())
    weight = model.graph.initializer[0]
    data = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    (folder / "weights.bin").write_bytes(data)
    (folder / "any.onnx").write_bytes(model.SerializeToString())
    return folder / "any.onnx"


def test_external_weights_travel_with_the_model(tmp_path, model_of, make_features, contract):
    """B-53: weights beside the model are copied, listed and verified; a swapped weights file is refused."""
    model = _with_external_weights(tmp_path, model_of)
    bundle = write_bundle(
        tmp_path / "b", name="n", version="1", model=model, features=make_features(), contract=contract
    )
    assert [entry.path for entry in bundle.manifest.files] == ["features.json", "model.onnx", "weights.bin"]
    (bundle.folder / "weights.bin").write_bytes(b"\1" * 24)
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle.folder)
    assert refusal.value.rule == "manifest-digest"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_model_given_by_a_link_is_copied(tmp_path, model_of, make_features, contract, link):
    """Download caches link their files; the person's own path is followed, and the bundle holds a plain copy."""
    (tmp_path / "blob").write_bytes(model_of())
    link(tmp_path / "model.onnx", tmp_path / "blob")
    bundle = write_bundle(
        tmp_path / "b",
        name="n",
        version="1",
        model=tmp_path / "model.onnx",
        features=make_features(),
        contract=contract,
    )
    assert open_bundle(bundle.folder).digest == bundle.digest
    assert not bundle.model_path.is_symlink()
    assert bundle.model_path.stat().st_nlink == 1


def test_a_refused_model_is_named(tmp_path, make_features, contract):
    """The refusal says which file of the person's is no model."""
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(BundleRefused, match=r"notes\.txt: ") as refusal:
        write_bundle(
            tmp_path / "b",
            name="n",
            version="1",
            model=tmp_path / "notes.txt",
            features=make_features(),
            contract=contract,
        )
    assert refusal.value.rule == "model-format"


def test_golden_answers_are_the_models_own(tmp_path, model_of, make_features, contract):
    """Golden records given as request columns are answered by the model itself, in a process of its own."""
    features = make_features()
    columns = sample_columns(contract.schema("request"), 4, seed=1, features=features)
    bundle = write_bundle(
        tmp_path / "b",
        name="n",
        version="1",
        model=model_of(),
        features=features,
        contract=contract,
        golden_columns=columns,
    )
    weights = np.array([[1, 0], [0, 2], [0.5, 0.5]], dtype=np.float32)
    assert bundle.golden.inputs["x"].shape == (4, 3)
    assert bundle.golden.inputs["x"].any()
    assert np.array_equal(bundle.golden.outputs["y"], bundle.golden.inputs["x"] @ weights)


def _contract(**changes):
    items = {"logicalType": "array", "items": {"logicalType": "string"}}
    request = {"name": "request", "properties": [{"name": "basket", **items}]}
    response = {"name": "response", "properties": [{"name": "items", **items}]}
    head = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "till",
        "version": changes.get("version", "1.0.0"),
        "status": "active",
    }
    return compile_contract({**head, "schema": [changes.get("request", request), changes.get("response", response)]})


def test_a_contract_that_says_more_fits(bundle_folder):
    """A contract with further words for the same fields still fits the bundle that was made before."""
    open_bundle(bundle_folder).check_contract(_contract())


@pytest.mark.parametrize(
    "changes",
    [
        {"request": {"name": "request", "properties": [{"name": "basked", "logicalType": "string"}]}},
        {"response": {"name": "response", "properties": [{"name": "item", "logicalType": "string"}]}},
        {
            "response": {
                "name": "response",
                "properties": [{"name": name, "logicalType": "string", "required": True} for name in ("items", "more")],
            }
        },
        {
            "request": {
                "name": "request",
                "properties": [{"name": "basket", "logicalType": "string"}],
                "customProperties": [{"property": "batched", "value": False, "vendor": "brownfield"}],
            }
        },
        {
            "response": {
                "name": "response",
                "properties": [{"name": "items", "logicalType": "array", "items": {"logicalType": "string"}}],
                "customProperties": [{"property": "batched", "value": False, "vendor": "brownfield"}],
            }
        },
    ],
    ids=["B-55-request", "B-55-response", "B-55-required", "B-55-batched", "B-55-batched-response"],
)
def test_a_contract_that_lacks_a_field_is_refused(bundle_folder, changes):
    """A contract without what the features read or fill, or with more to fill, is refused with the difference."""
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle_folder).check_contract(_contract(**changes))
    assert refusal.value.rule == "contract-fields"


def test_another_version_of_the_contract_is_refused(bundle_folder):
    """A bundle answers under the version of the contract that it was made for, and no other."""
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(bundle_folder).check_contract(_contract(version="2.0.0"))
    assert refusal.value.rule == "contract-digest"


@pytest.mark.full
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_golden_tensors_survive_their_file(data):
    """Every dtype and shape, NaN and the empty array included, is read back bit for bit; texts as texts."""
    dtypes = st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u8", "?"])
    array = data.draw(arrays.arrays(data.draw(dtypes), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)))
    texts = data.draw(arrays.arrays(object, arrays.array_shapes(max_dims=2), elements=st.text(max_size=4)))
    again = Golden.from_json(Golden({"a": array}, {"t": texts}).to_json())
    assert again.inputs["a"].dtype == array.dtype
    assert again.inputs["a"].tobytes() == array.tobytes()
    assert again.inputs["a"].shape == array.shape
    assert again.outputs["t"].tolist() == texts.tolist()


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "object", "shape": [1], "data": "AAAAAAAAAAA="},
        {"dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="},
        {"dtype": "float32", "shape": [3], "data": "AAAAAA=="},
        {"dtype": "float32", "shape": [-1], "data": "AAAAAA=="},
        {"dtype": "float32,float32", "shape": [1], "data": "AAAAAAAAAAA="},
        {"dtype": "str", "shape": [2], "texts": ["one"]},
        {"dtype": "nonsense", "shape": [1], "data": "AAAAAA=="},
        {"dtype": ">f4", "shape": [1], "data": "AAAAAA=="},
        {"dtype": "longdouble", "shape": [1], "data": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"dtype": "float32", "shape": [1], "data": "!"},
    ],
    ids=[
        "B-52-object",
        "B-30-object",
        "short",
        "negative",
        "structured",
        "texts",
        "dtype",
        "byte order",
        "long",
        "base64",
    ],
)
def test_golden_files_hold_plain_tensors_only(tensor):
    """Objects, structures and sizes that lie are refused; nothing in the file is ever executed."""
    text = json.dumps({"inputs": [{"name": "x", **tensor}], "outputs": []}).encode()
    with pytest.raises(BundleRefused) as refusal:
        Golden.from_json(text)
    assert refusal.value.rule == "golden-form"


def test_every_rule_is_raised_somewhere_and_documented():
    """The closed list, the code and the reference page name the same rules."""
    room = Path(brownfield.model.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in room.rglob("*.py") if path.name != "rules.py")
    raised = {
        rule for rule in RULES if f'"{rule}"' in code or rule.startswith(("probe-", "onnx-input-", "onnx-output-"))
    }
    assert raised == set(RULES)
    page = (Path(__file__).parents[2] / "docs" / "reference" / "bundle.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE)) == set(RULES)
