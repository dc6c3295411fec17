"""What a search found out, and on which machine.

In: nothing. Out: the types that reports, advice and probes for other machines read.
"""

from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import msgspec

from brownfield.fit.advice import Advice
from brownfield.fit.choose import Choice, Noise, Row, Wanted
from brownfield.host import HostFacts

__all__ = ["Fit", "Machine"]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured: a verdict holds for this kind of machine and no other."""

    cpu_model: str
    cpu_flags: tuple[str, ...]
    cores: int
    memory_mib: int
    machine: str
    kernel: str
    engines: str

    @classmethod
    def of(cls, host: HostFacts) -> "Machine":
        """Facts of a host that matter to a model."""
        return cls(
            cpu_model=host.cpu_model,
            cpu_flags=tuple(sorted(host.cpu_flags)),
            cores=host.cores,
            memory_mib=host.memory_mib,
            machine=host.machine,
            kernel=host.kernel,
            engines=", ".join(_versions("onnxruntime", "openvino")),
        )


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """All that a search found out.

    Parameters
    ----------
    choice
        Verdict, chosen candidate, reasons, shortfalls.
    rows
        One per candidate, simplest first.
    wanted, machine, noise
        Limits, where it was measured, and how quiet it was there; ``noise`` is None when fp32 itself does not run.
    calibration_rows, selection_rows, final_rows
        How the rows were shared out; they never overlap.
    invented_rows
        Whether the rows were made up: then nothing is quantised, and accuracy is not judged.
    complete
        False when the time ran out; the next call goes on.
    resumed
        Measurements taken over from a search that was interrupted.
    seed, seconds
        Of the split; wall time of this call.
    model_folder
        Of the ``model.onnx`` of the chosen candidate, or of the nearest one; empty without either.
    advice
        What would help where nothing fits; see :func:`brownfield.fit.advise`.
    """

    choice: Choice
    rows: tuple[Row, ...]
    wanted: Wanted
    machine: Machine
    noise: Noise | None
    calibration_rows: int
    selection_rows: int
    final_rows: int
    invented_rows: bool
    complete: bool
    resumed: int
    seed: int
    seconds: float
    model_folder: str = ""
    advice: Advice | None = None

    @property
    def chosen(self) -> Row | None:
        """Row of the chosen candidate."""
        return next((row for row in self.rows if row.candidate.name == self.choice.chosen), None)


def _versions(*packages: str) -> Iterator[str]:
    for package in packages:
        with suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"
