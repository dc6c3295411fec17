"""What the benchmarks compare is the same, and what their page lists is all of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def peers():
    """The benchmark of validation, as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import validation_peers

        validation_peers.of_brownfield_batch([])  # imports what the benchmarks share
        yield validation_peers
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_page_lists_every_script() -> None:
    """Each script of the benchmarks has its line, and each line its script."""
    lines = (BENCHMARKS / "README.md").read_text(encoding="utf-8").splitlines()
    listed = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert listed == {path.name for path in BENCHMARKS.glob("*.py")} - {"served_mlp.py", "serving_models.py"}


@pytest.mark.parametrize("name", ["brownfield, rows", "brownfield, JSON lines", "brownfield, batch"])
def test_our_ways_refuse_exactly_the_broken_records(peers, name: str) -> None:
    """All nine rules of the benchmark are broken in turn, and each way names these records and no other."""
    work = peers.WORKERS[name]
    assert work(peers.records_of(1800, broken=False))() == []
    assert work(peers.records_of(1800, broken=True))() == list(range(50, 1800, 100))


@pytest.mark.parametrize("further", [[], ["--refused"]], ids=["answered", "refused"])
def test_the_gateway_answers_alone(further) -> None:
    """Its stand-ins for sockets and a model are enough for the gateway as it is now."""
    command = [sys.executable, BENCHMARKS / "gateway_alone.py", "--callers", "4", "--seconds", "0.1", *further]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert re.match(r"\d+\.\d\d us per request at least, ", ended.stdout), ended.stderr
