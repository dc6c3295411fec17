"""What the prediction path gives to a door."""

from typing import TYPE_CHECKING

from brownfield.serving.gateway.latency import Split
from brownfield.types import Decision

if TYPE_CHECKING:
    from brownfield.contract import Checked
    from brownfield.serving.gateway.enrich import LookupNote

__all__ = ["Answer"]


class Answer:
    """What a door turns into its own format.

    Parameters
    ----------
    checked
        The response after its contract check: ``columns``, ``rows`` and ``record(i)``.
    decision
        Who answered and why.
    split
        Where the time went; the door marks ``SERIALIZE`` on it.
    age_s
        Whole seconds since the model gave it, when it is given again; None when it is new.
    lookups
        What the declared lookups said.
    """

    __slots__ = ("age_s", "checked", "decision", "lookups", "split")

    def __init__(
        self,
        checked: "Checked",
        decision: Decision,
        split: Split,
        age_s: int | None = None,
        lookups: "tuple[LookupNote, ...]" = (),
    ) -> None:
        self.checked = checked
        self.decision = decision
        self.split = split
        self.age_s = age_s
        self.lookups = lookups
