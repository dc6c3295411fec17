"""What went wrong on the prediction path: as an error of ours, as a cause in words, and whom to blame."""

import logging
from typing import TYPE_CHECKING

from brownfield.errors import (
    BrownfieldError,
    DeadlineExceeded,
    InputRefused,
    ModelFailed,
    OutputRefused,
    Overloaded,
    Unavailable,
    WorkerUnavailable,
)
from brownfield.model.process import AnswerLate, RunFailed, WorkerDied
from brownfield.serving.gateway.enrich import LookupUnanswered

if TYPE_CHECKING:
    from brownfield.serving.gateway.served import Served, Version
    from brownfield.types import Decision

__all__ = ["CAUSES", "Unanswered", "as_ours", "blames_model", "cause_of", "had_no_memory", "is_callers"]

_log = logging.getLogger(__name__)

_LONGEST_REASON = 300  # characters: a process of a model has written them
_MOST_TOLD = 8


class Unanswered(Unavailable):
    """The model could not answer and no declared fallback did: a typed refusal, to be tried again later.

    Parameters
    ----------
    decision
        The decision not to answer, with its cause.
    message, next_step
        In other words than the usual ones.
    """

    code = "BF-ERR-UNANSWERED"

    def __init__(self, decision: "Decision", message: str = "", next_step: str = "") -> None:
        super().__init__(
            message or f"no answer from the model ({decision.cause}), and no fallback that answers",
            next_step=next_step
            or "Try again later; declare a constant at the end of the fallback chain to never see this.",
        )
        self.decision = decision


def as_ours(error: Exception, served: "Served", version: "Version | None" = None) -> BrownfieldError:
    """Give a failure as one that the callers are told of; of a version's model, the log is told too."""
    if isinstance(error, BrownfieldError):
        if version is not None and isinstance(error, ModelFailed | OutputRefused):
            _tell_once(error, version)
        return error
    _log.error(
        "the prediction path failed",
        exc_info=error,
        extra={"event": "BF-GTW-PATH-FAILED", "integration": served.name},
    )
    return ModelFailed("features or model failed unexpectedly")


def _tell_once(error: BrownfieldError, version: "Version") -> None:
    """Say in the log how a model goes wrong, each way once: callers learn the cause alone, and every one may fail."""
    reason = str(error)[:_LONGEST_REASON]
    if reason in version.told or len(version.told) >= _MOST_TOLD:
        return
    version.told.add(reason)
    extra = {"event": "BF-GTW-MODEL-FAILED", "version": version.label, "reason": reason}
    _log.warning("a model gave no answer that can be used", extra=extra)


CAUSES: dict[type[BrownfieldError], str] = {
    AnswerLate: "deadline",
    DeadlineExceeded: "deadline",
    LookupUnanswered: "lookup",
    ModelFailed: "model",
    OutputRefused: "output",
    Overloaded: "overload",
    WorkerDied: "worker",
    WorkerUnavailable: "worker",
}


def cause_of(error: BrownfieldError) -> str:
    """Say in a word of :data:`CAUSES` why the model did not answer."""
    return CAUSES.get(type(error), "model")


def had_no_memory(error: BrownfieldError) -> bool:
    """Whether a call was too large for the memory of the model's process, or of its device."""
    return isinstance(error, RunFailed) and error.cause == "memory"


def is_callers(refused: InputRefused, served: "Served") -> bool:
    """Whether a value that the features refuse is the caller's own, and not one that a lookup gave."""
    own = served.request.names
    return any(violation.field in own or not violation.field for violation in refused.violations)


def blames_model(error: BaseException, *, fair: bool) -> bool:
    """Whether the breaker counts it: not when the caller left, nor when a worker died.

    A late answer counts when the model was given a fair time: half of the declared deadline or more, which neither the
    caller nor a stall before the model had used up. The pool knows by itself that a worker is gone; its replacement
    must not wait for a breaker.
    """
    if isinstance(error, DeadlineExceeded):
        return fair
    return isinstance(error, Exception) and not isinstance(error, WorkerUnavailable | Overloaded | InputRefused)
