"""A pool without processes: a Python function answers in the caller's own loop. For tests and demonstrations."""

import asyncio
from collections.abc import Callable

from brownfield.clock import Clock, SystemClock
from brownfield.errors import DeadlineExceeded, WorkerUnavailable
from brownfield.serving.workers.base import Inference, Tensors

__all__ = ["InlinePool"]


class InlinePool:
    """A pool whose only worker is a function; a first-class fake that keeps the pool's promises.

    Parameters
    ----------
    function
        Takes and returns arrays by name; what it raises, the caller sees.
    delay_s
        How long an answer takes; beyond the deadline it is :class:`~brownfield.errors.DeadlineExceeded`.
    clock
        Time; the machine's own by default.

    Examples
    --------
    >>> import numpy as np
    >>> pool = InlinePool(lambda tensors: {"y": tensors["x"] * 2})
    >>> answer = asyncio.run(pool.infer({"x": np.ones(2)}, 2, 2**62))
    >>> answer.outputs["y"].tolist()
    [2.0, 2.0]
    """

    def __init__(
        self, function: Callable[[Tensors], Tensors], *, delay_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.function = function
        self.delay_s = delay_s
        self.alive = True
        self.calls = 0
        self._clock = clock or SystemClock()

    @property
    def ready(self) -> bool:
        """Whether the worker is alive; set ``alive`` to play a death."""
        return self.alive

    @property
    def workers(self) -> int:
        """How many there are: one."""
        return 1

    def look(self) -> None:
        """Do nothing: answers are there when the loop comes to them."""

    async def infer(self, tensors: Tensors, rows: int, deadline_ns: int) -> Inference:  # noqa: ARG002 (a function needs no row count)
        """Call the function after the delay; see :meth:`brownfield.serving.workers.base.Pool.infer`."""
        self.calls += 1
        left_s = (deadline_ns - self._clock.monotonic_ns()) / 1e9
        if self.delay_s > 0:
            await asyncio.sleep(max(0.0, min(self.delay_s, left_s)))
        if not self.alive:
            raise WorkerUnavailable("the worker died")
        if self.delay_s >= left_s:
            raise DeadlineExceeded("no answer from the model in time")
        started_ns = self._clock.monotonic_ns()
        outputs = self.function(tensors)
        return Inference(outputs, self._clock.monotonic_ns() - started_ns)
