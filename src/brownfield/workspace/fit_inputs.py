"""All that ``brownfield fit`` starts from: declaration, bundle, rows, limits, further files, prices.

In: a workspace and what the command line says, which comes before the declaration's key ``fit``. Out: an
:class:`Inputs`. Refused: an integration without a bundle, and rows, tables or groups that are none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brownfield.errors import DeclarationError
from brownfield.fit import Imported, Rows, Source, Wanted, import_model
from brownfield.fit.source import Tensors
from brownfield.integration import IntegrationSpec, PriceBook, load_prices, load_workspace
from brownfield.store import private_folder
from brownfield.workspace.fit_rows import read_rows, read_table, stand_in_rows
from brownfield.workspace.pull import find_integration

if TYPE_CHECKING:
    from brownfield.model import Bundle

__all__ = ["Inputs", "RowsFrom", "gather"]

_AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsFrom:
    """Where the command line says the rows are; what it leaves out is taken from the declaration.

    Parameters
    ----------
    file
        ``.npz`` or ``.parquet``.
    table
        Of the pipeline.
    labels
        Column of the truth.
    """

    file: Path | None = None
    table: str | None = None
    labels: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a search is made of.

    Parameters
    ----------
    spec, bundle
        The integration and its present bundle.
    rows, wanted
        As :func:`brownfield.fit.search` takes them.
    given
        Further model files by name.
    prices
        The site's book; None without one.
    folder
        Where journal, model files and reports are kept.
    source
        Of the ``model.onnx`` that is fitted: a copy of the bundle's, or what a declared program gave.
    notes
        What the reader should know of rows and metric.
    """

    spec: IntegrationSpec
    bundle: "Bundle"
    rows: Rows
    wanted: Wanted
    given: Mapping[str, Path]
    prices: PriceBook | None
    folder: Path
    source: Path
    notes: tuple[str, ...]


def gather(workspace: Path, integration: str | None, rows_from: RowsFrom, *, prices: Path | None, seed: int) -> Inputs:
    """Read everything before anything is measured.

    Parameters
    ----------
    workspace
        Its folder.
    integration
        Needed where the workspace has more than one.
    rows_from
        What the command line says of rows.
    prices
        A price book instead of the declared one.
    seed
        Of the choice of rows from a table.

    Raises
    ------
    DeclarationError
        When the integration declares no bundle by its folder, or the rows are none for it.
    """
    spec = find_integration(load_workspace(workspace), integration)
    bundle = _bundle(spec)
    rows = _rows(workspace, spec, bundle, rows_from, seed)
    folder = workspace / "var" / "fit" / spec.name
    rows, imported = _imported(spec, bundle, rows, folder, seed)
    given = {name: _there(spec, name, relative) for name, relative in spec.fit.candidates.items()}
    book = prices or (spec.file(spec.fit.prices) if spec.fit.prices else None)
    return Inputs(
        spec=spec,
        bundle=bundle,
        rows=rows,
        wanted=_wanted(spec, rows),
        given={**given, **{name: Path(file) for name, file in (imported.others if imported else {}).items()}},
        prices=None if book is None else load_prices(book),
        folder=folder,
        source=Path(imported.folder) if imported else _copied(bundle, folder),
        notes=(*_of_import(imported), *_notes(rows, spec)),
    )


def _of_import(imported: Imported | None) -> tuple[str, ...]:
    if imported is None:
        return ()
    drawn = "its weights are drawn at random, for none are declared and build() loads none: no accuracy means anything"
    return (imported.how, drawn) if imported.untrained else (imported.how,)


def _bundle(spec: IntegrationSpec) -> "Bundle":
    from brownfield.model import open_bundle

    if spec.model is None or spec.model.path is None:
        raise DeclarationError(
            where=str(spec.name), path="model", expected="a bundle by its folder", next_step="model: bundles/NAME"
        )
    return open_bundle(spec.file(spec.model.path))


def _copied(bundle: "Bundle", folder: Path) -> Path:
    """Copy the model: whatever becomes of the bundle while it is measured, what is measured is what was verified."""
    from brownfield.model import copy_graph

    if bundle.python is not None:
        return bundle.folder
    return copy_graph(bundle.folder, bundle.manifest, private_folder(folder / "bundle") / bundle.digest[:16])


def _rows(workspace: Path, spec: IntegrationSpec, bundle: "Bundle", said: RowsFrom, seed: int) -> Rows:
    declared = spec.fit.rows
    if said.file is not None and said.table is not None:
        raise DeclarationError(path="--rows", expected="either --rows or --table", got="both")
    file, table, labels = said.file, said.table, said.labels
    if file is None and table is None and declared is not None:
        file, table = spec.file(declared.file) if declared.file else None, declared.table
        labels = labels or declared.labels
    request, slices = spec.features_request, _slices(spec)
    if file is not None:
        return read_rows(file, bundle, request, labels, slices)
    if table is not None:
        folder = workspace / "var" / "data" / spec.name
        return read_table(folder, table, bundle=bundle, request=request, labels=labels, slices=slices, seed=seed)
    if labels is not None:
        raise DeclarationError(path="--labels", expected="rows beside it", got="none")
    return stand_in_rows(bundle, request)


def _imported(
    spec: IntegrationSpec, bundle: "Bundle", rows: Rows, folder: Path, seed: int
) -> tuple[Rows, Imported | None]:
    """Make the model of the declared program, if there is one; a program that trains takes half of the rows away."""
    declared = spec.fit.source
    if declared is None:
        return rows, None
    kind = next(name for name in ("module", "torchscript", "train") if getattr(declared, name) is not None)
    training = None
    if kind == "train":
        if rows.invented:
            raise DeclarationError(path="fit.source.train", expected="rows to train on", got="none")
        order = np.random.default_rng([seed, 1]).permutation(len(rows))
        training, rows = rows.take(order[: len(rows) // 2]), rows.take(np.sort(order[len(rows) // 2 :]))
    source = Source(
        kind=kind,
        file=spec.file(getattr(declared, kind)),
        weights=spec.file(declared.weights) if declared.weights else None,
        exporter=declared.exporter,
    )
    for key, file in ((kind, source.file), ("weights", source.weights)):
        if file is not None and not file.is_file():
            raise DeclarationError(where=file.name, path=f"fit.source.{key}", expected="a file", got="no such file")
    like = Tensors(bundle.inputs, bundle.outputs)
    return rows, import_model(source, rows, like=like, folder=folder / "source", training=training, seed=seed)


def _slices(spec: IntegrationSpec) -> tuple[str, ...]:
    """Fields whose values tell groups apart; their values stand in the report, so none may be classified."""
    chosen = tuple(spec.constraints.accuracy.slices) if spec.constraints.accuracy else ()
    for schema in spec.contract.schemas.values():
        for field in schema.fields:
            if field.name in chosen and field.classification:
                raise DeclarationError(
                    path=f"constraints.accuracy.slices.{field.name}",
                    expected="a field without a classification",
                    got=f"one of the class {field.classification}",
                    next_step="The values of such a field would stand in the report.",
                )
    return chosen


def _wanted(spec: IntegrationSpec, rows: Rows) -> Wanted:
    limits, bare = spec.constraints, Wanted()
    return Wanted(
        cpu_cores=limits.cpu_cores,
        memory_mib=limits.memory_mib,
        latency_p99_ms=limits.latency_p99_ms,
        expected_rate_per_s=limits.expected_rate_per_s,
        metric=limits.accuracy.metric if limits.accuracy else bare.metric,
        metric_code=_metric_code(spec),
        metric_file=(limits.accuracy.file or "") if limits.accuracy else "",
        max_drop=limits.accuracy.max_drop if limits.accuracy else bare.max_drop,
        slices=dict(limits.accuracy.slices) if limits.accuracy and not rows.invented else {},
    )


def _metric_code(spec: IntegrationSpec) -> str:
    accuracy = spec.constraints.accuracy
    if accuracy is None or accuracy.file is None:
        return ""
    try:
        return spec.file(accuracy.file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError(
            where=accuracy.file,
            path="constraints.accuracy.file",
            expected="a Python file in UTF-8",
            got=f"a byte that is not, at offset {error.start}",
            next_step="Save the file as UTF-8.",
        ) from error


def _there(spec: IntegrationSpec, name: str, relative: str) -> Path:
    file = spec.file(relative)
    if not file.is_file():
        raise DeclarationError(
            where=relative, path=f"fit.candidates.{name}", expected="an ONNX file", got="no such file"
        )
    return file


def _notes(rows: Rows, spec: IntegrationSpec) -> list[str]:
    notes = []
    if rows.invented:
        notes.append("no rows were given: nothing is quantised, because accuracy cannot be judged on invented rows")
        if spec.fit.candidates:
            notes.append("the declared candidates were left out for the same reason")
    declared = spec.constraints.accuracy.metric if spec.constraints.accuracy else _AGREEMENT
    if rows.labels is None and declared != _AGREEMENT:
        notes.append(f"the rows have no labels: agreement with the fp32 model stands for {declared}")
    return notes
