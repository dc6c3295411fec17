"""What is promised between each kind of source and sink follows from their flags, and the page says the same."""

import re
from itertools import product
from pathlib import Path

import pytest

from brownfield.integration import DEFAULT, SinkFlags, SourceFlags, delivery_claim

PAGE = (Path(__file__).parents[2] / "docs/reference/delivery.md").read_text()
SOURCES = {name: kind.gives for name, kind in DEFAULT.connections.items() if getattr(kind, "gives", None)}
SINKS = {name: kind.takes for name, kind in DEFAULT.connections.items() if getattr(kind, "takes", None)}


def test_the_page_holds_the_whole_matrix():
    """Every pair of kinds that can be read and written stands on the page, with the mechanism and claim of the code."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    expected = [
        (source, sink, *delivery_claim(SOURCES[source], SINKS[sink]))
        for source, sink in product(sorted(SOURCES), sorted(SINKS))
    ]
    assert rows == expected


def test_every_kind_says_what_it_can_do():
    """A kind of connection that a feed can read has flags as a source."""
    feeds = {name for name, kind in DEFAULT.connections.items() if kind.holds in {"table", "path", "queue"}}
    assert feeds == set(SOURCES)
    assert set(SINKS) <= feeds


@pytest.mark.parametrize(
    ("takes", "claim"),
    [
        (SinkFlags(transactional=True), "exactly-once effect"),
        (SinkFlags(atomic_publish=True), "exactly-once appearance"),
        (SinkFlags(dedupes_by_id=True), "exactly once within the broker's window"),
        (SinkFlags(), "at least once, with the message id as key"),
    ],
)
def test_the_strongest_flag_of_a_sink_decides(takes, claim):
    """A transaction beats a rename, a rename beats a broker's memory; a source that cannot replay weakens each."""
    assert delivery_claim(SourceFlags(), takes)[1].startswith(claim)
    assert delivery_claim(SourceFlags(replayable=False), takes)[1].endswith("; from the commit on")
