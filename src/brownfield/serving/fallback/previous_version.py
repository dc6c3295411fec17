"""The bundle before this one answers, in a process of its own that stays warm: the nearest thing to the model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brownfield.types import Columns

__all__ = ["PreviousVersion"]


class PreviousVersion:
    """A place in the chain at which another version is asked; unlike its neighbours it does not answer from memory.

    The prediction path asks it as it asks the model, within what is left of the deadline. It is not asked because of
    overload or a deadline: a second model on a busy machine makes both slower.

    Attributes
    ----------
    version
        What is asked, a :class:`~brownfield.serving.gateway.served.Version`; None while there is none.
    """

    source = "previous_version"
    causes = frozenset({"breaker", "model", "no_model", "output", "poison", "worker"})

    def __init__(self) -> None:
        self.version: Any = None

    @property
    def ready(self) -> bool:
        """Whether its version may be asked: there is one, its workers are up and its breaker is closed, or due."""
        return self.version is not None and bool(self.version.may_be_asked)

    def answer(self, columns: "Columns", rows: int) -> "Columns | None":  # noqa: ARG002 (it must be waited for)
        """Pass on to the next in the chain."""
        return None
