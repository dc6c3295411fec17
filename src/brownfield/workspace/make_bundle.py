"""Make a bundle of a model that a person brought, for an integration that is declared; build a bundle's environment.

In: the folder that the bundle shall have, below its integration, and the model. Out: the bundle, probed with golden
records, which are invented where none can be taken over. The declaration is never changed: it names the new folder when
a person writes it there.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from brownfield.errors import BundleRefused, DeclarationError
from brownfield.integration import INTEGRATION_FILE, load_workspace
from brownfield.model import Bundle, open_bundle, sample_columns, write_bundle
from brownfield.workspace.brought import Brought, environments_of

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
    """Make a bundle; what the declared bundle reads and fills is taken over, else fields are tensors.

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
        The folder lies in no integration.
    """
    spec = _integration_of(folder)
    environments = environments_of(spec.folder)
    if brought.lock and (wheels is not None or online):
        environments.build(brought.lock, wheels=wheels, online=online)
    earlier = _declared_bundle(spec)
    features = _features(spec, earlier)
    request = spec.contract.schema("request")
    rows = _GOLDEN_ROWS if request.batched else 1
    return write_bundle(
        folder,
        name=folder.name,
        version=version,
        model=brought.model,
        features=features,
        contract=spec.contract,
        lock=brought.lock,
        environments=environments,
        golden_columns=cast("Columns", sample_columns(request, rows, _SEED, features=features)),
        provenance={"made_from": brought.file_name},
    )


def _integration_of(folder: Path) -> "IntegrationSpec":
    for home in folder.resolve().parents:
        if (home / INTEGRATION_FILE).is_file():
            return load_workspace(home.parents[1]).integrations[home.name]
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
    from brownfield.data.features import identity

    if earlier is not None:
        return earlier.features
    return identity(spec.contract.schema("request"), spec.contract.schema("response"))
