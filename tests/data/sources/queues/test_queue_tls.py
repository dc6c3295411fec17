"""The way to a broker: encrypted and checked unless declared otherwise, and never silently in clear (S-29)."""

import asyncio
import ssl
import time
from collections.abc import Iterator

import pytest
import redis as redis_driver

from brownfield.data.brokers import (
    Broker,
    BrokerAddress,
    BrokerRefused,
    Mqtt,
    Nats,
    Outgoing,
    Rabbitmq,
    Redis,
    Unreachable,
    base,
)
from harness.brokers import HERE, Server, encrypted
from harness.certificates import make_certificate
from harness.ports import free_port

pytestmark = pytest.mark.full

QUEUE = "till"


@pytest.fixture(params=["mqtt", "nats", "redis"], scope="module")
def server(request) -> Iterator[Server]:
    """A broker that answers encrypted alone, with a queue in it."""
    with encrypted(request.param) as started:
        trusted = ssl.create_default_context(cafile=str(started.folder / "certificate.pem"))
        if started.kind == "redis":
            redis_driver.Redis(
                "localhost", started.port, ssl=True, ssl_ca_certs=str(started.folder / "certificate.pem")
            ).xgroup_create(QUEUE, "reader", "0", mkstream=True)
        elif started.kind == "nats":
            asyncio.run(_make_stream(started.port, trusted))
        yield started


async def _make_stream(port: int, trusted: ssl.SSLContext) -> None:
    import nats
    from nats.js.api import AckPolicy, ConsumerConfig

    client = await nats.connect(f"tls://localhost:{port}", tls=trusted)
    await client.jetstream().add_stream(name=QUEUE, subjects=[QUEUE])
    await client.jetstream().add_consumer(QUEUE, ConsumerConfig(durable_name="reader", ack_policy=AckPolicy.EXPLICIT))
    await client.close()


def reader(server: Server, host: str = "localhost", **options) -> Broker:
    """Our side's reader of the queue."""
    address = BrokerAddress(host, server.port, (HERE,), **options)
    return {"mqtt": Mqtt, "nats": Nats, "redis": Redis}[server.kind](address, QUEUE, "reader")


def vouched(server: Server) -> str:
    """What vouches for the broker."""
    return str(server.folder / "certificate.pem")


@pytest.mark.parametrize("options", ["verify", "encrypt"])
def test_s_29_messages_pass_over_an_encrypted_way(server, options):
    """S-29: with the certificate that vouches for the broker, or unchecked where declared, messages go in and out."""
    chosen = {"ca_file": vouched(server)} if options == "verify" else {"tls": "encrypt"}
    taking = reader(server, **chosen)
    taking.depth()
    address = BrokerAddress("localhost", server.port, (HERE,), **chosen)
    writing = {"mqtt": Mqtt, "nats": Nats, "redis": Redis}[server.kind](address, QUEUE)
    writing.publish([Outgoing(f"m-{options}", b"sale", {})])
    found = taking.receive(1, 5.0)
    assert [each.body for each in found] == [b"sale"]
    taking.confirm([each.tag for each in found])
    taking.close()
    writing.close()


def test_s_29_a_broker_that_nobody_vouches_for_is_refused(server, tmp_path):
    """S-29: the default checks: neither the system's certificates nor another issuer's vouch for it, and it says so."""
    another = make_certificate(tmp_path)
    for options in ({}, {"ca_file": str(another)}):
        broker = reader(server, **options)
        with pytest.raises((Unreachable, BrokerRefused), match=r"(?i)certificate|CertVerification"):
            broker.depth()
        broker.close()


def test_s_29_a_certificate_of_another_name_is_refused(server):
    """S-29: the right issuer for the wrong host is not enough."""
    broker = reader(server, "queue.example.internal", ca_file=vouched(server))
    with pytest.raises(BrokerRefused, match=r"(?i)certificate") as refused:
        broker.depth()
    broker.close()
    assert refused.value.next_step == "Give the host by the name that its certificate has."


@pytest.mark.parametrize(
    ("kind", "got"),
    [("mqtt", "reason code"), ("nats", "one that it does not"), ("redis", "asks for a client's certificate")],
)
def test_a_broker_that_does_not_let_us_in_is_not_called_out_of_reach(kind, got, caplog):
    """A wrong account, or a client's certificate that nobody has: asking again is of no use, and it is said why."""
    with encrypted(kind, guarded=True) as guarded:
        account = {} if kind == "redis" else {"user": "till", "password": "wrong-4711"}
        broker = reader(guarded, ca_file=vouched(guarded), **account)
        with pytest.raises(BrokerRefused, match=got) as refused:
            broker.depth()
        broker.close()
    assert "ask the owner of the broker" in refused.value.next_step
    assert "4711" not in str(refused.value)
    assert not [each for each in caplog.records if each.name == "asyncio"]


def test_what_a_broker_said_at_its_end_counts_though_we_were_late_to_write(monkeypatch):
    """TLS 1.3: it asks for a certificate after our half of the handshake, and may be gone when we write."""
    written = ssl.SSLSocket.send

    def late(self, *arguments):
        time.sleep(0.1)
        return written(self, *arguments)

    monkeypatch.setattr(ssl.SSLSocket, "send", late)
    with encrypted("redis", guarded=True) as guarded:
        broker = reader(guarded, ca_file=vouched(guarded))
        with pytest.raises(BrokerRefused, match="asks for a client's certificate"):
            broker.depth()
        broker.close()


def test_s_29_a_broker_in_clear_is_refused_where_encryption_is_declared(redis_server, nats, monkeypatch):
    """S-29: nothing is sent in clear to a broker that does not encrypt, also where the certificate is not checked."""
    monkeypatch.setattr(base, "_CONNECT_TIMEOUT_S", 0.5)
    for plain in (redis_server, nats):
        for options in ({}, {"tls": "encrypt"}):
            broker = reader(plain, **options)
            with pytest.raises((Unreachable, BrokerRefused)):
                broker.depth()
            broker.close()


def test_an_answer_that_is_not_encrypted_is_told_as_that(rabbitmq):
    """Whoever forgot that a broker does not encrypt reads so, and what to declare; other drivers see no answer."""
    broker = Rabbitmq(BrokerAddress("localhost", rabbitmq.port, (HERE,)), QUEUE)
    with pytest.raises(Unreachable, match="does not answer encrypted; if that is so, declare tls"):
        broker.depth()
    broker.close()


def test_a_broker_that_is_not_there_is_told_alike_by_every_driver():
    """What the system below said, not the name of a driver's class."""
    port = free_port()
    for driver in (Mqtt, Nats, Redis):
        broker = driver(BrokerAddress("localhost", port, (HERE,)), QUEUE, "reader")
        with pytest.raises(Unreachable, match="Connection refused"):
            broker.depth()
        broker.close()


def test_s_29_an_encrypted_broker_is_not_spoken_to_in_clear(server):
    """S-29: where the declaration says clear and the broker encrypts, the two do not meet, and it ends."""
    broker = reader(server, tls="off")
    with pytest.raises((Unreachable, BrokerRefused)):
        broker.depth()
    broker.close()
