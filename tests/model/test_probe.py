import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import psutil
import pytest

from brownfield.errors import BundleRefused, DeadlineExceeded
from brownfield.model import ServedSession
from brownfield.model.probe import PROBE_RULES, probe
from brownfield.model.process import Program
from harness.processes import MODEL, command_of, descendants
from harness.waiting import until

BATCHED = "g (float[n,2] x) => (float[n,2] y) <float ten = {10.0}> { y = Mul(x, ten) }"
AT_MOST_FOUR = (
    "g (float[n,2] x) => (float[n,2] y)"
    " <float ten = {10.0}, float[4] ones = {1.0, 1.0, 1.0, 1.0}, int64 one = {1}>"
    " { ten_x = Mul(x, ten) rows = Shape <end = 1> (x) last = Sub(rows, one) each = Gather(ones, last)"
    " y = Mul(ten_x, each) }"
)
ENDLESS = (
    "g (int64[n] x) => (int64[n] y) <bool go = {1}, int64 one = {1}, int64 most = {1000000000000}> {"
    " y = Loop(most, go, x) <body = b (int64 i, bool c, int64[n] v) => (bool d, int64[n] w)"
    " { d = Identity(c) w = Add(v, one) }> }"
)


@pytest.fixture
def bundle(tmp_path):
    """A folder with a model, and golden records of it."""

    def make(graph: str, inputs: dict | None, outputs: dict | None = None, *, batched: bool = True) -> SimpleNamespace:
        model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]> ' + graph)
        onnx.save(model, tmp_path / "model.onnx")
        golden = None if inputs is None else SimpleNamespace(inputs=inputs, outputs=outputs or {})
        features = SimpleNamespace(batched=batched)
        return SimpleNamespace(folder=tmp_path, golden=golden, features=features, session=ServedSession())

    return make


def test_a_model_that_answers_as_before_passes(bundle) -> None:
    """The report gives what was measured, and that records do not depend on their batch."""
    x = np.arange(6, dtype="f4").reshape(3, 2)
    report = probe(bundle(BATCHED, {"x": x}, {"y": x * 10}), memory_mib=600)
    assert report.largest_difference == 0
    assert report.batch_isolated is True
    assert report.load_s > 0
    assert report.answer_s > 0
    assert report.peak_mib > 10
    assert report.hello.threads == 1
    assert not _children()


def test_calls_of_more_and_more_records_are_timed(bundle, monkeypatch) -> None:
    """What batching brings is known before anybody asks; a size that fails ends that, and is no fault of the model."""
    monkeypatch.setattr(sys.modules[probe.__module__], "_CURVE_S", 60.0)  # as on a machine that does not stall
    x = np.arange(6, dtype="f4").reshape(3, 2)
    curve_us = probe(bundle(BATCHED, {"x": x}, {"y": x * 10})).cost_curve_us
    assert list(curve_us) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert all(time_us >= 1 for time_us in curve_us.values())
    assert list(probe(bundle(AT_MOST_FOUR, {"x": x}, {"y": x * 10})).cost_curve_us) == [1, 2, 4]


def test_timing_calls_ends_with_its_time(monkeypatch) -> None:
    """Also between the calls of one size; what was measured until then is kept."""
    now_s, asked = [0.0], []

    class Slow:
        """Takes 0.1 s a call, and no longer than it may."""

        def __init__(self, _path, timeout_s):
            assert timeout_s == 0.25

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, _tensors, timeout_s):
            asked.append(timeout_s)
            now_s[0] += min(0.1, timeout_s)
            if timeout_s < 0.1:
                raise DeadlineExceeded("late")
            return SimpleNamespace(run_us=100_000)

    module = sys.modules[probe.__module__]
    monkeypatch.setattr(module, "Caller", Slow)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    process = SimpleNamespace(hello=SimpleNamespace(batched=True), socket_path=None)
    assert module._cost_curve_us(process, {"x": np.zeros((3, 2), "f4")}, 128) == {1: 100_000}
    assert asked == pytest.approx([0.25, 0.15, 0.05])


def test_a_model_without_batches_has_no_sizes_of_calls(bundle) -> None:
    """Neither one of numbers without a dimension, nor one whose records must not share a call."""
    x = np.float32(3)
    graph = "g (float x) => (float y) <float ten = {10.0}> { y = Mul(x, ten) }"
    assert probe(bundle(graph, {"x": np.array(x)}, {"y": np.array(x * 10)})).cost_curve_us == {}


def test_small_differences_of_the_arithmetic_pass(bundle) -> None:
    """Numbers may differ within the tolerance, and the largest difference is reported."""
    x = np.ones((2, 2), "f4")
    report = probe(bundle(BATCHED, {"x": x}, {"y": x * 10 + np.float32(0.001)}))
    assert report.largest_difference == pytest.approx(0.001, abs=1e-5)


def test_its_socket_lies_where_it_is_told_to(bundle, tmp_path, monkeypatch) -> None:
    """A manager's folder is swept when it begins anew; a temporary one of a killed manager would stay for good."""
    monkeypatch.setattr("tempfile.TemporaryDirectory", None)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    probe(bundle(BATCHED, None), runtime_folder=runtime)
    assert list(runtime.iterdir()) == []


def test_without_golden_records_only_loading_is_tried(bundle) -> None:
    """A bundle without golden records is loaded, and the report warns that nothing was compared."""
    report = probe(bundle(BATCHED, None))
    assert "the bundle has no golden records: nothing was compared" in report.warnings
    assert report.batch_isolated is None


X = np.array([[1.0, 2.0], [3.0, 4.0]], "f4")
HUGE = "g (int64[1] x) => (float[k] y) { y = ConstantOfShape(x) }"


@pytest.mark.full
@pytest.mark.parametrize(
    ("rule", "graph", "inputs", "outputs", "limits"),
    [
        ("probe-mismatch", BATCHED, {"x": X}, {"y": X}, {}),
        ("probe-shape", BATCHED, {"x": X}, {"y": (X * 10)[:1]}, {}),
        ("probe-shape", BATCHED, {"x": X}, {"y": (X * 10).astype("f8")}, {}),
        ("probe-shape", BATCHED, {"x": X}, {"z": X * 10}, {}),
        ("probe-nan", "g (float[n,2] x) => (float[n,2] y) { y = Sqrt(x) }", {"x": -X}, {"y": -X}, {}),
        ("probe-timeout", ENDLESS, {"x": np.array([1])}, {"y": np.array([1])}, {"timeout_s": 1.0}),
        ("probe-memory", HUGE, {"x": np.array([10**9])}, {"y": np.zeros(1, "f4")}, {"memory_mib": 700}),
        ("probe-run", BATCHED, {"x": X[:, :1]}, {"y": X}, {}),
        ("probe-run", BATCHED, {"z": X}, {"y": X}, {}),
        ("probe-load", "g (float[n,2] x) => (float[n,2] y) { y = NoSuchOperator(x) }", {"x": X}, {"y": X}, {}),
    ],
    ids=["F-27", "rows", "type", "name", "F-09", "B-56 time", "B-56 memory", "input shape", "input name", "F-26"],
)
def test_a_model_that_fails_its_trial_is_refused(rule, graph, inputs, outputs, limits, bundle) -> None:
    """Each way to fail has a rule of its own, known to the list, and leaves no process behind."""
    with pytest.raises(BundleRefused) as refusal:
        probe(bundle(graph, inputs, outputs), **limits)
    assert refusal.value.rule == rule
    assert rule in PROBE_RULES
    assert not _children()


def test_f08_a_process_that_lives_and_gives_no_answer_is_refused(tmp_path, monkeypatch) -> None:
    """F-08: a class that writes into its connections is no crash, and no error that nobody knows."""
    monkeypatch.setattr(sys.modules[probe.__module__], "_LAST_BREATH_S", 0.5)
    (tmp_path / "m.py").write_text(
        "class M:\n"
        "    inputs = outputs = {'x': ('float32', (None, 2))}\n"
        "    def load(self, folder): pass\n"
        "    def predict(self, inputs):\n"
        "        import os\n"
        "        for fd in range(3, 64):\n"
        "            try: os.write(fd, bytes([255]) * 64)\n"
        "            except OSError: pass\n"
        "        return {'x': inputs['x']}\n"
    )
    golden = SimpleNamespace(inputs={"x": X}, outputs={"x": X})
    spec = (SimpleNamespace(name="x", dtype="float32", shape=(None, 2)),)
    made = SimpleNamespace(folder=tmp_path, golden=golden, session=ServedSession(), inputs=spec, outputs=spec)
    with pytest.raises(BundleRefused, match="something else than an answer") as refusal:
        probe(made, program=Program("m.py", "M"))
    assert refusal.value.rule == "probe-run"
    assert not _children()


def test_f27_the_differing_records_are_named(bundle) -> None:
    """F-27: the refusal says which golden records differ, and not what they hold."""
    recorded = X * 10
    recorded[1] = 77777
    with pytest.raises(BundleRefused, match=r"output 'y' differs from its record \(golden records 1\)") as refusal:
        probe(bundle(BATCHED, {"x": X}, {"y": recorded}))
    assert "77777" not in str(refusal.value)


def test_f14_a_crash_names_its_signal(bundle) -> None:
    """F-14: a process that dies of SIGSEGV while it answers is refused with the signal's name."""

    def hit() -> None:
        def killed() -> bool:
            for child in descendants(os.getpid(), MODEL):
                with suppress(psutil.Error):
                    if child.cpu_times().user > 0.3:
                        child.send_signal(signal.SIGSEGV)
                        return True
            return False

        until(killed)

    fate = threading.Thread(target=hit)
    fate.start()
    with pytest.raises(BundleRefused, match="SIGSEGV") as refusal:
        probe(bundle(ENDLESS, {"x": np.array([1])}, {"y": np.array([1])}))
    fate.join()
    assert refusal.value.rule == "probe-crash"


def test_a_model_whose_records_depend_on_their_batch_is_found(bundle) -> None:
    """A graph whose answer depends on the other rows is reported, so that its requests never share a batch."""
    graph = (
        "g (float[n,1] x) => (float[n,1] y) <int64[1] zero = {0}> "
        "{ s = ReduceMax<axes = [0], keepdims = 1>(x) y = Div(x, s) }"
    )
    x = np.array([[1.0], [2.0]], "f4")
    report = probe(bundle(graph, {"x": x}, {"y": x / 2}))
    assert report.batch_isolated is False
    assert "an answer depends on the other records of its batch: requests must not share batches" in report.warnings


_ROUNDED = (  # answers that differ by 4e-5 with the number of rows, as those of kernels for one row and for several
    "g (float[n,2] x) => (float[n,2] y) <float tiny = {0.00004}, float one = {1.0}, float two = {2.0}> { "
    "shape = Shape<start = 0, end = 1>(x) count = Cast<to = 1>(shape) many = Min(count, two) off = Sub(many, one) "
    "shift = Mul(off, tiny) y = Add(x, shift) }"
)


def test_rounding_by_the_number_of_rows_is_no_leak(bundle) -> None:
    """A small share beside a large one moves by 4e-5 when others are there, whoever they are: the record is its own."""
    x = np.array([[0.01, 0.99], [0.5, 0.5], [0.97, 0.03]], "f4")
    assert probe(bundle(_ROUNDED, {"x": x}, {"y": x + np.float32(4e-5)})).batch_isolated is True


@pytest.mark.parametrize("times", [0.00004, 0.0004])
def test_a_small_leak_is_found_where_rounding_would_be_taken_for_one(bundle, times) -> None:
    """As small a difference that comes from the neighbours is gone among copies of the record, and so is found."""
    graph = (
        f"g (float[n,2] x) => (float[n,2] y) <float tiny = {{{times}}}> "
        "{ most = ReduceMax<axes = [0], keepdims = 1>(x) leak = Mul(most, tiny) y = Add(x, leak) }"
    )
    x = np.array([[0.01, 0.99], [0.5, 0.5], [0.97, 0.03]], "f4")
    y = x + np.float32(times) * x.max(axis=0, keepdims=True)
    assert probe(bundle(graph, {"x": x}, {"y": y})).batch_isolated is False


@pytest.mark.parametrize("rows", ["m", ""])
def test_rows_are_tried_alone_whatever_the_graph_calls_them(bundle, rows) -> None:
    """Features that are batched put records together, so a leak is looked for under every name of the rows."""
    out = f"float[{rows},1]" if rows else "float[1]"
    keep = "y = Div(x, s)" if rows else "y = Squeeze(s, zero)"
    graph = (
        f"g (float[n,1] x) => ({out} y) <int64[1] zero = {{0}}> {{ s = ReduceMax<axes = [0], keepdims = 1>(x) {keep} }}"
    )
    x = np.array([[1.0], [2.0], [3.0], [4.0]], "f4")
    y = x / 4 if rows else np.array([4.0], "f4")
    assert probe(bundle(graph, {"x": x}, {"y": y})).batch_isolated is False


def test_rows_of_another_name_that_keep_to_themselves_are_found_so(bundle) -> None:
    """They may share a call; one whose features say that it has no rows is not tried row by row."""
    graph = "g (float[n,2] x) => (float[m,2] y) <float ten = {10.0}> { y = Mul(x, ten) }"
    x = np.arange(6, dtype="f4").reshape(3, 2)
    assert probe(bundle(graph, {"x": x}, {"y": x * 10})).batch_isolated is True
    assert probe(bundle(graph, {"x": x}, {"y": x * 10}, batched=False)).batch_isolated is None


@pytest.mark.parametrize("rows", [1, 3])
def test_records_that_are_all_alike_prove_nothing(bundle, rows) -> None:
    """A mean over them is the answer of each: whether the model tells its rows apart is not known, so none shares."""
    graph = (
        "g (float[n,1] x) => (float[n,1] y) { m = ReduceMean<axes = [0], keepdims = 1>(x) z = Sub(x, x) y = Add(m, z) }"
    )
    x = np.full((rows, 1), 2.0, "f4")
    assert probe(bundle(graph, {"x": x}, {"y": x})).batch_isolated is None
    x = np.array([[2.0], [2.0], [5.0]], "f4")
    assert probe(bundle(graph, {"x": x}, {"y": np.full((3, 1), 3.0, "f4")})).batch_isolated is False


def test_a_model_of_so_many_rows_and_no_other_number_shares_no_call(bundle) -> None:
    """It is no fault of the bundle: its records are asked for as they were recorded."""
    graph = "g (float[3,2] x) => (float[3,2] y) <float ten = {10.0}> { y = Mul(x, ten) }"
    x = np.arange(6, dtype="f4").reshape(3, 2)
    assert probe(bundle(graph, {"x": x}, {"y": x * 10})).batch_isolated is False


def test_whole_numbers_and_texts_must_be_equal(bundle) -> None:
    """Tolerance is for fractions: a whole number that is off by one is a mismatch."""
    graph = "g (int64[n] x) => (int64[n] y) { y = Identity(x) }"
    x = np.array([10**6, 2])
    assert probe(bundle(graph, {"x": x}, {"y": x})).largest_difference == 0
    with pytest.raises(BundleRefused) as refusal:
        probe(bundle(graph, {"x": x}, {"y": x + 1}))
    assert refusal.value.rule == "probe-mismatch"
    texts = np.array(["a", "b"], dtype=object)
    graph = "g (string[n] x) => (string[n] y) { y = Identity(x) }"
    assert probe(bundle(graph, {"x": texts}, {"y": texts})).batch_isolated is True


def _children() -> list[psutil.Process]:
    """Processes of the probe; models that servers of other tests hold are no children of this process."""
    return [child for child in psutil.Process().children() if MODEL in command_of(child)]


def test_every_rule_stands_in_the_documentation() -> None:
    """The page on where a model runs names exactly the rules of the probe, with their meanings."""
    page = Path(__file__).parents[2] / "docs/explanation/where-a-model-runs.md"
    rows = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| `probe-")]
    documented = {row[1].strip(" `"): row[2].strip().split(";")[0].rstrip(".") for row in rows}
    assert documented == {rule: meaning.rstrip(".") for rule, meaning in PROBE_RULES.items()}
