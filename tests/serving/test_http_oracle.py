"""The door against its oracle, the same handler as ASGI app under uvicorn, and against itself however bytes are cut."""

import asyncio
import contextlib
import io
import itertools
import json
import re
import socket
import struct
import threading

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brownfield.errors import Unauthenticated
from brownfield.serving.gateway import Dataplane, Door, Handler, Limits, Served, Snapshot, Version, asgi_app
from brownfield.serving.gateway.http_connection import Connection

pytestmark = pytest.mark.full

VOLATILE = (b"date", b"server-timing", b"connection", b"transfer-encoding")
HEXADECIMAL_ID = re.compile(rb"\b[0-9a-f]{24}\b")


def request(method, target, body=b"", *fields):
    """Parts of a request that can be framed in several ways."""
    return method, target, tuple(fields), body


def named(value):
    return request(b"POST", b"/v1/till/predict", json.dumps(value).encode(), b"Content-Type: application/json")


def v2(value, *fields, target=b"/v2/models/till/infer", binary=b""):
    text = json.dumps(value).encode()
    extra = (b"Inference-Header-Content-Length: %d" % len(text),) if binary else ()
    return request(b"POST", target, text + binary, *extra, *fields)


STORES = {"name": "store_id", "shape": [2], "datatype": "INT64", "data": [1, 2]}
ITEMS = {"name": "items", "shape": [2, 2], "datatype": "BYTES", "data": ["MILK", "BREAD", "EGGS", "JAM"]}
PACKED = b"".join(struct.pack("<I", len(text)) + text for text in (b"MILK", b"BREAD", b"EGGS", b"JAM"))
BINARY = [
    {"name": "store_id", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}},
    {"name": "items", "shape": [2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(PACKED)}},
]
GOOD = {"store_id": 1, "items": ["MILK"]}
CORPUS = {
    "one record": named(GOOD),
    "many records": named([GOOD, {"store_id": 2, "items": []}]),
    "a charset": request(
        b"POST", b"/v1/till/predict", json.dumps(GOOD).encode(), b"content-type:  application/json; charset=utf-8 "
    ),
    "a large body": named([{"store_id": n + 1, "items": ["MILK"] * 20} for n in range(300)]),
    "a missing field": named({"store_id": 1}),
    "an unknown field": named({**GOOD, "colour": "red"}),
    "a value out of range": named({**GOOD, "store_id": 0}),
    "no JSON": request(b"POST", b"/v1/till/predict", b"{"),
    "no body": request(b"POST", b"/v1/till/predict"),
    "bad UTF-8": request(b"POST", b"/v1/till/predict", b'{"store_id": 1, "items": ["\xff"]}'),
    "another media type": request(b"POST", b"/v1/till/predict", b"<a/>", b"Content-Type: text/xml"),
    "a coding": request(b"POST", b"/v1/till/predict", b"\x1f\x8b", b"Content-Encoding: gzip"),
    "an unknown integration": request(b"POST", b"/v1/none/predict", b"{}"),
    "no token": request(b"POST", b"/v1/till/predict", json.dumps(GOOD).encode(), b"Authorization: Bearer wrong"),
    "V2 JSON": v2({"id": "7", "inputs": [STORES, ITEMS]}),
    "V2 by version": v2({"inputs": [STORES, ITEMS]}, target=b"/v2/models/till/versions/3/infer"),
    "V2 by another version": v2({"inputs": [STORES, ITEMS]}, target=b"/v2/models/till/versions/4/infer"),
    "V2 binary in": v2({"inputs": BINARY}, binary=struct.pack("<qq", 1, 2) + PACKED),
    "V2 binary in and out": v2(
        {"inputs": BINARY, "parameters": {"binary_data_output": True}}, binary=struct.pack("<qq", 1, 2) + PACKED
    ),
    "V2 binary left over": v2({"inputs": BINARY}, binary=struct.pack("<qq", 1, 2) + PACKED + b"x"),
    "V2 one output": v2({"inputs": [STORES, ITEMS], "outputs": [{"name": "scores"}]}),
    "V2 an unknown output": v2({"inputs": [STORES, ITEMS], "outputs": [{"name": "none"}]}),
    "V2 a wrong shape": v2({"inputs": [{**STORES, "shape": [3]}, ITEMS]}),
    "V2 a wrong datatype": v2({"inputs": [{**STORES, "datatype": "FP32"}, ITEMS]}),
    "V2 a key twice": request(b"POST", b"/v2/models/till/infer", b'{"inputs": [], "inputs": []}'),
    "live": request(b"GET", b"/v2/health/live"),
    "ready": request(b"GET", b"/v2/health/ready"),
    "model ready": request(b"GET", b"/v2/models/till/ready"),
    "model metadata": request(b"GET", b"/v2/models/till"),
    "server metadata": request(b"GET", b"/v2"),
    "HEAD": request(b"HEAD", b"/v2"),
    "HEAD of nothing": request(b"HEAD", b"/none"),
    "OpenAPI": request(b"GET", b"/openapi.json"),
    "docs": request(b"GET", b"/docs"),
    "home": request(b"GET", b"/"),
    "nothing": request(b"GET", b"/none"),
    "V2 nothing": request(b"GET", b"/v2/none"),
    "another method": request(b"GET", b"/v1/till/predict"),
    "DELETE": request(b"DELETE", b"/v2/models/till"),
    "OPTIONS": request(b"OPTIONS", b"/v2"),
    "TRACE": request(b"TRACE", b"/"),
    "an overriding field": request(b"POST", b"/v2/health/live", b"{}", b"X-HTTP-Method-Override: GET"),
    "a query": request(b"GET", b"/v2/health/live?a=/b&c"),
    "a fragment": request(b"GET", b"/v2/health/live#a"),
    "the absolute form": request(b"GET", b"http://till.example:80/v2/health/live?x"),
    "percent signs": request(b"GET", b"/v2/health/%6cive"),
    "two slashes": request(b"GET", b"//v2/health/live"),
    "dots": request(b"GET", b"/v2/../v2/health/live"),
    "a semicolon": request(b"GET", b"/v2/health/live;a"),
    "many fields": request(b"GET", b"/v2/health/live", b"", *[b"X-%d: %d" % (n, n) for n in range(60)]),
    "a repeated field": request(b"GET", b"/v2/health/live", b"", b"Accept: a", b"Accept: b"),
}

SMALL = sorted(set(CORPUS) - {"a large body"})


def framed(parts, cuts=None):
    """Bytes of a request: with its length, or chunked at these places."""
    method, target, fields, body = parts
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: till", *fields]
    if cuts is None:
        if body or method == b"POST":
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
    lines.append(b"Transfer-Encoding: chunked")
    pieces = [piece for piece in cut(body, cuts) if piece]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"\r\n".join(lines) + b"\r\n\r\n" + chunks + b"0\r\n\r\n"


def cut(data, cuts):
    """Cut at shares of the length."""
    places = [0, *sorted(round(each * len(data)) for each in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(places)]


def read_all(reader, methods):
    """Answers as comparable values: status, fields in their order, body; what is never the same is taken out."""
    answers = []
    for method in methods:
        status = reader.readline().split()[1]
        fields = []
        while (field := reader.readline().strip()) != b"":
            fields.append(tuple(field.split(b": ", 1)))
        length = int(dict(fields)[b"content-length"])
        body = b"" if method == b"HEAD" else reader.read(length)
        kept = [HEXADECIMAL_ID.sub(b"id", b": ".join(field)) for field in fields if field[0] not in VOLATILE]
        answers.append((status, sorted(kept), HEXADECIMAL_ID.sub(b"id", body)))
    return answers


def authorize(header, permission, *, peer):
    """Let in who brings no token or the right one."""
    if header == b"Bearer wrong":
        raise Unauthenticated("no such token")


@pytest.fixture
def make(retail, served):
    """Equal handlers that share nothing but the model."""

    def build():
        champion = Version("3", served.champion.features, served.champion.pool)
        till = Served("till", retail, 10_000, champion, served.fallbacks)
        dataplane = Dataplane(Snapshot({"till": till}))
        return Handler(dataplane, authorize=authorize, limits=Limits(body_bytes=100_000), title="tills")

    return build


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written = bytearray()
        self.write = self.written.extend
        self.ends = []
        self.close = self.abort = self.write_eof = lambda: self.ends.append(True)

    def __getattr__(self, name):
        return {
            "get_extra_info": lambda _: ("127.0.0.1", 1),
            "can_write_eof": lambda: True,
            "is_closing": lambda: bool(self.ends),
            "get_write_buffer_size": lambda: 0,
            "pause_reading": lambda: None,
            "resume_reading": lambda: None,
        }[name]


async def drive(handler, pieces, door=None, *, patient=False):
    """Answers of a connection to these pieces, without a socket; the patient send when all before is answered."""
    connection, transport = Connection(door or Door(handler)), Transport()
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
        if patient:
            await settled(connection)
    await settled(connection)
    connection.connection_lost(None)
    return bytes(transport.written)


async def settled(connection):
    """Wait until nothing is under way."""
    while connection._yielding or connection._call is not None:  # noqa: ASYNC110 (turns of the loop are what is waited for)
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def loop():
    """One loop for all examples."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def both(make):
    """Addresses of the door and of uvicorn, each over a handler of its own."""
    started, listeners = threading.Event(), [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    state = {}

    async def serve():
        state["loop"], state["end"] = asyncio.get_running_loop(), asyncio.Event()
        door = Door(make())
        await door.start(listeners[0])
        config = uvicorn.Config(
            asgi_app(make()), http="httptools", ws="none", lifespan="off", log_config=None, server_header=False
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        serving = asyncio.create_task(server.serve(sockets=[listeners[1]]))
        started.set()
        await state["end"].wait()
        server.should_exit = True
        await asyncio.gather(serving, door.drain(1))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    addresses = [listener.getsockname() for listener in listeners]
    thread.start()
    started.wait(10)
    yield addresses
    state["loop"].call_soon_threadsafe(state["end"].set)
    thread.join(10)


def over_socket(address, data, methods):
    """Answers over a real connection."""
    with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as reader:
        client.sendall(data)
        return read_all(reader, methods)


def test_the_door_answers_as_uvicorn_does(both):
    """Status, fields and body of every request of the corpus, with its length and chunked."""
    door, oracle = both
    for name, parts in CORPUS.items():
        for cuts in (None, [], [0.3, 0.31, 0.8]):
            data = framed(parts, cuts)
            mine, theirs = (over_socket(address, data, [parts[0]]) for address in (door, oracle))
            assert mine == theirs, (name, cuts)


def test_pipelined_the_door_answers_as_uvicorn_does(both):
    """The whole corpus on one connection, in order."""
    kept = [parts for name, parts in CORPUS.items() if name != "many fields"]
    data = b"".join(framed(parts) for parts in kept)
    mine, theirs = (over_socket(address, data, [parts[0] for parts in kept]) for address in both)
    assert mine == theirs


@pytest.mark.parametrize("name", SMALL)
def test_a_cut_at_any_byte_changes_nothing(make, loop, name):
    """In two pieces at every place, and byte by byte; with its length and chunked."""
    parts = CORPUS[name]
    handler = make()
    for cuts in (None, [0.5]):
        data = framed(parts, cuts)
        whole = read_all(io.BytesIO(loop.run(drive(handler, [data]))), [parts[0]])
        places = [[data[:at], data[at:]] for at in range(1, len(data))]
        for pieces in [*places, [data[at : at + 1] for at in range(len(data))]]:
            assert read_all(io.BytesIO(loop.run(drive(handler, pieces))), [parts[0]]) == whole


FRAMES = st.one_of(st.none(), st.lists(st.floats(0, 1), max_size=5))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(st.tuples(st.sampled_from(sorted(CORPUS)), FRAMES), min_size=1, max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
def test_however_it_is_framed_and_cut_the_answers_are_the_same(make, loop, requests, cuts):
    """Pipelined in any order, chunked or not, in pieces of any size: each answer is that of the request alone."""
    handler = make()
    wanted = []
    for name, frames in requests:
        parts = CORPUS[name]
        alone = loop.run(drive(handler, [framed(parts, frames)]))
        wanted += read_all(io.BytesIO(alone), [parts[0]])
        if b"\r\nconnection: close\r\n" in alone:
            break
    methods = [CORPUS[name][0] for name, _ in requests][: len(wanted)]
    data = b"".join(framed(CORPUS[name], frames) for name, frames in requests)
    got = loop.run(drive(handler, cut(data, cuts)))
    reader = io.BytesIO(got)
    assert read_all(reader, methods) == wanted
    assert reader.read() == b""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(st.tuples(st.sampled_from(sorted(CORPUS)), st.integers(0, 4)), min_size=1, max_size=8),
    patient=st.booleans(),
    cuts=st.lists(st.floats(0, 1), max_size=2),
)
def test_a_head_that_comes_again_changes_nothing(make, loop, requests, patient, cuts):
    """A door that knows every plain head of the corpus answers as one that knows none: whole, cut, in a row."""
    handler = make()
    door = Door(handler)
    for parts in [*CORPUS.values()] * 2:
        loop.run(drive(handler, [framed(parts)], door))
    assert min(len(door.heads._known), len(handler._openings)) > 20
    assert max(head.whole_bytes for head in door.heads._known.values()) > 50_000  # also of "a large body"
    wanted, pieces = [], []
    for name, kind in requests:
        parts = CORPUS[name]
        data = framed(parts, [0.5] if kind == 0 else None)
        if kind == 1:  # another body of the same length
            data = data[:-1] + b" " if parts[3] else data
        alone = loop.run(drive(handler, [data]))
        wanted += read_all(io.BytesIO(alone), [parts[0]])
        pieces += cut(data, cuts) if kind == 2 else [data]
        if b"\r\nconnection: close\r\n" in alone:
            break
    got = io.BytesIO(loop.run(drive(handler, pieces, door, patient=patient)))
    methods = [CORPUS[name][0] for name, _ in requests][: len(wanted)]
    assert read_all(got, methods) == wanted
    assert got.read() == b""


def test_a_known_head_lets_nobody_in_who_is_refused_meanwhile(make, loop):
    """Who may ask is decided for every request; and what is served, at the moment of the request."""
    handler = make()
    door = Door(handler)
    data = framed(CORPUS["one record"])
    first, second = (loop.run(drive(handler, [data], door)) for _ in range(2))
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")

    def refuse(header, permission, *, peer):
        raise Unauthenticated("no such token")

    handler.authorize = refuse
    assert loop.run(drive(handler, [data], door)).startswith(b"HTTP/1.1 401 ")
    handler.authorize = None
    handler.publish(Snapshot({}))
    assert loop.run(drive(handler, [data], door)).startswith(b"HTTP/1.1 404 ")


WORDS = [b"\r\n", b"\n", b"\x00", b": ", b"0\r\n\r\n", b"HTTP/1.1"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(SMALL),
    frames=FRAMES,
    change=st.tuples(st.floats(0, 1), st.one_of(st.binary(max_size=4), st.sampled_from(WORDS)), st.integers(0, 4)),
    cuts=st.lists(st.floats(0, 1), max_size=4),
)
def test_changed_bytes_give_no_failure_of_ours(make, loop, name, frames, change, cuts):
    """No 5xx but 505, no exception; and wherever the bytes are cut, the same statuses.

    But for one: an unknown verb is told apart from garbage (405 from 400) only where its whole line came in one piece.
    """
    data = framed(CORPUS[name], frames)
    at, put, taken = change
    place = round(at * len(data))
    data = data[:place] + put + data[place + taken :]
    handler = make()
    statuses = [
        re.findall(rb"^HTTP/1\.1 (\d+) ", loop.run(drive(handler, pieces)), re.MULTILINE)
        for pieces in ([data], cut(data, cuts))
    ]
    for each in statuses:
        each[-1:] = [b"400" if status == b"405" else status for status in each[-1:]]
    assert statuses[0] == statuses[1]
    assert not [status for status in statuses[0] if status >= b"500" and status != b"505"]
