"""When a lookup goes on to the next place of its chain, and when it comes back: a pure function of what happened.

In: where it stands, what was seen, and when. Out: where it stands then. A single failure changes nothing, and a source
that flaps is not come back to: a change takes several failures, and lasts a while.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["Failover", "Policy", "Standing", "State"]


class State(StrEnum):
    """What a lookup is read from."""

    PRIMARY = "PRIMARY"
    REPLICA = "REPLICA"
    SNAPSHOT = "SNAPSHOT"
    FALLBACK = "FALLBACK"
    REFUSE = "REFUSE"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How many failures, how many good probes, and how long; as :class:`brownfield.integration.FailoverSpec`."""

    failures: int = 3
    window_s: float = 10.0
    good_probes: int = 5
    cool_down_s: float = 30.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lookup stands; what is kept between runs.

    Parameters
    ----------
    place
        Index in the chain; the length of the chain when every place failed.
    since_s
        When it came there, in seconds since 1970.
    failed_at_s
        Failures of this place within the window, oldest first.
    candidate
        A better place that answered the last probes; None when the last one did not answer.
    good
        How often in a row.
    """

    place: int = 0
    since_s: float = 0.0
    failed_at_s: tuple[float, ...] = ()
    candidate: int | None = None
    good: int = 0


class Failover:
    """The rule of one chain.

    Parameters
    ----------
    states
        What each place of the chain is, in order; behind the last one the lookup refuses.
    policy
        As declared.

    Examples
    --------
    >>> chain = Failover([State.PRIMARY, State.SNAPSHOT], Policy(failures=2, good_probes=1, cool_down_s=30))
    >>> standing = chain.failed(Standing(), 100.0)
    >>> chain.state(standing), chain.state(standing := chain.failed(standing, 101.0))
    (<State.PRIMARY: 'PRIMARY'>, <State.SNAPSHOT: 'SNAPSHOT'>)
    >>> chain.state(chain.probed(standing, 0, 110.0)), chain.state(chain.probed(standing, 0, 131.0))
    (<State.SNAPSHOT: 'SNAPSHOT'>, <State.PRIMARY: 'PRIMARY'>)
    """

    def __init__(self, states: Iterable[State], policy: Policy | None = None) -> None:
        self.states = (*states, State.REFUSE)
        self.policy = policy or Policy()

    def state(self, standing: Standing) -> State:
        """Say what a lookup is read from."""
        return self.states[min(standing.place, len(self.states) - 1)]

    def failed(self, standing: Standing, now_s: float, *, for_good: bool = False) -> Standing:
        """Take note that the present place failed, or missed its deadline.

        Parameters
        ----------
        for_good
            Another try would not help: a copy that is too old does not grow younger.
        """
        since_s = now_s - self.policy.window_s
        recent = (*(at for at in standing.failed_at_s if since_s < at <= now_s), now_s)
        if standing.place >= len(self.states) - 1:
            return standing
        if for_good or len(recent) >= self.policy.failures:
            return Standing(place=standing.place + 1, since_s=now_s)
        return msgspec.structs.replace(standing, failed_at_s=recent)

    def may_return(self, standing: Standing, now_s: float) -> bool:
        """Whether it is time to look at the better places; a clock that was set back ends the cool-down."""
        return standing.place > 0 and not standing.since_s <= now_s < standing.since_s + self.policy.cool_down_s

    def probed(self, standing: Standing, answered: int | None, now_s: float) -> Standing:
        """Take note of a round of probes.

        Parameters
        ----------
        answered
            The best place before the present one that answered; None when none did.
        """
        if answered is None or answered >= standing.place:
            return msgspec.structs.replace(standing, candidate=None, good=0)
        good = standing.good + 1 if answered == standing.candidate else 1
        if good >= self.policy.good_probes and self.may_return(standing, now_s):
            return Standing(place=answered, since_s=now_s)
        return msgspec.structs.replace(standing, candidate=answered, good=min(good, self.policy.good_probes))
