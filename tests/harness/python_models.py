"""Workspaces that serve Python classes under the contract ``risk``: four numbers in, one out."""

from pathlib import Path

import numpy as np

from brownfield.contract import compile_contract
from brownfield.data.features import identity
from brownfield.integration import load_document
from brownfield.model import PythonModel, write_bundle
from harness import harmful


def bundle_class(workspace: Path, name: str, module: Path, class_name: str, *files: Path, **parts) -> Path:
    """Bundle a class for the integration ``risk`` of a workspace that is declared."""
    home = workspace / "integrations" / "risk"
    contract = compile_contract(load_document((home / "contract.odcs.yaml").read_text(), "contract").data)
    write_bundle(
        home / "bundles" / name,
        name="risk",
        version=name,
        model=PythonModel(module, class_name, files),
        features=identity(contract.schema("request"), contract.schema("response")),
        contract=contract,
        golden_columns={"x": np.arange(8, dtype=np.float32).reshape(2, 4)},
        **parts,
    )
    return home / "bundles" / name


def bundle_harmful(workspace: Path, name: str = "one", target: tuple[str, ...] = ()) -> Path:
    """Bundle the class that does harm on demand."""
    scratch = workspace / "scratch"
    scratch.mkdir(exist_ok=True)
    (scratch / "target.txt").write_text(" ".join(target))
    return bundle_class(workspace, name, Path(harmful.__file__), "Harmful", scratch / "target.txt")
