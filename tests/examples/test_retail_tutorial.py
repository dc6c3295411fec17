"""The tutorial's steps give what the tutorial prints."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from brownfield.serving import serve_workspace
from harness.processes import MODEL, descendants

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorial" / "first-integration.md"


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str]]:
    """Code blocks of the tutorial: language and content."""
    return re.findall(r"```(\w+)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)


def printed_after(blocks: list[tuple[str, str]], words: str) -> str:
    """What the tutorial says is printed by the step whose commands hold these words."""
    position = next(number for number, (_, content) in enumerate(blocks) if words in content)
    return next(content for language, content in blocks[position:] if language == "text")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a reader would, in the folder that holds ``my-chain``."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "1000"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.full
def test_the_mistake_in_the_contract_is_told_as_printed(blocks, example, tmp_path):
    """The example passes ``brownfield check``; the tutorial's mistake is answered with the tutorial's words."""
    shutil.copytree(example, tmp_path / "my-chain")
    assert run(tmp_path, "-m", "brownfield", "check", "my-chain").returncode == 0
    contract = tmp_path / "my-chain" / "integrations" / "store-recommendations" / "contract.odcs.yaml"
    text = contract.read_text(encoding="utf-8")
    assert text.count('"quantity <= 10 or') == 1
    contract.write_text(text.replace('"quantity <= 10 or', '"quantitty <= 10 or'), encoding="utf-8")
    refused = run(tmp_path, "-m", "brownfield", "check", "my-chain")
    assert refused.returncode == 2
    assert printed_after(blocks, "brownfield check my-chain") in refused.stdout + refused.stderr


@pytest.mark.full
def test_the_pipeline_prints_what_the_tutorial_shows(blocks, example, laid_out, tmp_path):
    """The tutorial's command, run on the whole zoo, prints the counts that the page shows."""
    shutil.copytree(example, tmp_path / "my-chain", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(laid_out / "legacy", tmp_path / "my-chain" / "legacy", copy_function=os.link)
    assert ("sh", "brownfield score my-chain --pull\n") in blocks
    (key,) = (content for language, content in blocks if language == "sh" and "openssl" in content)
    subprocess.run(["/bin/sh", "-euc", key], cwd=tmp_path, check=True)
    ran = run(tmp_path, "-m", "brownfield", "score", "my-chain", "--pull")
    assert ran.stdout == printed_after(blocks, "brownfield score my-chain --pull"), ran.stderr


@pytest.mark.full
def test_the_layout_prints_what_the_tutorial_shows(blocks, zoo, example, tmp_path):
    """``zoo.py`` prints the rows of each silo as the page shows them."""
    ran = run(tmp_path, str(example / "zoo.py"), "my-chain")
    assert ran.stdout == printed_after(blocks, "zoo.py my-chain"), ran.stderr


@pytest.mark.full
def test_the_process_that_the_tutorial_kills_is_the_models(blocks, example, tmp_path):
    """The words that the page looks for are in the command of the model's process, and of no other."""
    shutil.copytree(example, tmp_path / "my-chain", ignore=shutil.ignore_patterns("__pycache__"))
    (kill,) = (content for language, content in blocks if language == "sh" and "kill -9" in content)
    words = re.search(r"pgrep -f (\S+)\)", kill)[1]
    with serve_workspace(tmp_path / "my-chain") as served:
        found = subprocess.run(["pgrep", "-f", str(tmp_path / words)], capture_output=True, text=True, check=False)
        assert [int(pid) for pid in found.stdout.split()] == [
            each.pid for each in descendants(served.process.pid, MODEL)
        ]
    assert found.stdout.count("\n") == 1
