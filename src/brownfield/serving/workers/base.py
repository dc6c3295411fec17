"""What the gateway expects of the workers behind one model version."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["Inference", "Pool", "Tensors"]

Tensors = Mapping[str, np.ndarray]
"""Arrays by graph input or output name."""


class Inference(NamedTuple):
    """What a worker answers.

    Parameters
    ----------
    outputs
        Arrays by graph output name.
    infer_ns
        Nanoseconds that the engine itself took, as the worker measured it; 0 when unknown.
    call_rows
        Records that it computed in that time, those of other calls that the worker joined included; 0 when unknown.
    """

    outputs: Tensors
    infer_ns: int
    call_rows: int = 0


class Pool(Protocol):
    """Every worker of one model version; chooses one per call and retries once when it dies."""

    @property
    def ready(self) -> bool:
        """Whether at least one worker can be asked just now."""
        ...

    @property
    def workers(self) -> int:
        """How many there are; where there is none, one has to be loaded first."""
        ...

    def look(self) -> None:
        """Send what was asked and take in what has come, without waiting for this turn of the loop to end."""
        ...

    async def infer(self, tensors: Tensors, rows: int, deadline_ns: int) -> Inference:
        """Run the model on ``rows`` records.

        Parameters
        ----------
        tensors
            C-contiguous arrays by graph input name.
        rows
            Number of records they hold, at least 1.
        deadline_ns
            Monotonic time in nanoseconds after which nobody waits for the answer.

        Raises
        ------
        DeadlineExceeded
            No answer by ``deadline_ns``.
        WorkerUnavailable
            No worker is there, or the one asked and its sibling died.
        ModelFailed
            The worker answered with an error.
        """
        ...
