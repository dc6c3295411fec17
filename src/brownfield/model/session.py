"""How the engine is to run a bundle's model, as ``brownfield fit`` found it and wrote into the manifest."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from brownfield.model.rules import refused

__all__ = ["ServedSession", "session_of"]


class ServedSession(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a model's process.

    Parameters
    ----------
    threads
        Of the engine.
    arena
        Whether the engine keeps memory for the next request; of onnxruntime alone.
    engine
        ``openvino`` needs the extra of that name where it is served.
    precision
        In what it computes; ``bf16`` needs OpenVINO, and a processor that has it.
    most_rows
        Of a batch that fits into the declared memory, where that is fewer than usual; None where it is not.
    alone
        Whether requests must never share a batch, because an answer was seen to depend on its neighbours.
    """

    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    arena: bool = True
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"
    precision: Literal["fp32", "bf16"] = "fp32"
    most_rows: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        if self.precision != "fp32" and self.engine != "openvino":
            raise ValueError(f"{self.engine} computes in fp32")

    def rows_within(self, usual: int) -> int:
        """Most rows of a shared batch, where so many are usual.

        Examples
        --------
        >>> ServedSession(most_rows=8).rows_within(32), ServedSession().rows_within(32)
        (8, 32)
        """
        return min(usual, self.most_rows or usual)

    @property
    def started_with(self) -> dict[str, Any]:
        """Arguments of :meth:`ModelProcess.start <brownfield.model.process.ModelProcess.start>`, but for threads.

        Examples
        --------
        >>> ServedSession(arena=False).started_with
        {'arena': False, 'engine': 'onnxruntime', 'precision': 'fp32'}
        """
        return {"arena": self.arena, "engine": self.engine, "precision": self.precision}


def session_of(provenance: Mapping[str, Any]) -> ServedSession:
    """Session that a manifest's provenance names; the default one where it names none.

    Raises
    ------
    BundleRefused
        ``manifest-session`` when it names one that there is not: another engine would give other answers.

    Examples
    --------
    >>> session_of({"fit": {"session": {"threads": 2}}}).threads
    2
    >>> session_of({"seed": 7}) == ServedSession()
    True
    """
    fitted = provenance.get("fit")
    if not isinstance(fitted, Mapping) or "session" not in fitted:
        return ServedSession()
    try:
        return msgspec.convert(fitted["session"], ServedSession)
    except msgspec.ValidationError as error:
        raise refused("manifest-session", path="provenance.fit.session", got=str(error)) from error
