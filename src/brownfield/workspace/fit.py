"""What ``brownfield fit`` does: search for a model file and session that keep the declared limits, and report it all.

In: a workspace, an integration with a bundle, rows. Out: a :class:`FitReport`; journal, model files and reports lie
under ``var/fit/INTEGRATION``. The declaration and its bundle are never changed: a new bundle is written beside it
when that is asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.errors import DeclarationError
from brownfield.fit import Fit, Rows, Verdict, Wanted, search
from brownfield.fit.report import write_reports
from brownfield.integration import IntegrationSpec, load_workspace
from brownfield.workspace.fit_rows import read_rows, stand_in_rows
from brownfield.workspace.pull import find_integration

if TYPE_CHECKING:
    from brownfield.model import Bundle

__all__ = ["FitReport", "fit"]

_AGREEMENT = "agreement"


class FitReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of :func:`fit`.

    Parameters
    ----------
    integration, bundle
        What was fitted.
    fit
        All that was found out.
    html, json
        The reports.
    notes
        What the reader should know of the rows and the metric.
    written
        Folder of the new bundle, where one was asked for and something fits.
    """

    integration: str
    bundle: str
    fit: Fit
    html: str
    json: str
    notes: tuple[str, ...] = ()
    written: str = ""

    @property
    def fits(self) -> bool:
        """Whether there is something to serve."""
        return self.fit.choice.verdict in (Verdict.FITS, Verdict.FITS_WITH_CHANGES)


def fit(  # noqa: PLR0913 (the parts of a search, each by name)
    workspace: Path,
    integration: str | None = None,
    *,
    rows: Path | None = None,
    labels: str | None = None,
    time_limit_s: float = 600.0,
    seed: int = 0,
    write_bundle: bool = False,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> FitReport:
    """Search for a model file and session that keep the limits of an integration.

    Parameters
    ----------
    workspace
        Its folder.
    integration
        Needed where the workspace has more than one.
    rows
        ``.npz`` or ``.parquet`` of real requests; without it nothing is quantised.
    labels
        Column of the truth in that file.
    time_limit_s, seed, progress
        As :func:`brownfield.fit.search` takes them.
    write_bundle
        Write a bundle of what was chosen beside the present one.

    Raises
    ------
    DeclarationError
        When the integration declares no bundle by its folder, or the rows are none for it.
    """
    spec = find_integration(load_workspace(workspace), integration)
    bundle = _bundle(spec)
    if rows is None:
        if labels is not None:
            raise DeclarationError(path="--labels", expected="a file of rows beside it", got="none")
        given = stand_in_rows(bundle, spec.contract.schema("request"))
    else:
        given = read_rows(rows, bundle, spec.contract.schema("request"), labels)
    folder = workspace / "var" / "fit" / spec.name
    found = search(
        bundle.folder,
        given,
        _wanted(spec),
        folder=folder,
        seed=seed,
        time_limit_s=time_limit_s,
        progress=progress,
    )
    report = FitReport(
        integration=spec.name,
        bundle=f"{bundle.name} {bundle.version}",
        fit=found,
        html=str(folder / "report.html"),
        json=str(folder / "report.json"),
        notes=tuple(_notes(given, spec)),
        written=_write(bundle, spec, found) if write_bundle else "",
    )
    write_reports(folder, found, title=f"{spec.name}: {report.bundle}", notes=report.notes)
    return report


def _bundle(spec: IntegrationSpec) -> "Bundle":
    from brownfield.model import open_bundle

    if spec.model is None or spec.model.path is None:
        raise DeclarationError(
            where=str(spec.name), path="model", expected="a bundle by its folder", next_step="model: bundles/NAME"
        )
    return open_bundle(spec.file(spec.model.path))


def _wanted(spec: IntegrationSpec) -> Wanted:
    limits = spec.constraints
    bare = Wanted()
    return Wanted(
        cpu_cores=limits.cpu_cores,
        memory_mib=limits.memory_mib,
        latency_p99_ms=limits.latency_p99_ms,
        expected_rate_per_s=limits.expected_rate_per_s,
        metric=limits.accuracy.metric if limits.accuracy else bare.metric,
        metric_code=_metric_code(spec),
        max_drop=limits.accuracy.max_drop if limits.accuracy else bare.max_drop,
    )


def _metric_code(spec: IntegrationSpec) -> str:
    accuracy = spec.constraints.accuracy
    if accuracy is None or accuracy.file is None:
        return ""
    return spec.file(accuracy.file).read_text(encoding="utf-8")


def _notes(rows: Rows, spec: IntegrationSpec) -> list[str]:
    notes = []
    if rows.invented:
        notes.append("no rows were given: nothing is quantised, because accuracy cannot be judged on invented rows")
    declared = spec.constraints.accuracy.metric if spec.constraints.accuracy else _AGREEMENT
    if rows.labels is None and declared != _AGREEMENT:
        notes.append(f"the rows have no labels: agreement with the fp32 model stands for {declared}")
    return notes


def _write(bundle: "Bundle", spec: IntegrationSpec, found: Fit) -> str:
    """Bundle of the chosen file, with its session, cost curve and figures; empty when nothing fits."""
    from brownfield.model import as_golden, compute
    from brownfield.model import write_bundle as write

    row = found.chosen
    if row is None or row.timing is None or row.accuracy is None:
        return ""
    version = f"{bundle.version[:48]}-fit-{bundle.digest[:6]}{found.seed}"
    folder = bundle.folder.with_name(f"{bundle.folder.name}-{version}")
    if folder.exists():
        raise DeclarationError(where=str(folder), expected="no bundle of this fit yet", got="one")
    source = Path(found.model_folder)
    golden = None
    if bundle.golden is not None:
        golden = as_golden(bundle.golden.inputs, compute(source, [bundle.golden.inputs])[0])
    figures: dict[str, float] = {
        "fit_p50_us": row.timing.p50_us.value,
        "fit_p99_us": row.timing.p99_us[0],
        "fit_peak_mib": row.timing.peak_mib,
        "fit_drop_upper": row.accuracy.drop.upper,
    }
    provenance: dict[str, Any] = {
        **bundle.provenance,
        "fit": {
            "of": bundle.digest,
            "candidate": row.candidate.name,
            "session": {**msgspec.to_builtins(row.candidate.session), "alone": row.isolated is False},
            "cost_curve_us": dict(row.curve_us),
            "batch_isolated": row.isolated,
            "machine": msgspec.to_builtins(found.machine),
        },
    }
    write(
        folder,
        name=bundle.name,
        version=version,
        model=source / "model.onnx",
        features=bundle.features,
        contract=spec.contract,
        golden=golden,
        metrics={**bundle.metrics, **figures},
        provenance=provenance,
    )
    return str(folder)
