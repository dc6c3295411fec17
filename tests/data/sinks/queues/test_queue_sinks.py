"""Effects in the queues of four real brokers: confirmed, found again, and never lost by a writer that is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from brownfield.data.brokers import BrokerAddress
from brownfield.data.formats import Json
from brownfield.data.sinks import Applied, Found, QueueSink
from brownfield.errors import Fenced, SinkRefused, SinkUnavailable
from harness.queue_shop import LEGACY

pytestmark = [pytest.mark.full, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))
WRITER = Path(__file__).with_name("queue_writer.py")
BATCH = pa.record_batch({"basket": [1, 2, 3], "score": [0.5, 0.25, None]})


@pytest.fixture
def sink(legacy, tmp_path):
    """A sink of the queue, with its ledger."""
    with QueueSink(legacy.writer(), legacy.queue, Json().encode, tmp_path / "ledger.db") as made:
        yield made


def test_an_effect_is_a_message_for_each_record(sink, legacy):
    """Each record is one message whose identifier is the effect's and its number; asked again nothing is sent."""
    assert sink.find("e1") is Found.ABSENT
    assert sink.apply("e1", BATCH, {"after": 3}) == Applied(3, repeated=False)
    assert sink.apply("e1", BATCH, {"after": 3}) == Applied(3, repeated=True)
    assert (sink.find("e1"), sink.position()) == (Found.DONE, {"after": 3})
    taken = legacy.take()
    assert [name for name, _ in taken] == ["e1-0", "e1-1", "e1-2"]
    assert [json.loads(body) for _, body in taken] == BATCH.to_pylist()


def test_f_40_an_effect_that_was_begun_is_sent_again_under_the_same_names(sink, legacy, monkeypatch):
    """F-40: sent but not noted, it is sent again under the same identifiers; NATS and Redis keep one."""
    with monkeypatch.context() as patched:
        patched.setattr(sink._ledger, "finish", lambda *_: (_ for _ in ()).throw(SinkUnavailable("killed")))
        with pytest.raises(SinkUnavailable):
            sink.apply("e1", BATCH, {"after": 3})
    assert (sink.find("e1"), sink.position()) == (Found.STAGED, None)
    assert sink.apply("e1", BATCH, {"after": 3}) == Applied(3, repeated=False)
    names = Counter(name for name, _ in legacy.take())
    assert set(names) == {"e1-0", "e1-1", "e1-2"}
    assert set(names.values()) == ({1} if legacy.kind in {"nats", "redis"} else {2})


def test_an_owner_that_was_replaced_sends_nothing(sink, legacy, tmp_path):
    """Whoever takes over refuses the one before, and nothing of it is sent."""
    with QueueSink(legacy.writer(), legacy.queue, Json().encode, tmp_path / "ledger.db"), pytest.raises(Fenced):
        sink.apply("e1", BATCH)
    assert legacy.take() == []


def test_f_42_a_broker_that_is_gone_is_said_so(legacy, tmp_path):
    """F-42: out of reach a sink says so and notes nothing as done."""
    broker = type(legacy.writer())(BrokerAddress("127.0.0.1", 1, ("127.0.0.1",), tls="off"), legacy.queue)
    with pytest.raises(SinkUnavailable):
        QueueSink(broker, legacy.queue, Json().encode, tmp_path / "l.db").take_over()


@pytest.mark.parametrize("legacy", sorted(set(LEGACY) - {"redis"}), indirect=True)  # its streams begin when written
def test_a_place_that_nobody_keeps_is_refused(legacy, tmp_path):
    """Where no queue, stream or subscriber would keep the messages, the effect is refused and not noted as made."""
    broker = type(legacy.writer())(legacy.address, "nobody-listens")
    sink = QueueSink(broker, "nobody-listens", Json().encode, tmp_path / "l.db")

    def write() -> None:
        sink.take_over()
        sink.apply("e1", BATCH)

    with pytest.raises((SinkRefused, SinkUnavailable)):
        write()
    assert sink.find("e1") is not Found.DONE
    sink.close()


def test_f_40_killed_writers_lose_no_message(legacy, tmp_path):
    """F-40, R-05: kill -9 again and again: every message is there; a copy has its name, NATS and Redis have none."""
    queue = f"{legacy.queue}/out" if legacy.kind == "mqtt" else legacy.queue
    settings = {
        "kind": legacy.kind, "port": legacy.server.port, "queue": queue, "ledger": str(tmp_path / "ledger.db"),
    }  # fmt: skip
    chance = random.Random(7)  # noqa: S311 (moments of kills)
    with subprocess.Popen(
        [sys.executable, WRITER, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writers:
        for _ in range(KILLS):
            writer = begin(writers, 0)
            time.sleep(chance.uniform(0, 0.5))
            os.kill(writer, signal.SIGKILL)
            assert writers.stdout.readline() == "-9\n"
        begin(writers, 3)
        assert writers.stdout.readline() == "0\n"
        writers.stdin.close()
    taken = legacy.take()
    bodies = {}
    for name, body in taken:
        assert bodies.setdefault(name, body) == body
    last = max(int(name.split("-")[1]) for name, _ in taken)
    assert last > 3  # what the killed ones made, too
    assert {name: json.loads(body)["basket"] for name, body in bodies.items()} == {
        f"effect-{number}-{row}": number * 10 + row for number in range(1, last + 1) for row in range(10)
    }
    if legacy.kind in {"nats", "redis"}:
        assert len(taken) == len(bodies)


def begin(writers: subprocess.Popen, effects: int) -> int:
    """Begin a writer, and give its process."""
    writers.stdin.write(f"{effects}\n")
    writers.stdin.flush()
    return int(writers.stdout.readline())
