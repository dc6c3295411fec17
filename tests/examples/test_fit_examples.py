"""The five models of ``examples/fit``: their declarations, their metrics, and two whole searches."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from brownfield.fit import Recipe, Rows, Wanted, search
from brownfield.integration import load_workspace

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "fit"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/brownfield.yaml"))

FP32 = Recipe(kind="as_is")
STATIC = Recipe(kind="static", operators=("Conv", "MatMul", "Gemm"), calibrator="minmax")

SHORT = {"run_in": [], "time_limit_s": 120.0}


def _module(path: Path) -> ModuleType:
    """Run a script of the examples or of the benchmarks under a name of its own: five of them are called ``make``."""
    spec = importlib.util.spec_from_file_location(f"fit_example_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _paths_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the path of imports as it was: the scripts put their folders into it."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="session")
def judged() -> ModuleType:
    """The metrics of the benchmark, written apart from those of the examples."""
    return _module(ROOT / "benchmarks" / "fit_peers" / "metrics.py")


def test_there_are_five() -> None:
    """The five models that the benchmark compares each have a workspace."""
    assert NAMES == ["magika", "minilm", "ocr", "recommender", "silero"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "recommender"])
def test_each_declares_a_floor(name: str) -> None:
    """The declaration loads, with a metric, a floor and limits that a search can judge by."""
    spec = load_workspace(EXAMPLES / name).integrations[name]
    assert spec.constraints.accuracy is not None
    assert spec.constraints.accuracy.max_drop == 0.01
    assert spec.constraints.latency_p99_ms or spec.constraints.expected_rate_per_s


@pytest.mark.parametrize("seed", range(20))
def test_the_reading_of_lines_is_judged_alike_by_both_metrics(judged: ModuleType, seed: int) -> None:
    """The example's metric and the benchmark's, written apart, agree on every line."""
    metric = _module(EXAMPLES / "ocr" / "integrations" / "ocr" / "metric.py")
    random = np.random.default_rng(seed)
    truth = np.zeros((1, 12), dtype=np.int64)
    truth[0, : random.integers(1, 12)] = 1
    truth *= random.integers(1, 5, truth.shape)
    answer = {"characters": random.integers(0, 5, (1, 12))}
    right, there = judged.METRICS["ocr"]["1 - CER"]([answer], truth)
    assert metric.character_accuracy(answer, truth[0]) == pytest.approx(max(0.0, right[0] / there[0]))


@pytest.mark.parametrize("seed", range(10))
def test_suggestions_are_judged_alike_by_both_metrics(judged: ModuleType, seed: int) -> None:
    """What was shown is no suggestion, in either metric."""
    metric = _module(EXAMPLES / "recommender" / "integrations" / "recommender" / "metric.py")
    random = np.random.default_rng(seed)
    truth = random.choice([-1, 0, 1], (1, 60), p=[0.2, 0.6, 0.2]).astype(np.int8)
    answer = {"scores": random.permutation(60).astype("f4")[None]}
    right, _ = judged.METRICS["recommender"]["recall@10"]([answer], truth)
    assert metric.recall_at_10_of_others(answer, truth[0]) == pytest.approx(right[0])


def test_a_line_without_an_error_is_read_wholly(judged: ModuleType) -> None:
    """A character that goes on over several places is one, and one that comes twice has nothing in between."""
    truth = np.array([[7, 7, 3, 0, 0]])
    right, there = judged.METRICS["ocr"]["1 - CER"]([{"characters": np.array([[7, 7, 0, 7, 3, 3, 0]])}], truth)
    assert (right[0], there[0]) == (3, 3)


@pytest.mark.full
def test_magikas_quantiser_crash_is_a_row_and_fp32_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_of: Callable[[bytes], Path], needs: Callable[[str], None]
) -> None:
    """The quantiser ends with an error on Magika's graph; the search goes on, and nothing wrong is chosen."""
    needs("magika")
    make = _module(EXAMPLES / "magika" / "make.py")
    monkeypatch.setattr(make, "EVERYWHERE", (Path(json.__file__).parents[1],))
    monkeypatch.setattr(make, "LOOKED_AT", 4000)
    chosen = [(file, kind) for kind, files in make.files_by_kind().items() for file in files]
    assert len(chosen) > 100
    inputs = np.stack([make.ends_of(file.read_bytes()) for file, _ in chosen])
    graph = make.inside("magika", f"{make.MODEL}/model.onnx").read_bytes()
    rows = Rows.from_tensors({"bytes": inputs}, batched=True)
    fit = search(model_of(graph), rows, Wanted(), folder=tmp_path / "fit", tried=[FP32, STATIC], **SHORT)
    crashed = next(row for row in fit.rows if row.candidate.recipe == STATIC)
    assert crashed.stage == "build"
    assert crashed.failure.startswith("the quantiser failed")
    assert fit.choice.chosen in ("fp32", "")  # nothing is chosen where the machine was too noisy to say


@pytest.mark.full
def test_a_smaller_silero_whose_state_drifts_is_never_chosen(
    tmp_path: Path, model_of: Callable[[bytes], Path], needs: Callable[[str], None]
) -> None:
    """Int8 decides alike on the states of fp32, but hands other states on: labels alone would let it pass."""
    needs("silero_vad")
    make = _module(EXAMPLES / "silero" / "make.py")
    random = np.random.default_rng(1)
    seconds = np.arange(make.RATE) / make.RATE
    voices = [
        sum(np.sin(2 * np.pi * pitch * overtone * seconds) / overtone for overtone in range(1, 12)) / 3
        for pitch in random.uniform(90, 240, 24)
    ]
    graph = make.inside("silero_vad", "data/silero_vad_16k_op15.onnx").read_bytes()
    sound, truth = make.stream(voices)
    tensors = {name: column[truth >= 0] for name, column in make.carried(graph, sound).items()}
    rows = Rows.from_tensors(tensors, batched=False, labels=truth[truth >= 0].tolist())
    wanted = Wanted(metric="accuracy", max_drop=0.02)
    fit = search(model_of(graph), rows, wanted, folder=tmp_path / "fit", tried=[FP32, STATIC], **SHORT)
    smaller = next(row for row in fit.rows if row.candidate.recipe == STATIC)
    assert smaller.accuracy is not None
    assert smaller.accuracy.drop.lower > wanted.max_drop
    assert fit.choice.chosen != smaller.candidate.name
    chosen = next((row for row in fit.rows if row.candidate.name == fit.choice.chosen), None)
    if chosen is not None and chosen.candidate.recipe != FP32:  # with the layer that drifts left in fp32
        assert chosen.accuracy.drop.upper <= wanted.max_drop


@pytest.fixture
def model_of(tmp_path: Path) -> Callable[[bytes], Path]:
    """Put a graph into a folder of its own."""

    def put(graph: bytes) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(graph)
        return folder

    return put
