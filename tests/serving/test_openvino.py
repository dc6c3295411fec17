"""A bundle that ``brownfield fit`` chose with OpenVINO is served by OpenVINO."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest

from brownfield.host import read_host
from harness.processes import descendants

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(find_spec("openvino") is None, reason="the extra `openvino` is not installed"),
]
HAS_BF16 = bool({"avx512_bf16", "amx_bf16"} & set(read_host().cpu_flags))


def _engines(pid: int) -> set[str]:
    """Engines whose library a process of the workspace has loaded."""
    found = set()
    for process in [psutil.Process(pid), *descendants(pid)]:
        with suppress(OSError):  # it has ended meanwhile
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace")
            found |= {engine for engine in ("libopenvino", "onnxruntime") if engine in maps}
    return found


def test_it_answers_and_no_other_engine_is_loaded(risk, serving, tmp_path):
    """Probed and served: the answer is the model's, and onnxruntime is in none of the processes."""
    risk.write_model(tmp_path, "one", "1", risk.model(), session={"engine": "openvino"})
    risk.declare(tmp_path)
    running = serving(tmp_path)
    answer = running.predict([1, 2, 3, 4])
    assert (answer["decision"]["source"], answer["prediction"]["y"]) == ("model", [10.0])
    assert _engines(running.pid) == {"libopenvino"}
    assert httpx.get(f"{running.url}/v2/models/risk").json()["platform"] == "openvino"


def test_a_precision_that_the_host_lacks_is_never_served_in_another(risk, serving, tmp_path):
    """bf16 answers where the processor has it; elsewhere the probe refuses and the fallback answers."""
    session = {"engine": "openvino", "precision": "bf16"}
    risk.write_model(tmp_path, "one", "1", risk.model(), session=session)
    risk.declare(tmp_path)
    answer = serving(tmp_path).predict([1, 2, 3, 4])
    assert answer["decision"]["source"] == ("model" if HAS_BF16 else "constant")
