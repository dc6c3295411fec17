"""The same small integration reads the queues of four real brokers, each message with exactly one effect."""

import hashlib
import json
import random

import paho.mqtt.client as paho
import pytest

from brownfield.data.brokers import Unreachable
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.store import open_store
from brownfield.workspace.replay import replay
from harness.brokers import HERE
from harness.ports import free_port
from harness.queue_shop import LEGACY, sale
from harness.queues import left

pytestmark = pytest.mark.full


def test_f_56_each_message_has_one_effect(shop, legacy):
    """F-56: duplicates, another order and bad messages: accepted and quarantined add up to the messages sent."""
    messages = [sale(line, line % 5) for line in range(300)]
    twice = [*messages, *messages[40:80]]
    random.Random(7).shuffle(twice)  # noqa: S311 (an order)
    legacy.send(twice)
    first = shop.run()
    assert (first.rows_in, first.accepted, first.quarantined) == (300, 240, 60)
    assert shop.lines() == [line for line in range(300) if line % 5]
    assert left(legacy) == 0
    legacy.send(messages[:50])
    again = shop.run()
    assert (again.rows_in, left(legacy)) == (0, 0)
    assert shop.totals() == (300, 240, 60)


def test_f_45_an_acknowledgement_that_is_lost_has_no_second_effect(shop, legacy, monkeypatch):
    """F-45, F-56: the connection is lost between commit and acknowledgement; what comes again is recognised."""
    legacy.send(sale(line) for line in range(50))

    def lost(_self, _tags):
        raise Unreachable("lost")

    with monkeypatch.context() as patched:
        patched.setattr(type(legacy.broker()), "confirm", lost)
        assert shop.run().accepted == 50
    assert shop.run().rows_in == 0
    left(legacy)
    assert shop.run().rows_in == 0
    assert shop.lines() == list(range(50))


def test_refused_messages_keep_their_bytes_and_their_reason(shop, legacy):
    """A message that is no JSON, is empty, is too long or has no identifier is in quarantine with its own code."""
    bodies = {"b1": b"{", "b2": b"", "b3": b'{"line_id": 1, "quantity": 1}' + b" " * 2000}
    legacy.send([*bodies.items(), sale(1)])
    report = shop.run()
    assert (report.accepted, report.quarantined) == (1, 3)
    found = {entry.position.split(",")[0]: (entry.code, entry.raw) for entry in shop.quarantined()}
    assert found == {
        "message b1": ("BF-JSON-002", b"{"),
        "message b2": ("BF-MSG-003", b""),
        "message b3": ("BF-MSG-002", bodies["b3"]),
    }


def test_refused_records_of_csv_messages_are_replayed_with_the_header_of_their_message(shop, legacy):
    """Each message may have columns of its own; a record is read with those that it came with."""
    declared = shop.folder / "integrations/reco/integration.yaml"
    declared.write_text(declared.read_text().replace("messages:", "format: csv\n    messages:"))
    bodies = [b"line_id,quantity\n1,0\n2,2\n", b"line_id,quantity\n3,-1\n", b"quantity,x,line_id\n0,7,4\nx,7,5\n"]
    legacy.send([(f"c{number}", body) for number, body in enumerate(bodies)])
    assert shop.run().quarantined == 4
    contract = shop.folder / "integrations/reco/contract.odcs.yaml"
    contract.write_text(contract.read_text().replace(", logicalTypeOptions: {exclusiveMinimum: 0}", ""))
    done = replay(shop.folder, source="sales", apply=True)
    assert (done.selected, done.accepted, done.still_bad, done.unreadable) == (4, 3, 1, 0)
    assert shop.lines() == [1, 2, 3, 4]


def test_f_54_f_57_poison_is_quarantined_and_the_rest_flows(shop, legacy, monkeypatch):
    """F-54, F-57: a message that fails every run is alone in its last one, then refused; no other is harmed."""
    from brownfield.data.formats import Json

    legacy.send([*map(sale, range(4)), ("poison", b'{"line_id": 666}'), *map(sale, range(5, 8))])
    real = Json.decode

    def explode(self, stream, wanted, *more):
        body = stream.getvalue()
        if b"666" in body:
            raise RuntimeError("a fault of ours")
        return real(self, stream, wanted, *more)

    monkeypatch.setattr(Json, "decode", explode)
    failed = 0
    for _ in range(30):
        try:
            shop.run()
        except RuntimeError:
            failed += 1
        if left(legacy, 0.1) == 0:
            break
    assert failed == 3
    assert shop.lines() == [0, 1, 2, 3, 5, 6, 7]
    (entry,) = shop.quarantined()
    assert (entry.code, entry.raw, entry.position) == ("BF-MSG-001", b'{"line_id": 666}', "message poison")
    digest = hashlib.sha256(b"poison").hexdigest()
    with open_store(shop.folder / "var/brownfield.db") as store:
        assert store.inbox.attempts("reco", "sales", [digest]) == {}
        assert store.inbox.committed("reco", "sales", [digest]) == {digest}


def test_f_42_f_43_a_broker_that_is_gone_costs_no_message_an_attempt(shop, legacy, proxy, monkeypatch):
    """F-42, F-43: a broker that refuses is tried later and later; then all messages come, none nearer poison."""
    legacy.send(sale(line) for line in range(20))
    proxy.refusing = True
    monkeypatch.setenv("QUEUE_PORT", str(proxy.port))
    for _ in range(6):
        with pytest.raises(SourceUnavailable):
            shop.run()
    tries = proxy.opened_at
    assert len(tries) <= 6
    assert tries[5] - tries[0] > 3  # jittered and doubled: never sooner than 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s
    proxy.refusing = False
    monkeypatch.setenv("QUEUE_PORT", str(legacy.server.port))
    assert shop.run().accepted == 20


def test_f_45_a_connection_cut_in_the_middle_keeps_nothing_and_loses_nothing(shop, legacy, proxy, monkeypatch):
    """F-45: the connection is cut while messages are taken; the run keeps nothing, the next one reads them all."""
    legacy.send((f"m{line}", json.dumps({"line_id": line, "quantity": 1, "pad": "x" * 500}).encode())
                for line in range(400))  # fmt: skip
    monkeypatch.setenv("QUEUE_PORT", str(proxy.port))
    proxy.cut_after = 60_000
    with pytest.raises(SourceUnavailable):
        shop.run()
    assert shop.lines() == []
    monkeypatch.setenv("QUEUE_PORT", str(legacy.server.port))
    for _ in range(20):
        shop.run()
        if left(legacy, 0.1) == 0:
            break
    assert shop.lines() == list(range(400))
    assert shop.quarantined() == []


@pytest.mark.parametrize("legacy", sorted(set(LEGACY) - {"mqtt"}), indirect=True)  # its topics begin when named
def test_a_queue_that_is_not_there_is_refused(shop, legacy):
    """A queue, consumer or group that its owner did not make is named, with what the owner can do."""
    declared = shop.folder / "integrations/reco/integration.yaml"
    declared.write_text(declared.read_text().replace(f"queue: {legacy.queue}", "queue: nothing"))
    with pytest.raises(DeclarationError, match=r"none of this name\. Its owner runs: .* nothing|name=nothing"):
        shop.run()


def test_a_broker_that_does_not_run_is_told_with_its_address(shop, legacy, monkeypatch):
    """Who reads the message sees where was looked, and what the system said."""
    port = free_port()
    monkeypatch.setenv("QUEUE_PORT", str(port))
    with pytest.raises(SourceUnavailable, match=rf"{HERE}:{port}: Connection refused"):
        shop.run()


def unnamed(legacy, bodies) -> None:
    """Send messages as a producer that names none of them."""
    if legacy.kind == "redis":
        for body in bodies:
            legacy.client.xadd(legacy.queue, {"body": body})
    elif legacy.kind == "rabbitmq":
        channel = legacy.channel()
        for body in bodies:
            channel.basic_publish("", legacy.queue, body)
        channel.queue_declare(legacy.queue, passive=True)
        legacy._connection.close()
    elif legacy.kind == "nats":

        async def sent(_client, stream):
            for body in bodies:
                await stream.publish(legacy.queue, body)

        legacy.call(sent)
    else:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect(HERE, legacy.server.port)
        client.loop_start()
        for body in bodies:
            client.publish(legacy.queue, body, qos=1).wait_for_publish(30)
        client.disconnect()
        client.loop_stop()


def test_f_56_a_message_without_an_identifier_is_refused_with_its_code(shop, legacy):
    """F-56: where the producer's identifier is wanted, a message without one is `BF-MSG-004`, bytes kept, once."""
    bodies = [sale(1)[1], sale(2)[1]]
    unnamed(legacy, bodies)
    legacy.send([sale(3)])
    first = shop.run()
    assert (first.rows_in, first.accepted, first.quarantined) == (3, 1, 2)
    assert shop.lines() == [3]
    assert sorted((entry.code, entry.raw) for entry in shop.quarantined()) == [("BF-MSG-004", body) for body in bodies]
    assert left(legacy) == 0
    unnamed(legacy, bodies[:1])
    assert shop.run().rows_in == 0
    assert left(legacy) == 0


def test_f_56_equal_messages_are_one_where_content_is_the_identity(shop, legacy):
    """F-56: with `identity: content` no identifier is needed, equal bytes count once, over runs and within one."""
    declared = shop.folder / "integrations/reco/integration.yaml"
    declared.write_text(declared.read_text().replace("id_header: id", "identity: content"))
    bodies = [sale(line)[1] for line in range(20)]
    unnamed(legacy, [*bodies, *bodies[5:15]])
    legacy.send([("another-name", bodies[0]), ("m20", sale(20)[1])])
    first = shop.run()
    assert (first.rows_in, first.accepted, first.quarantined) == (21, 21, 0)
    unnamed(legacy, bodies[:3])
    assert shop.run().rows_in == 0
    assert shop.lines() == list(range(21))
    assert left(legacy) == 0
