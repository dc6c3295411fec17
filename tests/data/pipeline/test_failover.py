"""The rule of fail-over, by a moved clock: when a lookup goes on, and when it comes back."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.pipeline.failover import Failover, Policy, Standing, State

CHAIN = Failover([State.PRIMARY, State.REPLICA, State.SNAPSHOT, State.FALLBACK])


def failing(times, start=1_000.0, every=1.0):
    """Where a lookup stands after so many failures."""
    standing = Standing()
    for number in range(times):
        standing = CHAIN.failed(standing, start + number * every)
    return standing


def test_three_failures_within_ten_seconds_lead_on():
    """Two failures change nothing, the third leads to the replica, three more to the copy."""
    assert [CHAIN.state(failing(n)) for n in range(7)] == [State.PRIMARY] * 3 + [State.REPLICA] * 3 + [State.SNAPSHOT]


def test_failures_that_lie_apart_never_lead_on():
    """A failure every six seconds leaves it where it is, for ever."""
    assert CHAIN.state(failing(1_000, every=6.0)) == State.PRIMARY


def test_behind_the_last_place_it_refuses_and_stays_there():
    """When every place has failed it refuses, and further failures change nothing."""
    standing = failing(12)
    assert CHAIN.state(standing) == State.REFUSE
    assert CHAIN.failed(standing, 2_000.0) == standing


def test_the_way_back_takes_five_good_probes_and_the_cool_down():
    """Neither five probes within the cool-down nor four after it are enough; a bad one begins anew."""
    away = failing(3)
    standing = away
    for second in range(10):
        standing = CHAIN.probed(standing, 0, away.since_s + second)
    assert CHAIN.state(standing) == State.REPLICA
    assert CHAIN.state(CHAIN.probed(standing, 0, away.since_s + 30)) == State.PRIMARY
    standing = away
    for second in range(4):
        standing = CHAIN.probed(standing, 0, away.since_s + 40 + second)
    standing = CHAIN.probed(standing, None, away.since_s + 44)
    for second in range(4):
        standing = CHAIN.probed(standing, 0, away.since_s + 50 + second)
    assert CHAIN.state(standing) == State.REPLICA
    assert CHAIN.state(CHAIN.probed(standing, 0, away.since_s + 54)) == State.PRIMARY


def test_f43_a_flapping_source_changes_the_state_at_most_every_half_minute():
    """F-43: up one second, down one second, for five minutes: at most a change each cool-down."""
    standing, changes = Standing(), []
    for second in range(300):
        before = CHAIN.state(standing)
        now = 1_000.0 + second
        if standing.place == 0:
            standing = CHAIN.failed(standing, now) if second % 2 else standing
        elif CHAIN.may_return(standing, now):
            standing = CHAIN.probed(standing, None if second % 2 else 0, now)
        changes += [second] if CHAIN.state(standing) != before else []
    assert len(changes) == 1


def test_f65_a_clock_that_jumps_breaks_nothing():
    """F-65: set back or forward, failures of the future do not count, and the way back is open."""
    away = failing(3)
    assert CHAIN.may_return(away, away.since_s - 3_600)
    assert CHAIN.may_return(away, away.since_s + 3 * 86_400)
    once = CHAIN.failed(Standing(), 10_000.0)
    assert CHAIN.failed(once, 5_000.0).failed_at_s == (5_000.0,)


EVENTS = st.lists(st.tuples(st.sampled_from(["failed", "gone", "good", "bad"]), st.floats(0.0, 60.0)), max_size=80)


@given(EVENTS, st.integers(1, 4), st.integers(1, 4))
def test_whatever_happens_a_change_has_its_reason(events, failures, good_probes):
    """On only by enough failures in the window, back only by enough probes in a row and after the cool-down."""
    chain = Failover(CHAIN.states[:-1], Policy(failures=failures, good_probes=good_probes))
    standing, now, recent, good = Standing(), 1_000.0, [], 0
    for event, later in events:
        now += later
        before = standing
        if event in {"failed", "gone"}:
            recent = [at for at in recent if now - chain.policy.window_s < at] + [now]
            standing = chain.failed(standing, now, for_good=event == "gone")
            if standing.place != before.place:
                assert standing.place == before.place + 1
                assert event == "gone" or len(recent) >= failures
                recent, good = [], 0
        else:
            standing = chain.probed(standing, 0 if event == "good" else None, now)
            good = good + 1 if event == "good" and before.place else 0
            if standing.place != before.place:
                assert standing.place == 0
                assert good >= good_probes
                assert now - before.since_s >= chain.policy.cool_down_s
                recent, good = [], 0
        assert msgspec.convert(msgspec.to_builtins(standing), Standing) == standing
