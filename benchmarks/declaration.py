"""How long a large workspace takes to load and to check, and what the YAML parser costs in it.

Run: ``python benchmarks/declaration.py [INTEGRATIONS]`` (200 unless said). Each integration is the retail example's,
with its contract and features; the parser is paired with ruamel.yaml's pure one on the same files where that is
installed.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from brownfield.integration import load_document, load_workspace
from brownfield.workspace.check import check

EXAMPLE = Path(__file__).parent.parent / "examples" / "retail"
NAME = "store-recommendations"


def lay_out(folder: Path, integrations: int) -> list[Path]:
    """Copy the example as often as asked, without its bundle; return the YAML files."""
    shutil.copy(EXAMPLE / "brownfield.yaml", folder)
    source = EXAMPLE / "integrations" / NAME
    for number in range(integrations):
        home = folder / "integrations" / f"copy-{number}"
        shutil.copytree(source, home, ignore=shutil.ignore_patterns("bundles"))
        declaration = home / "integration.yaml"
        declaration.write_text(declaration.read_text().replace(f"integration: {NAME}", f"integration: copy-{number}"))
    return sorted(folder.rglob("*.yaml"))


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main(integrations: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        texts = [file.read_text() for file in lay_out(folder, integrations)]
        lines = sum(text.count("\n") for text in texts) / integrations
        print(f"{integrations} integrations of {lines:.0f} lines of YAML each")
        print(f"load           {seconds(lambda: load_workspace(folder)):6.2f} s")
        print(f"load and check {seconds(lambda: check(folder)):6.2f} s")
        ours = seconds(lambda: [load_document(text, "x") for text in texts])
        print(f"of it YAML     {ours:6.2f} s")
        try:
            from ruamel.yaml import YAML
        except ImportError:
            return
        pure = YAML(typ="safe", pure=True)
        theirs = seconds(lambda: [pure.load(text) for text in texts[: len(texts) // 10]]) * 10
        print(f"ruamel.yaml    {theirs:6.2f} s ({theirs / ours:.0f} times ours)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
