"""What ``brownfield fit`` does: search for a model file and session that keep the declared limits, and report it all.

In: a workspace, an integration with a bundle, rows. Out: a :class:`FitReport`; journal, model files and reports lie
under ``var/fit/INTEGRATION``. The declaration and its bundle are never changed: a new bundle is written beside it
when that is asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.errors import BundleRefused
from brownfield.fit import CURVE_ROWS, Fit, Row, Verdict, judge_probe, pack_probe, search, with_advice
from brownfield.fit.report import write_reports
from brownfield.integration import IntegrationSpec
from brownfield.workspace.fit_inputs import Inputs, RowsFrom, gather

if TYPE_CHECKING:
    from brownfield.model import Bundle, ServedSession

__all__ = ["FitReport", "finish", "fit", "fit_on", "pack"]

_MODEL = "model.onnx"


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
    rows: RowsFrom = RowsFrom(),  # noqa: B008 (frozen)
    prices: Path | None = None,
    time_limit_s: float = 540.0,
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
        Real requests; without them nothing is quantised.
    prices
        A price book instead of the declared one.
    time_limit_s, seed, progress
        As :func:`brownfield.fit.search` takes them.
    write_bundle
        Write a bundle of what was chosen beside the present one.

    Raises
    ------
    DeclarationError
        When the integration declares no bundle by its folder, or the rows are none for it.
    """
    given = gather(workspace, integration, rows, prices=prices, seed=seed)
    found = search(
        given.source,
        given.rows,
        given.wanted,
        folder=given.folder,
        seed=seed,
        time_limit_s=time_limit_s,
        progress=progress,
        given=given.given,
    )
    found = with_advice(found, given.source, given.rows, given.prices, progress=progress)
    return finish(given, found, write_bundle=write_bundle)


def pack(
    workspace: Path,
    integration: str | None,
    file: Path,
    *,
    rows: RowsFrom = RowsFrom(),  # noqa: B008 (frozen)
    seed: int = 0,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Write a probe that measures on another machine; the parameters are those of :func:`fit`, with the file."""
    given = gather(workspace, integration, rows, prices=None, seed=seed)
    return pack_probe(
        given.source,
        given.rows,
        given.wanted,
        folder=given.folder / "probe",
        file=file,
        seed=seed,
        given=given.given,
        progress=progress,
    )


def fit_on(  # noqa: PLR0913 (as `fit`)
    workspace: Path,
    integration: str | None,
    result: Path,
    *,
    rows: RowsFrom = RowsFrom(),  # noqa: B008 (frozen)
    prices: Path | None = None,
    seed: int = 0,
    write_bundle: bool = False,
) -> FitReport:
    """Judge what a probe brought back; the parameters are those of :func:`fit`, with the probe's result."""
    given = gather(workspace, integration, rows, prices=prices, seed=seed)
    folder = given.folder / "probe"
    found = judge_probe(result, given.source, given.rows, given.wanted, folder=folder, seed=seed, prices=given.prices)
    return finish(given, found, write_bundle=write_bundle, where="-probe")


def finish(given: Inputs, found: Fit, *, write_bundle: bool, where: str = "") -> FitReport:
    """Write the reports of a search, and the bundle where one is wanted and something fits.

    Parameters
    ----------
    given, found
        What was searched, and what was found.
    write_bundle
        Whether to write a bundle.
    where
        Added to the names of the reports: they are of another machine.
    """
    report = FitReport(
        integration=given.spec.name,
        bundle=f"{given.bundle.name} {given.bundle.version}",
        fit=found,
        html=str(given.folder / f"report{where}.html"),
        json=str(given.folder / f"report{where}.json"),
        notes=given.notes,
        written=_write(given.bundle, given.spec, found) if write_bundle else "",
    )
    write_reports(given.folder, found, title=f"{given.spec.name}: {report.bundle}", notes=report.notes, where=where)
    return report


def _write(bundle: "Bundle", spec: IntegrationSpec, found: Fit) -> str:
    """Bundle of the chosen file, with its session, cost curve and figures; empty when nothing fits.

    An earlier search may have written one: that one, where it holds the same, else one beside it.
    """
    from brownfield.model import ServedSession, as_golden, compute
    from brownfield.model import write_bundle as write

    row = found.chosen
    if row is None or row.timing is None or row.accuracy is None:
        return ""
    source = Path(found.model_folder)
    session = ServedSession(
        **msgspec.structs.asdict(row.candidate.session), most_rows=_most_rows(row), alone=row.isolated is False
    )
    first = version = f"{bundle.version[:40]}-fit-{bundle.digest[:6]}{found.seed}"
    number = 1
    while (folder := bundle.folder.with_name(f"{bundle.folder.name}-{version}")).exists():
        if _holds(folder, spec, row, session, source):
            return str(folder)
        number += 1
        version = f"{first}-{number}"
    golden = None
    if bundle.golden is not None:
        golden = as_golden(bundle.golden.inputs, compute(source, [bundle.golden.inputs], session=session)[0])
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
            "session": msgspec.to_builtins(session),
            "cost_curve_us": dict(row.curve_us),
            "batch_isolated": row.isolated,
            "machine": msgspec.to_builtins(found.machine),
        },
    }
    write(
        folder,
        name=bundle.name,
        version=version,
        model=source / _MODEL,
        features=bundle.features,
        contract=spec.contract,
        golden=golden,
        metrics={**bundle.metrics, **figures},
        provenance=provenance,
    )
    return str(folder)


def _holds(folder: Path, spec: IntegrationSpec, row: Row, session: "ServedSession", source: Path) -> bool:
    """Whether a folder is a bundle of this choice already."""
    from brownfield.model import open_bundle

    try:
        there = open_bundle(folder)
    except BundleRefused:
        return False
    fitted = there.provenance.get("fit", {})
    said = {"candidate": row.candidate.name, "session": msgspec.to_builtins(session)}
    return (
        there.contract_digest == spec.contract.digest
        and {name: fitted.get(name) for name in said} == said
        and (folder / _MODEL).read_bytes() == (source / _MODEL).read_bytes()
    )


def _most_rows(row: Row) -> int | None:
    """Largest batch that was answered within the declared memory, where a larger one was not."""
    largest = max((int(count) for count in row.curve_us), default=1)
    return largest if row.isolated is not None and largest < max(CURVE_ROWS) else None
