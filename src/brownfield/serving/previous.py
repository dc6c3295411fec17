"""The bundle before this one, where a fallback chain asks for it: found by the store's admissions, loaded as any other.

It is an integration of its own to those who load and keep processes, under a name that no person can declare; callers
never see it but as the fallback of its integration. Its process stays warm for as long as the declaration is in force.
"""

import dataclasses
import logging
from typing import TYPE_CHECKING

import msgspec

from brownfield.errors import BrownfieldError
from brownfield.model import digest_of_bundle
from brownfield.serving.fallback.previous_version import PreviousVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from brownfield.integration import IntegrationSpec, WorkspaceSpec
    from brownfield.serving.gateway import Served
    from brownfield.serving.loading import Loaded

__all__ = ["base_of", "earlier_of", "place_of", "with_previous"]

_log = logging.getLogger(__name__)

_SUFFIX = "@previous"


def base_of(name: str) -> str:
    """Name of the integration that a loaded model belongs to.

    Examples
    --------
    >>> base_of("risk@previous"), base_of("risk")
    ('risk', 'risk')
    """
    return name.removesuffix(_SUFFIX)


def place_of(served: "Served") -> PreviousVersion | None:
    """Place in the chain of an integration at which the version before is asked; None where it is not."""
    return next((each for each in served.fallbacks if isinstance(each, PreviousVersion)), None)


def with_previous(spec: "WorkspaceSpec", admitted: "Callable[[str], Sequence[str]]") -> "dict[str, IntegrationSpec]":
    """Give every integration, and those of the bundles before them.

    Parameters
    ----------
    spec
        The declaration.
    admitted
        Gives the digests of the bundles that answered for an integration, oldest first.
    """
    return {**spec.integrations, **dict(_previous(spec, admitted))}


def earlier_of(spec: "IntegrationSpec", before: "Mapping[str, Loaded]") -> "Loaded | None":
    """Give what was loaded for an integration, or for the one whose bundle is the one before now."""
    names = (spec.name, base_of(spec.name))
    found = [before[name] for name in names if name in before]
    wanted = spec.file(spec.model.path) if spec.model is not None and spec.model.path is not None else None
    same = [one for one in found if one.bundle is not None and one.bundle.folder == wanted]
    return next(iter([*same, *found]), None)


def _previous(
    spec: "WorkspaceSpec", admitted: "Callable[[str], Sequence[str]]"
) -> "Iterator[tuple[str, IntegrationSpec]]":
    for name, one in spec.integrations.items():
        if one.model is None or one.model.path is None or not any(s.previous_version for s in one.fallback.chain):
            continue
        path = _path_before(one, admitted)
        if path is None:
            extra = {"event": "BF-SRV-NO-PREVIOUS", "integration": name}
            _log.warning("there is no previous version yet, or its bundle is gone", extra=extra)
            continue
        yield (
            name + _SUFFIX,
            dataclasses.replace(
                one,
                name=name + _SUFFIX,
                model=msgspec.structs.replace(one.model, path=path),
                fallback=msgspec.structs.replace(one.fallback, chain=()),
            ),
        )


def _path_before(spec: "IntegrationSpec", admitted: "Callable[[str], Sequence[str]]") -> str | None:
    """Folder, below the integration, of the bundle that was admitted before the declared one."""
    if spec.model is None or spec.model.path is None:
        return None
    declared = spec.file(spec.model.path)
    own = _digest(declared)
    try:
        folders = {_digest(folder): folder for folder in declared.parent.iterdir() if folder.is_dir()}
        answered = admitted(spec.name)
    except (BrownfieldError, OSError):
        return None
    for digest in reversed(answered):
        if digest == own:  # as it is, or a copy of it under another name
            continue
        folder = folders.get(digest)  # one that is gone has no substitute in an older one
        return None if folder is None else str(folder.relative_to(spec.folder))
    return None


def _digest(folder: "Path") -> str:
    try:
        return digest_of_bundle(folder)
    except (BrownfieldError, OSError):
        return ""
