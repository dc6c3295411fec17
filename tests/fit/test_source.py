"""A PyTorch model becomes ONNX that answers as the module does, made where it can harm nothing."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from brownfield.fit import Rows, Source, SourceRefused, import_model
from brownfield.fit import source as source_module
from brownfield.fit.source import Tensors
from brownfield.model import TensorSpec, compute, open_bundle
from brownfield.workspace.init import init_from_model

pytestmark = pytest.mark.full

LIKE = Tensors((TensorSpec("x", "float32", (None, 8)),), (TensorSpec("y", "float32", (None, 3)),))
MODULE = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, width), torch.nn.Linear(width, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def build():
    torch.manual_seed(7)
    return Net()
"""
TRAIN = """\
import torch
from model import Net


def train(rows, labels):
    x, y = torch.from_numpy(rows["x"]), torch.from_numpy(labels)
    made = {}
    for name, width in (("model", 32), ("student", 4)):
        net = Net(width)
        steps = torch.optim.Adam(net.parameters(), lr=0.03)
        for _ in range(60):
            steps.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            steps.step()
        made[name] = net
    return made
"""
ONNX = """\
import numpy as np
from onnx import TensorProto, helper, numpy_helper


def train(rows, labels):
    weights = numpy_helper.from_array((np.random.normal(size=(8, 3)) + rows["x"].mean()).astype("f4"), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
"""
HOSTILE = """\
import os, socket, subprocess


def build():
    for act in (
        lambda: open({outside!r}).read(),
        lambda: open("planted.txt", "w"),
        lambda: socket.socket(),
        lambda: subprocess.run(["true"]),
    ):
        try:
            act()
        except OSError:
            continue
        raise RuntimeError("4111 1111 1111 1111")
    raise LookupError("all refused")
"""


@pytest.fixture
def rows():
    """Sixty rows of three classes."""
    points = np.random.default_rng(3).normal(size=(60, 8)).astype("f4")
    return Rows.from_tensors({"x": points}, batched=True, labels=points[:, :3].argmax(axis=1).tolist())


@pytest.fixture
def program(tmp_path):
    """A folder with the module's file."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "model.py").write_text(MODULE)
    return folder


def refused(source, rows, tmp_path) -> str:
    """Why a program is refused."""
    with pytest.raises(SourceRefused) as caught:
        import_model(source, rows, like=LIKE, folder=tmp_path / "made")
    assert not list((tmp_path / "made").glob("[!.]*"))
    return str(caught.value)


@pytest.mark.parametrize(("exporter", "kind"), [("dynamo", "safetensors"), ("classic", "pt")])
def test_a_module_with_weights_becomes_onnx_that_agrees(program, rows, tmp_path, exporter, kind) -> None:
    """The weights are in the file; the second call takes what is there, and another weight asks for another model."""
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    weights = {"first.weight": torch.ones(16, 8), "first.bias": torch.zeros(16)}
    weights |= {"second.weight": torch.full((3, 16), 0.5), "second.bias": torch.arange(3.0)}
    file = program / f"weights.{kind}"
    save_file(weights, file) if kind == "safetensors" else torch.save(weights, file)
    declared = Source(kind="module", file=program / "model.py", weights=file, exporter=exporter)
    made = import_model(declared, rows, like=LIKE, folder=tmp_path / "made")
    assert f"model by the {exporter} exporter, which differs from the module by" in made.how
    assert import_model(declared, rows, like=LIKE, folder=tmp_path / "made") == made
    given = compute(Path(made.folder), [{"x": np.ones((1, 8), "f4")}])[0]["y"]
    assert given == pytest.approx(np.array([[64, 65, 66]]))
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(SourceRefused):
        import_model(declared, rows, like=LIKE, folder=tmp_path / "made", timeout_s=0.01)


def test_torchscript_becomes_onnx(program, rows, tmp_path) -> None:
    """By the classic exporter, the only one that takes it."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(dim=-1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called old, and is what many sites have
        torch.jit.save(torch.jit.trace(net, torch.ones(2, 8)), program / "model.pt")
    made = import_model(
        Source(kind="torchscript", file=program / "model.pt"), rows, like=LIKE, folder=tmp_path / "made"
    )
    assert "classic exporter" in made.how


def test_a_program_that_trains_gives_a_model_and_a_student(program, rows, tmp_path) -> None:
    """Both are files of their own, the student's the smaller."""
    pytest.importorskip("torch")
    (program / "fit.py").write_text(TRAIN)
    declared = Source(kind="train", file=program / "fit.py", exporter="classic")
    made = import_model(declared, rows, like=LIKE, folder=tmp_path / "made", training=rows)
    sizes = [Path(file).stat().st_size for file in (f"{made.folder}/model.onnx", made.others["student"])]
    assert list(made.others) == ["student"]
    assert sizes[1] < sizes[0]


def test_the_same_seed_trains_the_same_model(program, rows, tmp_path) -> None:
    """A program that brings ONNX needs no PyTorch; another seed, or other rows to train on, make another model."""
    (program / "fit.py").write_text(ONNX)
    declared = Source(kind="train", file=program / "fit.py")
    half = rows.take(np.arange(30))
    made = [
        import_model(declared, rows, like=LIKE, folder=tmp_path / str(number), training=training, seed=seed)
        for number, (training, seed) in enumerate([(rows, 0), (rows, 0), (rows, 1), (half, 0)])
    ]
    assert made[0].how.startswith("model came as ONNX")
    first, again, seeded, fewer = (Path(f"{each.folder}/model.onnx").read_bytes() for each in made)
    assert first == again
    assert len({first, seeded, fewer}) == 3


def test_a_program_may_read_its_folder_and_do_nothing_else(program, rows, tmp_path) -> None:
    """S-08: no file outside, no writing, no network, no process; and an error's text, which may hold a value, stays."""
    (tmp_path / "secret.txt").write_text("secret")
    (program / "model.py").write_text(HOSTILE.format(outside=str(tmp_path / "secret.txt")))
    why = refused(Source(kind="module", file=program / "model.py"), rows, tmp_path)
    assert "no model was made: LookupError at model.py:" in why
    assert "all refused" not in why


def test_weights_that_hold_objects_are_refused(program, rows, tmp_path) -> None:
    """S-08: PyTorch's loader is told to take tensors alone, so no object of a pickle is ever made."""
    torch = pytest.importorskip("torch")
    torch.save({"first.weight": print}, program / "weights.pt")
    why = refused(Source(kind="module", file=program / "model.py", weights=program / "weights.pt"), rows, tmp_path)
    assert "UnpicklingError" in why


def test_a_module_with_an_example_begins_a_workspace(program, tmp_path) -> None:
    """Inputs have the example's names, outputs the program's; the bundle answers, many records at a time."""
    pytest.importorskip("torch")
    example = 'OUTPUTS = ["score"]\n\n\ndef example():\n    return {"x": torch.zeros(2, 8).numpy()}\n'
    (program / "model.py").write_text(f"{MODULE}\n\n{example}")
    begun = init_from_model(tmp_path / "shop", program / "model.py")
    bundle = open_bundle(begun.folder / "integrations/shop/bundles/shop")
    assert [(spec.name, spec.shape) for spec in bundle.inputs] == [("x", (None, 8))]
    assert [spec.name for spec in bundle.outputs] == ["score"]
    assert begun.batched
    assert bundle.provenance["drafted_from"] == "model.py"


def test_weights_that_are_drawn_are_told(program, rows, tmp_path) -> None:
    """Without weights, init warns of a module that is another each time it is built; not of one that loads its own."""
    torch = pytest.importorskip("torch")
    example = '\n\ndef example():\n    return {"x": torch.zeros(2, 8).numpy()}\n'
    drawn = MODULE.replace("    torch.manual_seed(7)\n", "") + example
    (program / "model.py").write_text(drawn)
    [told] = init_from_model(tmp_path / "drawn", program / "model.py").warnings
    assert told.startswith("the weights of model.py are drawn at random")
    source = Source(kind="module", file=program / "model.py", exporter="classic")
    assert import_model(source, rows, like=LIKE, folder=tmp_path / "made").untrained

    weights = {"first.weight": torch.ones(16, 8), "first.bias": torch.zeros(16)}
    weights |= {"second.weight": torch.ones(3, 16), "second.bias": torch.ones(3)}
    torch.save(weights, program / "weights.pt")
    assert init_from_model(tmp_path / "given", program / "model.py", weights=program / "weights.pt").warnings == ()
    own = "    net = Net()\n    net.load_state_dict(torch.load(__file__[:-8] + 'weights.pt'))\n    return net\n"
    (program / "model.py").write_text(drawn.replace("    return Net()\n", own))
    assert init_from_model(tmp_path / "own", program / "model.py").warnings == ()


def test_a_module_of_other_tensors_is_refused(program, rows, tmp_path) -> None:
    """The bundle's outputs have three scores; the reason names them."""
    pytest.importorskip("torch")
    (program / "model.py").write_text(MODULE.replace("Linear(width, 3)", "Linear(width, 4)"))
    why = refused(Source(kind="module", file=program / "model.py", exporter="classic"), rows, tmp_path)
    assert "other outputs than the bundle's 'y' float32 (None, 3)" in why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def make():\n    pass\n", "model.py has no function build()"),
        ("import os, signal\n\n\ndef build():\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "process ended (SIGSEGV)"),
        ("def build():\n    return 7\n", "no model was made: AttributeError"),
        ("def build(:\n", "no model was made: SyntaxError at model.py:1"),
        ("x = bytearray(1 << 40)\n", "it needs more memory than it may have"),
    ],
    ids=["no-function", "crash", "no-module", "no-python", "memory"],
)
def test_a_program_that_gives_no_model_is_refused(program, rows, tmp_path, text, why) -> None:
    """Nothing is left behind, and the reason is one line."""
    (program / "model.py").write_text(text)
    assert why in refused(Source(kind="module", file=program / "model.py", exporter="classic"), rows, tmp_path)


def test_answers_that_are_no_numbers_do_not_agree(monkeypatch, tmp_path) -> None:
    """Where the file gives NaN, or the module did, there is no agreement to find."""
    for before, after in ((1.0, np.nan), (np.nan, 1.0), (np.nan, np.nan)):
        monkeypatch.setattr(source_module, "compute", lambda *_, given=after: [{"y": np.array([given], "f4")}])
        with pytest.raises(SourceRefused, match="differs from the module by nan"):
            source_module._agreed(tmp_path, {}, {"y": np.array([before], "f4")})


def test_a_program_that_does_not_end_is_refused(program, rows, tmp_path) -> None:
    """Its time is bounded."""
    (program / "model.py").write_text("import time\ntime.sleep(600)\n")
    source = Source(kind="module", file=program / "model.py")
    with pytest.raises(SourceRefused, match="did not end within 2 s"):
        import_model(source, rows, like=LIKE, folder=tmp_path / "made", timeout_s=2)


def test_an_export_that_answers_otherwise_is_refused(program, rows, tmp_path) -> None:
    """Tracing freezes a branch that depends on values: the check on real rows sees it."""
    pytest.importorskip("torch")
    branch = "return self.second(torch.relu(self.first(x))) * (1 if torch.jit.is_tracing() else 2)"
    text = MODULE.replace("return self.second(torch.relu(self.first(x)))", branch)
    (program / "model.py").write_text(text)
    why = refused(Source(kind="module", file=program / "model.py", exporter="classic"), rows, tmp_path)
    assert "differs from the module by" in why
