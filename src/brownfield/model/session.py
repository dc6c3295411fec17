"""How the engine is to run a bundle's model, as ``brownfield fit`` found it and wrote into the manifest."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

__all__ = ["ServedSession", "session_of"]


class ServedSession(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a model's process.

    Parameters
    ----------
    threads
        Of the engine.
    arena
        Whether the engine keeps memory for the next request.
    alone
        Whether requests must never share a batch, because an answer was seen to depend on its neighbours.
    """

    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    arena: bool = True
    alone: bool = False


def session_of(provenance: Mapping[str, Any]) -> ServedSession:
    """Session that a manifest's provenance names; the default one where it names none.

    Examples
    --------
    >>> session_of({"fit": {"session": {"threads": 2}}}).threads
    2
    >>> session_of({"seed": 7}) == ServedSession()
    True
    """
    fitted = provenance.get("fit")
    try:
        return msgspec.convert(fitted["session"] if isinstance(fitted, Mapping) else {}, ServedSession)
    except (KeyError, msgspec.ValidationError):
        return ServedSession()
