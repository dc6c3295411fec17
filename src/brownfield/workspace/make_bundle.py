"""Make a bundle of a model that a person brought, for an integration that is declared; build a bundle's environment.

In: the folder that the bundle shall have, below its integration, and the model. Out: the bundle, probed with golden
records, which are invented where none can be taken over. The declaration is never changed: it names the new folder when
a person writes it there.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from brownfield.errors import BundleRefused, DeclarationError
from brownfield.integration import INTEGRATION_FILE, load_workspace
from brownfield.model import Bundle, open_bundle, sample_columns, write_bundle
from brownfield.workspace.brought import Brought, environments_of
from brownfield.workspace.init import SIZES

if TYPE_CHECKING:
    from brownfield.data.features import Features
    from brownfield.integration import IntegrationSpec
    from brownfield.types import Columns

__all__ = ["build_environment", "make_bundle"]

_GOLDEN_ROWS = 8
_SEED = 7


def build_environment(folder: Path, *, wheels: Path | None = None, online: bool = False) -> Path | None:
    """Build the environment of a bundle's lock in its workspace, unless it is there.

    Parameters
    ----------
    folder
        Of the bundle.
    wheels
        Folder of wheels; nothing else is asked then.
    online
        Whether the package index may be asked.

    Returns
    -------
    Path or None
        Its interpreter; None for a bundle without a lock.

    Raises
    ------
    BundleRefused
        The bundle is not sound, or ``environment-build``.
    DeclarationError
        The bundle lies in no workspace.
    """
    lock = open_bundle(folder).lock
    return environments_of(folder).build(lock, wheels=wheels, online=online) if lock else None


def make_bundle(
    folder: Path, brought: Brought, *, version: str, wheels: Path | None = None, online: bool = False
) -> Bundle:
    """Make a bundle; features of the declared bundle are taken over, else the declared ones, else none.

    Parameters
    ----------
    folder
        Where it shall lie: ``integrations/NAME/bundles/BUNDLE`` of a workspace; its name is the bundle's.
    brought
        The model.
    version
        That answers will carry.
    wheels, online
        Where packages of the lock come from, see :func:`build_environment`.

    Raises
    ------
    BundleRefused
        The model is not admitted, or does not answer records that the contract admits.
    DeclarationError
        The folder lies in no integration or is there already, a module comes without its class, or the
        declared features leave something to learn.
    """
    if isinstance(brought.model, Path) and brought.model.suffix == ".py":
        raise DeclarationError(
            path="--model", expected="MODULE.py:CLASS, or an ONNX file", got=ascii(str(brought.model))
        )
    spec = _integration_of(folder)
    if folder.exists():
        raise DeclarationError(
            where=str(folder),
            expected="a folder that is not there yet",
            got="one that is",
            next_step="A bundle never changes: give the new one a folder of its own.",
        )
    environments = environments_of(spec.folder)
    if brought.lock and (wheels is not None or online):
        environments.build(brought.lock, wheels=wheels, online=online)
    earlier = _declared_bundle(spec)
    features = _features(spec, earlier)

    def write(**golden: Any) -> Bundle:
        return write_bundle(
            folder,
            name=folder.name,
            version=version,
            model=brought.model,
            features=features,
            contract=spec.contract,
            lock=brought.lock,
            environments=environments,
            provenance={"made_from": brought.file_name},
            **golden,
        )

    *tries, last = _golden(spec, earlier, features)
    for golden in tries:
        try:
            return write(**golden)
        except BundleRefused as error:
            if error.rule not in ("probe-run", "probe-nan"):
                raise
    return write(**last)


def _golden(spec: "IntegrationSpec", earlier: Bundle | None, features: "Features") -> list[dict[str, Any]]:
    """Give what the model may be asked, as :func:`write_bundle` takes it: records that were kept, then invented ones.

    One record alone is not taken over first where many may share a call: it cannot show that they stand alone.
    """
    request = spec.features_request
    rows = _GOLDEN_ROWS if request.batched else 1
    open_ended = any(field.kind == "tensor" and None in field.shape for field in request.fields)
    invented = [
        cast("Columns", sample_columns(request, rows, _SEED, features=features, size=size))
        for size in (SIZES if open_ended else SIZES[:1])
    ]
    tries: list[dict[str, Any]] = [{"golden_columns": columns} for columns in invented]
    if earlier is not None and earlier.golden is not None:
        inputs = earlier.golden.inputs
        alone = request.batched and min(len(array) for array in inputs.values()) == 1
        tries.insert(len(tries) if alone else 0, {"golden_inputs": inputs})
    return tries


def _integration_of(folder: Path) -> "IntegrationSpec":
    for home in folder.resolve().parents:
        if (home / INTEGRATION_FILE).is_file():
            for spec in load_workspace(home.parents[1]).integrations.values():
                if spec.folder.resolve() == home:
                    return spec
    raise DeclarationError(
        where=str(folder),
        expected="integrations/NAME/bundles/BUNDLE of a workspace",
        got="another folder",
        next_step="A bundle is made for the contract of an integration.",
    )


def _declared_bundle(spec: "IntegrationSpec") -> Bundle | None:
    if spec.model is None or spec.model.path is None:
        return None
    try:
        return open_bundle(spec.file(spec.model.path))
    except BundleRefused:
        return None


def _features(spec: "IntegrationSpec", earlier: Bundle | None) -> "Features":
    from brownfield.data.features import identity, learn, parse_features

    if earlier is not None:
        return earlier.features
    response = spec.contract.schema("response")
    if spec.features is None:
        return identity(spec.contract.schema("request"), response)
    return learn(parse_features(spec.features.data, spec.features_request, response, spec.features.where))
