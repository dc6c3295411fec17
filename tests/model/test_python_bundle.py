"""Bundles of Python classes: written, verified, looked at without running, and probed like any other."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.errors import BundleRefused
from brownfield.model import Environments, PythonModel, open_bundle, probe, write_bundle
from harness.wheels import lock_of, make_wheel

pytestmark = pytest.mark.full

MODULE = """
class Doubler:
    inputs = {"x": ("float32", (None, 2))}
    outputs = {"y": ("float32", (None, 2))}

    def load(self, folder):
        self.factor = float((folder / "factor.txt").read_text())

    def predict(self, inputs):
        return {"y": inputs["x"] * inputs["x"].dtype.type(self.factor)}
"""


def field(name):
    value = {"dtype": "float32", "shape": [2]}
    return {
        "name": name,
        "required": True,
        "customProperties": [{"property": "tensor", "value": value, "vendor": "brownfield"}],
    }


CONTRACT = compile_contract(
    {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "double",
        "version": "1.0.0",
        "status": "active",
        "schema": [{"name": side, "properties": [field(name)]} for side, name in (("request", "x"), ("response", "y"))],
    }
)
FEATURES = identity(CONTRACT.schema("request"), CONTRACT.schema("response"))


@pytest.fixture
def write(tmp_path):
    """Bundle the class, with parts replaced."""

    def make(module=MODULE, class_name="Doubler", files=None, folder="bundle", **parts):
        (tmp_path / "doubler.py").write_text(module)
        (tmp_path / "factor.txt").write_text("2")
        model = PythonModel(tmp_path / "doubler.py", class_name, files or (tmp_path / "factor.txt",))
        columns = {"x": np.array([[1, 2], [3, 4], [5, 6]], np.float32)}
        return write_bundle(
            tmp_path / folder,
            name="doubler",
            version="1",
            model=model,
            features=FEATURES,
            contract=CONTRACT,
            **{"golden_columns": columns, **parts},
        )

    return make


def test_a_class_is_bundled_with_its_files_and_golden_records(write, tmp_path):
    """The manifest names the class and every file; the signature is what the class said; the probe agrees."""
    bundle = write()
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
        *("doubler.py", "factor.txt", "features.json", "golden.json", "manifest.json")
    ]
    assert (bundle.python.module, bundle.python.class_name) == ("doubler.py", "Doubler")
    assert [(each.name, each.dtype, each.shape) for each in bundle.inputs] == [("x", "float32", (None, 2))]
    assert bundle.golden.outputs["y"].tolist() == [[2, 4], [6, 8], [10, 12]]
    report = probe(bundle, program=bundle.program(None))
    assert (report.hello.engine, report.largest_difference, report.batch_isolated) == ("python", 0, True)
    assert report.warnings == ()
    assert write(folder="again").digest == bundle.digest


def test_an_onnx_bundle_has_the_manifest_it_always_had(bundle_folder):
    """Nothing of Python classes stands in the manifest of a graph, so older bundles keep their digests."""
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert "python" not in manifest
    assert open_bundle(bundle_folder).python is None


def test_b62_a_module_that_nobody_verified_is_refused_when_the_class_is_to_be_started(write):
    """B-62: a class could import it by its name; a graph reads its own files alone."""
    bundle = write()
    bundle.check_files()
    (bundle.folder / "factor").mkdir()
    with pytest.raises(BundleRefused, match="changed since it was verified") as refusal:
        bundle.check_files()
    assert refusal.value.rule == "bundle-file-extra"


@pytest.mark.parametrize("name", ["doubler.py", "factor.txt"])
def test_b62_a_changed_file_is_refused(write, name):
    """B-62: one byte more in the module or in a file of the model, and nothing of it is read further."""
    path = write().folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleRefused) as refusal:
        open_bundle(path.parent)
    assert (refusal.value.rule, refusal.value.path) == ("manifest-digest", name)


@pytest.mark.parametrize(
    ("module", "class_name"),
    [
        ("def f(:\n", "Doubler"),
        ("\x00", "Doubler"),
        ("Doubler = 1\n", "Doubler"),
        (MODULE, "Tripler"),
        ("class Doubler:\n    def load(self, folder): pass\n", "Doubler"),
        ("(" * 100_000, "Doubler"),
    ],
    ids=["syntax", "nul", "no-class", "another", "no-predict", "nested"],
)
def test_a_module_without_the_class_is_refused_without_running(write, module, class_name):
    """The module is parsed, not imported: what is no such class is refused before any process is started."""
    with pytest.raises(BundleRefused) as refusal:
        write("open('ran', 'w')\n" + module, class_name)
    assert refusal.value.rule == "python-class"


@pytest.mark.parametrize("form", ["B-52-pickle", "B-52-old-pickle", "B-52-torch", "B-52-npz", "B-52-npy", "B-52-field"])
def test_b52_pickles_are_refused_by_content(write, tmp_path, form):
    """B-52: a pickle under any name, in an archive as PyTorch's or in an array of objects, never enters a bundle."""
    path = tmp_path / "factor.txt2"
    if form == "B-52-torch":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"")
    elif form == "B-52-npz":
        with path.open("wb") as file:
            np.savez_compressed(file, plain=np.ones(3), objects=np.array([{}], dtype=object))
    elif form in {"B-52-npy", "B-52-field"}:
        with path.open("wb") as file:
            np.save(file, np.array([(None,)], dtype=object if form == "B-52-npy" else [("a", object)]))
    else:
        path.write_bytes(b"\x80\x04\x95" if form == "B-52-pickle" else b"cos\nsystem\n(S'id'\ntR.")
    with pytest.raises(BundleRefused) as refusal:
        write(files=(path,))
    assert (refusal.value.rule, refusal.value.path) == ("python-pickle", "factor.txt2")


END_OF_ARCHIVE = b"PK\5\6" + b"\0" * 4 + b"\1\0\1\0" + (46).to_bytes(4, "little") + b"\0" * 6


@pytest.mark.parametrize("end", [END_OF_ARCHIVE, b"PK\5\6" + b"\1" * 16 + b"\0\0"], ids=["directory", "disks"])
def test_b52_numbers_that_end_like_an_archive_are_no_pickle(write, tmp_path, end):
    """B-52: weights may hold any bytes; what begins as an archive and cannot be looked into is refused."""
    (tmp_path / "weights.bin").write_bytes(b"weights" * 100 + end)
    (tmp_path / "factor.txt").write_text("2")
    assert write(files=(tmp_path / "factor.txt", tmp_path / "weights.bin"))
    (tmp_path / "weights.bin").write_bytes(b"PK\3\4" + b"weights" * 100 + end)
    with pytest.raises(BundleRefused) as refusal:
        write(files=(tmp_path / "weights.bin",), folder="other")
    assert refusal.value.rule == "python-pickle"


def test_every_file_of_a_class_is_on_the_disk_before_its_bundle(write, monkeypatch):
    """A bundle is written durably: also the module and the files beside it."""
    synced = set()
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), sync(descriptor)))
    bundle = write()
    assert {path.stat().st_ino for path in bundle.folder.iterdir()} <= synced


def test_plain_arrays_are_no_pickle(write, tmp_path):
    """NumPy's own files of plain arrays are welcome."""
    np.savez(tmp_path / "weights.npz", a=np.ones(3), b=np.array(["a", "bc"]), c=np.zeros(2, dtype=[("d", "f4")]))
    np.save(tmp_path / "more.npy", np.array(["2026-01-01"], dtype="datetime64[D]"))
    (tmp_path / "factor.txt").write_text("2")
    files = ("factor.txt", "weights.npz", "more.npy")
    written = write(files=tuple(tmp_path / name for name in files)).manifest.files
    assert set(files) <= {entry.path for entry in written}


@pytest.mark.parametrize("name", ["manifest.json", "features.json", "golden.json", "requirements.lock", "doubler.py"])
def test_a_file_cannot_take_the_place_of_another(write, tmp_path, name):
    """The bundle's own file names, and that of the module, are taken."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text("{}")
    with pytest.raises(BundleRefused) as refusal:
        write(files=(tmp_path / "other" / name,))
    assert refusal.value.rule == "python-file"


def test_a_class_that_does_not_load_makes_no_bundle(write, tmp_path):
    """What goes wrong in the sandboxed process is the refusal's reason; nothing is left behind."""
    with pytest.raises(BundleRefused, match="ZeroDivisionError") as refusal:
        write(MODULE.replace("self.factor =", "self.factor = 1 / 0 *"))
    assert refusal.value.rule == "probe-load"
    assert "--file" in refusal.value.next_step
    assert not (tmp_path / "bundle").exists()


def test_f27_a_class_that_says_otherwise_later_is_not_admitted(write, tmp_path):
    """F-27: a class whose tensors depend on where it runs does not get past the probe."""
    module = MODULE.replace(
        'inputs = {"x": ("float32", (None, 2))}',
        'inputs = {"x": ("float32", (None, 2 if __import__("pathlib").Path(__file__).parent.name[0] == "." else 3))}',
    )
    bundle = write(module)
    with pytest.raises(BundleRefused) as refusal:
        probe(bundle, program=bundle.program(None))
    assert refusal.value.rule == "probe-shape"


@pytest.mark.parametrize(
    ("lock", "rule"),
    [
        (b"numpy>=2\n", "environment-lock"),
        (b"torch==2.0 --hash=sha256:" + b"0" * 64, "environment-numpy"),
        (b"numpy==2.4.2 --hash=sha256:" + b"0" * 64, "environment-missing"),
    ],
)
def test_a_lock_is_checked_before_the_class_runs(write, tmp_path, lock, rule):
    """Its form, that numpy is in it, and that its environment was built here."""
    with pytest.raises(BundleRefused) as refusal:
        write(lock=lock, environments=Environments(tmp_path / "environments"))
    assert refusal.value.rule == rule


def test_a_missing_environment_names_the_command(write, tmp_path, monkeypatch):
    """A bundle whose environment was not built here says with which command that is done."""
    lock = b"numpy==2.4.2 --hash=sha256:" + b"0" * 64
    monkeypatch.setattr(Environments, "find", lambda *_: None)
    bundle = write(lock=lock, environments=Environments(tmp_path))
    monkeypatch.undo()
    assert bundle.lock == lock
    with pytest.raises(BundleRefused) as refusal:
        bundle.program(Environments(tmp_path / "environments"))
    assert f"brownfield bundle {bundle.folder} --build-environment" in refusal.value.next_step


def test_equal_locks_of_two_bundles_share_one_environment(tmp_path):
    """Two bundles with the same packages, one folder on the disk."""
    wheel = make_wheel(tmp_path / "wheels", "answer", "1.0", answer="VALUE = 42\n")
    environments = Environments(tmp_path / "environments")
    pythons = {environments.build(lock, wheels=wheel.parent) for lock in (lock_of(wheel), b"# b\n" + lock_of(wheel))}
    assert len(pythons) == 1
    assert isinstance(pythons.pop(), Path)
