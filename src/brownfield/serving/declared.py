"""What a gateway needs of the declaration, read once and kept: a gateway that is started again finds it as it was.

The files may have been edited since, and a reload that was refused must not come in by the back door.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.integration import load_workspace
from brownfield.serving.loading import build_chain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.integration import WorkspaceSpec
    from brownfield.model import Bundle
    from brownfield.serving.fallback.base import Fallback

__all__ = ["Declared", "digest_of", "read_declared"]


@dataclass(eq=False)
class Declared:
    """One declaration with its fallback chains.

    Parameters
    ----------
    spec
        The workspace.
    chains
        The fallbacks of each integration, in order.
    digest
        Of everything that was declared.
    bundles
        Those that answer, by digest; filled as they become known.
    """

    spec: "WorkspaceSpec"
    chains: "Mapping[str, tuple[Fallback, ...]]"
    digest: str
    bundles: "dict[str, Bundle]" = field(default_factory=dict)


def read_declared(source: "Path | WorkspaceSpec") -> Declared:
    """Read a declaration from its folder, or take one that was read.

    Raises
    ------
    DeclarationError
        It has mistakes, or a fallback is not as declared.
    """
    spec = load_workspace(source) if isinstance(source, Path) else source
    chains = {name: build_chain(one) for name, one in spec.integrations.items()}
    return Declared(spec, chains, digest_of(spec))


def digest_of(spec: "WorkspaceSpec") -> str:
    """Digest of a workspace and all of its integrations, as they were read."""
    parts = [spec.digest, *(f"{name} {one.digest}" for name, one in sorted(spec.integrations.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
