"""What computes: a model in a folder, loaded once, then arrays in and arrays out.

Each engine is a module of this folder, named in the options, with one function ``load``: it takes the
:class:`~.start.Options` and gives an :class:`Engine`. It imports its software inside that function: by then the sandbox
has closed.
"""

from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

__all__ = ["Engine", "EngineError", "Tensor"]

Tensor: TypeAlias = NDArray[Any]


class EngineError(Exception):
    """The model cannot be loaded or cannot answer; the text never holds a value of a request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine(Protocol):
    """A loaded model.

    Attributes
    ----------
    inputs, outputs
        ``{"name": ..., "dtype": ..., "shape": [...]}`` in the order in which tensors travel; None for a dimension
        that varies.
    batched
        True when the first dimension of every input and output is the same free number of rows.
    name, version
        Of the software that computes.
    threads
        As read back from it.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    batched: bool
    name: str
    version: str
    threads: int

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Compute the outputs; raises :class:`EngineError`."""
        ...
