"""Every kind of source with every kind of sink, killed at random moments: nothing is lost, nothing is there twice.

In each run of the full suite every source and every sink is in one pair at least, with 20 kills; ``make soak`` runs all
pairs with 1,000.
"""

from itertools import product

import pytest

from harness import delivery
from harness.delivery import KILLS, Soak
from harness.delivery_queues import QUEUE_SINKS, QUEUE_SOURCES

pytestmark = [pytest.mark.full, pytest.mark.timeout(120 + 3 * KILLS)]

SOURCES = {**delivery.SOURCES, **QUEUE_SOURCES}
SINKS = {**delivery.SINKS, **QUEUE_SINKS}
EVERY = list(product(SOURCES, SINKS))


def covering():
    """Give pairs in which every source and every sink stands at least once, none beside one of its own kind."""
    sources, sinks = list(SOURCES), list(SINKS)
    count = max(len(sources), len(sinks))
    return [(sources[place % len(sources)], sinks[(place + 1) % len(sinks)]) for place in range(count)]


@pytest.mark.parametrize(("source", "sink"), EVERY if KILLS > 20 else covering())
def test_f_40_r_05_killed_between_source_and_sink_nothing_is_lost_or_twice(source, sink, tmp_path, request):
    """F-40, R-05, I3: records, tables, ledgers, outbox and counts agree behind kill -9 at any moment."""
    giving, taking = SOURCES[source](tmp_path, request), SINKS[sink](tmp_path, request)
    try:
        soak = Soak(tmp_path, giving, taking)
        soak.kill(KILLS)
        soak.settle()
        soak.check()
    finally:
        giving.close()
        taking.close()
