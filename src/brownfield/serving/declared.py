"""What a gateway needs of the declaration, read once and kept: a gateway that is started again finds it as it was.

The files may have been edited since, and a reload that was refused must not come in by the back door.
"""

import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.serving.loading import build_chain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.integration import WorkspaceSpec
    from brownfield.model import Bundle
    from brownfield.serving.fallback.base import Fallback

__all__ = ["Declared", "check_folder", "check_readable", "digest_of", "lasting", "read_declared"]


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


def check_folder(folder: Path) -> None:
    """Refuse a workspace whose path is no text in the encoding of file names: its processes could not tell each other.

    Raises
    ------
    DeclarationError
        A name in it was written in another encoding, as it stands in archives of older systems.
    """
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise DeclarationError(
            where=os.fsencode(folder.absolute()).decode(errors="backslashreplace"),
            expected=f"a path in {sys.getfilesystemencoding().upper()}",
            got="bytes that are none",
            next_step="Rename the folder, or set LANG to the locale in which it was named.",
        ) from error


def check_readable(spec: "WorkspaceSpec") -> None:
    """Refuse bundles that this user may not read: at a start that is a mistake of the installation, not of a model.

    A bundle that is not there, or is not as it was sealed, is no reason to refuse callers: the fallback answers.

    Raises
    ------
    DeclarationError
        With the first file or folder that may not be read.
    """
    for one in spec.integrations.values():
        if one.model is None or one.model.path is None:
            continue
        folder = one.file(one.model.path)
        for path in (folder, *(sorted(folder.rglob("*")) if os.access(folder, os.R_OK | os.X_OK) else ())):
            if path.exists() and not os.access(path, os.R_OK):
                raise DeclarationError(
                    where=str(path),
                    path=f"{one.name}: model.path",
                    expected="a bundle that this user may read",
                    got="Permission denied",
                    next_step="Look at its owner and mode, or serve as its user.",
                )


def digest_of(spec: "WorkspaceSpec") -> str:
    """Digest of a workspace and all of its integrations, as they were read."""
    parts = [spec.digest, *(f"{name} {one.digest}" for name, one in sorted(spec.integrations.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def lasting(spec: "WorkspaceSpec") -> dict[str, object]:
    """Give what takes a restart to change, by key of ``serving``."""
    serving = spec.serving
    keys = "host", "port", "health_port", "gateways", "limits", "cpu_wake_us"
    return {**{key: getattr(serving, key) for key in keys}, "tls": serving.tls is not None}
