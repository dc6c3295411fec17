"""What holds for the whole house: start-up, docstrings on tests, documented commands, no pickle, no machine's paths."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_says_what_holds(path: Path) -> None:
    """Each test function carries a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.full
def test_s08_no_unsafe_deserialisation_in_the_product() -> None:
    """S-08: pickle and its kin, eval and exec are nowhere in the product."""
    banned_modules = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.split(".")[0]]
            if banned_modules & set(names):
                found.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                found.append(f"{path.name}:{node.lineno} {node.func.id}")
    assert found == []


def test_help_starts_without_the_heavy_modules() -> None:
    """``brownfield --help`` imports none of the modules that cost start-up time."""
    heavy = ["torch", "ray", "scipy", "duckdb", "pyarrow", "onnx", "onnxruntime", "sqlalchemy", "plotly", "numpy"]
    code = f"import sys; import brownfield.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.full
def test_help_starts_in_a_few_times_a_bare_interpreter() -> None:
    """``brownfield --help`` costs at most the stated 0.3 s beyond nothing: the best of five runs, as CPU time."""
    best = min(_cpu_seconds([sys.executable, "-m", "brownfield", "--help"]) for _ in range(5))
    assert best < 0.3


def _cpu_seconds(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def test_every_verb_is_documented_with_an_example() -> None:
    """Each command stands in the reference page and its help ends in an example."""
    import typer

    from brownfield.cli import app

    page = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app)
    for name, verb in command.commands.items():  # type: ignore[attr-defined]
        assert f"## `brownfield {name}`" in page, name
        assert verb.epilog, f"{name} has an example"
        assert verb.epilog.startswith("Example"), name
        for option in verb.params:
            for flag in option.opts:
                if flag.startswith("--"):
                    assert f"`{flag}" in page, f"{name} {flag}"


def test_no_path_of_one_machine_in_tracked_files() -> None:
    """No tracked file names a folder of the machine it was written on."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    pattern = re.compile(r"(?<![\w.])/(?:work|farm|root)/[\w.-]+")
    leaks = []
    for name in tracked:
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        leaks += [f"{name}: {found}" for found in pattern.findall(text)]
    assert leaks == []


def test_markdown_links_lead_somewhere() -> None:
    """Each relative link of the documentation names a file that exists."""
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        relative = [target for target in targets if "://" not in target]
        broken += [f"{page.relative_to(ROOT)}: {target}" for target in relative if not (page.parent / target).exists()]
    assert broken == []
