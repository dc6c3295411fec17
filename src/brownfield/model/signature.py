"""TensorSpec and Signature: the tensors that a graph takes and gives."""

import msgspec

__all__ = ["Signature", "TensorSpec"]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of a graph.

    Parameters
    ----------
    name
        Exactly as in the graph.
    dtype
        NumPy name; ``str`` for texts.
    shape
        Sizes, ``None`` where any size goes; ``None`` as a whole where the graph says nothing (outputs only).
    axes
        The graph's own name of every dynamic dimension, empty where it has none.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    axes: tuple[str, ...] = ()


class Signature(msgspec.Struct, frozen=True):
    """What a graph takes and gives.

    Parameters
    ----------
    inputs, outputs
        In the graph's order; inputs with a default of their own (initializers) are left out.
    opset
        Version of the default operator set.
    nodes
        Nodes of the graph with its subgraphs and functions.
    external_files
        Names of the files beside the model that hold weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    nodes: int
    external_files: tuple[str, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether all tensors share one named dynamic first dimension, so that it counts records."""
        first = {tensor.axes[0] if tensor.axes else "" for tensor in (*self.inputs, *self.outputs)}
        return len(first) == 1 and "" not in first and bool(self.inputs)
