"""What ``brownfield bundle`` does: verify a bundle from its files alone, and try its model where it cannot harm."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from brownfield.errors import BundleRefused, DeclarationError

if TYPE_CHECKING:
    from brownfield.model import Bundle, Environments, ProbeReport, TensorSpec

__all__ = ["BundleExamination", "examine_bundle"]


class BundleExamination(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified bundle says of itself, and how its model did when it was tried.

    Parameters
    ----------
    name, version, digest
        Identity; the digest covers every file.
    contract
        ``id@version`` of the contract it was made for.
    inputs, outputs
        ``name dtype [shape]`` of the graph's tensors; ``?`` is any size.
    runs
        What runs it: ``onnxruntime``, or ``python MODULE.py:CLASS``.
    environment
        Whose packages it runs with, and whether they are there.
    golden
        Whether it brings records with known answers.
    metrics
        As measured when it was made.
    probe
        Load and answer time in seconds, peak memory in MiB, largest difference; None when it was not tried.
    warnings
        What the host lacks to confine the model, and the like.
    """

    name: str
    version: str
    digest: str
    contract: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runs: str
    environment: str
    golden: bool
    metrics: dict[str, float]
    probe: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.name} {self.version}, sound",
            f"digest    {self.digest}",
            f"contract  {self.contract}",
            *(f"input     {tensor}" for tensor in self.inputs),
            *(f"output    {tensor}" for tensor in self.outputs),
            f"runs      {self.runs}",
            f"packages  {self.environment}",
            f"golden    {'records with known answers' if self.golden else 'none'}",
            *(f"metric    {name} {value:.6g}" for name, value in sorted(self.metrics.items())),
            *(f"probe     {name} {value:.3g}" for name, value in (self.probe or {}).items()),
            *(f"warning   {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)


def examine_bundle(folder: Path, *, probe: bool = False) -> BundleExamination:
    """Verify a bundle and, when asked, run its golden records in a throw-away, sandboxed process.

    Parameters
    ----------
    folder
        Of the bundle.
    probe
        Whether to run the model.

    Raises
    ------
    BundleRefused
        With the identifier of the rule that it breaks.
    DeclarationError
        When there is no such folder.
    """
    from brownfield import model

    if not folder.is_dir():
        raise DeclarationError(
            where=str(folder),
            expected="the folder of a bundle",
            got="a file" if folder.exists() else "no such folder",
            next_step="Bundles lie in integrations/NAME/bundles of a workspace.",
        )
    bundle = model.open_bundle(folder)
    environment = _environment(bundle)
    tried = model.probe(bundle, program=bundle.program(_environments(bundle))) if probe else None
    return BundleExamination(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        contract=bundle.manifest.contract,
        inputs=tuple(_tensor(each) for each in bundle.inputs),
        outputs=tuple(_tensor(each) for each in bundle.outputs),
        runs=f"python {bundle.python.module}:{bundle.python.class_name}" if bundle.python else "onnxruntime",
        environment=environment,
        golden=bundle.golden is not None,
        metrics={name: float(value) for name, value in bundle.manifest.metrics.items()},
        probe=_measured(tried) if tried else None,
        warnings=tuple(tried.warnings) if tried else (),
    )


def _environments(bundle: "Bundle") -> "Environments | None":
    from brownfield.workspace.brought import environments_of

    try:
        return environments_of(bundle.folder) if bundle.lock else None
    except DeclarationError:
        return None


def _environment(bundle: "Bundle") -> str:
    if not bundle.lock:
        return "those of Brownfield"
    try:
        bundle.program(_environments(bundle))
    except BundleRefused:
        return "an environment of its own, not built here"
    return "an environment of its own, built here"


def _measured(tried: "ProbeReport") -> dict[str, float]:
    return {
        "load_s": tried.load_s,
        "answer_s": tried.answer_s,
        "peak_mib": tried.peak_mib,
        "largest_difference": tried.largest_difference,
    }


def _tensor(spec: "TensorSpec") -> str:
    shape = "any rank" if spec.shape is None else ", ".join("?" if size is None else str(size) for size in spec.shape)
    return f"{spec.name} {spec.dtype} [{shape}]"
