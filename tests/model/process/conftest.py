"""Tiny models, written as text, each in a folder of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

from brownfield.model.process import ModelProcess, Zygote

GRAPHS = {
    # Ten times the input plus one: every answer tells which question it belongs to.
    "batched": "g (float[n,2] x) => (float[n,2] y) <float ten = {10.0}, float one = {1.0}> "
    "{ a = Mul(x, ten) y = Add(a, one) }",
    # Answers with the number of rows that shared the call.
    "rows": "g (float[n,1] x) => (float[n,1] y) <int64[1] first = {0}> "
    "{ s = Shape(x) k = Gather(s, first) f = Cast<to = 1>(k) z = Sub(x, x) y = Add(z, f) }",
    # No common free first dimension: one request at a time.
    "alone": "g (float[2,2] x, float[k] w) => (float[2] total, float[k] twice) <int64[1] one = {1}> "
    "{ total = ReduceSum<keepdims = 0>(x, one) twice = Add(w, w) }",
    "text": 'g (string[n] s) => (string[n] t) { t = StringNormalizer<case_change_action = "UPPER", locale = "C">(s) }',
    # Takes rows 0 to 2 of a table; fails on any other number.
    "picky": "g (int64[n] i) => (float[n] y) <float[3] table = {5.0, 6.0, 7.0}> { y = Gather(table, i) }",
    # Counts to its input.
    "slow": "g (int64[n] times) => (int64[n] y) <bool go = {1}, int64 one = {1}> {"
    " most = ReduceMax<keepdims = 0>(times)"
    " y = Loop(most, go, times) <body = b (int64 i, bool c, int64[n] v) => (bool d, int64[n] w)"
    " { d = Identity(c) w = Add(v, one) }> }",
    # As many numbers as asked for, summed.
    "hungry": "g (int64[1] size) => (float total) { a = ConstantOfShape(size) total = ReduceSum<keepdims = 0>(a) }",
    # As many zeros as asked for: a large answer to a small question.
    "zeros": "g (int64[1] size) => (float[k] y) { y = ConstantOfShape(size) }",
    # The square of its length in numbers.
    "square": "g (float[n] x) => (float[n,n] y) <int64[1] first = {0}, int64[1] last = {1}> "
    "{ a = Unsqueeze(x, last) b = Unsqueeze(x, first) y = MatMul(a, b) }",
    # Not a number for what is below zero; the places of what is not zero, which may be none; what it is given.
    "log": "g (float[n,1] x) => (float[n,1] y) { y = Log(x) }",
    "found": "g (float[n] x) => (int64[1,k] y) { y = NonZero(x) }",
    "same": "g (float[n] x) => (float[n] y) { y = Identity(x) }",
    "root": "g (float[n,2] x) => (float[n,2] y) { y = Sqrt(x) }",
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that holds a model of the name, as ``model.onnx``."""

    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + GRAPHS[name])
        onnx.checker.check_model(model)
        onnx.save(model, folder / "model.onnx")
        return folder

    return write


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """What processes are forked from."""
    with Zygote() as one:
        yield one


@pytest.fixture(params=["by itself", pytest.param("forked", marks=pytest.mark.full)])
def how(request, zygote) -> dict[str, Zygote]:
    """Both ways in which a process comes to be: a test that takes this holds for both."""
    return {"zygote": zygote} if request.param == "forked" else {}


@pytest.fixture
def start(model_folder, tmp_path, how) -> Iterator[Callable[..., ModelProcess]]:
    """Start a process for a model of the name, in both ways; it is ended after the test."""
    started: list[ModelProcess] = []

    def start_model(name: str, **limits) -> ModelProcess:
        process = ModelProcess.start(model_folder(name), runtime_folder=tmp_path / "run", **how, **limits)
        started.append(process)
        return process

    yield start_model
    for process in started:
        process.kill()
