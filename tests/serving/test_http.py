"""The prediction door, spoken to byte by byte over real sockets."""

import asyncio
import contextlib
import gc
import json
import re
import resource
import socket
import ssl
import time
from itertools import pairwise

import psutil
import pytest

from brownfield.errors import Unauthenticated
from brownfield.serving.gateway import Door, HttpLimits, Limits, Response, Version, asgi_app
from brownfield.serving.gateway.cache import Cache
from brownfield.serving.gateway.http_connection import Connection
from harness.certificates import make_certificate
from harness.door import BODY, LIVE, Running, chunked, post, read_answer
from harness.memory import kept_bytes
from harness.waiting import until


@pytest.fixture
def running(handler):
    """A door over the till."""
    door = Running(handler)
    yield door
    door.close()


@pytest.fixture
def make_running():
    """Doors with options."""
    with contextlib.ExitStack() as stack:

        def make(handler, **options):
            door = Running(handler, **options)
            stack.callback(door.close)
            return door

        yield make


@pytest.fixture
def quick(make_running, make_handler, served):
    """A door with short time-outs and a small body cap."""
    limits = HttpLimits(header_s=0.2, body_s=0.2, write_s=0.3, idle_s=0.4, slowest_bytes_per_s=1_000_000)
    return make_running(make_handler(served, limits=Limits(body_bytes=20_000)), limits=limits)


def statuses(answers):
    return [answer.status for answer in answers]


# --- plain HTTP ---


def test_a_connection_is_kept_and_every_answer_is_dated(running):
    """Two requests on one connection; Date on each, Server on none."""
    with running.connect() as connection, connection.makefile("rb") as reader:
        for _ in range(2):
            connection.sendall(post())
            answer = read_answer(reader)
            assert answer.status == 200
            assert json.loads(answer.body)["prediction"]["items"] == ["MILK"]
            assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.fields[b"date"])
            assert not answer.fields.keys() & {b"server", b"connection"}


@pytest.mark.parametrize(
    ("request_bytes", "connection"),
    [
        (post(BODY, b"Connection: close"), b"close"),
        (post(BODY, version=b"1.0"), b"close"),
        (b"GET /v2 HTTP/1.0\r\n\r\n", b"close"),
        (post(BODY, b"Connection: keep-alive", version=b"1.0"), b"keep-alive"),
        (post(BODY, b"Connection: keep-alive"), None),
    ],
    ids=["1.1 close", "1.0", "1.0 without Host", "1.0 keep-alive", "1.1 keep-alive"],
)
def test_old_and_new_clients_say_whether_the_connection_stays(running, request_bytes, connection):
    """As HTTP/1.0 and HTTP/1.1 have it, and the answer says so."""
    with running.connect() as client, client.makefile("rb") as reader:
        client.sendall(request_bytes)
        answer = read_answer(reader)
        assert (answer.status, answer.fields.get(b"connection")) == (200, connection)
        if connection == b"close":
            assert reader.read() == b""
        else:
            client.sendall(LIVE)
            assert read_answer(reader).status == 200


def test_head_has_the_length_and_no_body(running):
    """The next answer follows at once."""
    with running.connect() as client, client.makefile("rb") as reader:
        client.sendall(LIVE.replace(b"GET", b"HEAD") + LIVE)
        answer = read_answer(reader, head=True)
        assert (answer.status, int(answer.fields[b"content-length"])) == (200, len(b'{"live":true}'))
        assert read_answer(reader).body == b'{"live":true}'


@pytest.mark.parametrize("target", [b"/v2/health/live?a=b", b"/v2/health/live#x", b"http://till/v2/health/live?x"])
def test_every_form_of_target_finds_its_path(running, target):
    """Query and fragment are cut off, the absolute form is understood."""
    assert statuses(running.exchange(LIVE.replace(b"/v2/health/live", target))) == [200]


@pytest.mark.parametrize(
    "target",
    [
        b"/v2/health/%6cive",
        b"//v2/health/live",
        b"/v2/x/../health/live",
        b"/v2/health/live;x=1",
        b"/v2/health/live%00",
        b"/v2\\health\\live",
        b"/v2/health/live/",
        b"/" + b"a" * 5000,
        b"http://till",
    ],
)
def test_b_11_path_tricks_find_nothing(running, target):
    """B-11: a path is what it is, byte by byte."""
    assert statuses(running.exchange(LIVE.replace(b"/v2/health/live", target))) in ([404], [307])
    assert target == b"http://till" or statuses(running.exchange(LIVE.replace(b"/v2/health/live", target))) == [404]


@pytest.mark.parametrize("target", [b"/" + b"a" * 9000, b"/\xe2\x88\x95v2", b"/a b", b"v2"])
def test_b_11_targets_that_are_none_end_the_connection(running, target):
    """B-11: 400."""
    assert statuses(running.exchange(LIVE.replace(b"/v2/health/live", target) + LIVE)) == [400]


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue"])
def test_a_body_is_asked_for_when_it_is_expected(running, expect):
    """`Expect: 100-continue`: the body is sent after the interim answer alone."""
    request = post(BODY, b"Expect: " + expect)
    head, body = request[: -len(BODY)], request[-len(BODY) :]
    with running.connect() as client, client.makefile("rb") as reader:
        client.sendall(head)
        assert read_answer(reader).status == 100
        client.sendall(body)
        assert read_answer(reader).status == 200
        client.sendall(request)  # who does not wait is not told to go on
        assert read_answer(reader).status == 200
        client.sendall(LIVE + head)  # in order, behind other answers
        assert [read_answer(reader).status, read_answer(reader).status] == [200, 100]


def test_a_refused_expectation_saves_the_body(running):
    """The final answer comes at once, and the connection ends, as nobody knows whether the body follows."""
    request = post(BODY, b"Expect: 100-continue", path=b"/nowhere")
    [answer] = running.exchange(request[: -len(BODY)])
    assert (answer.status, answer.fields[b"connection"]) == (404, b"close")
    assert statuses(running.exchange(post(BODY, b"Expect: magic"))) == [417]
    assert statuses(running.exchange(post(BODY, b"Expect: 100-continue", version=b"1.0"))) == [200]


def test_chunked_bodies_are_bodies(running):
    """However they are cut, with extensions and trailers, followed by the next request."""
    request = post(b"", b"Transfer-Encoding: chunked", length=False)
    for pieces in ([BODY], [BODY[:5], BODY[5:]], [BODY[at : at + 1] for at in range(len(BODY))]):
        assert statuses(running.exchange(request + chunked(*pieces) + LIVE)) == [200, 200]
    extended = b"%x;name=value\r\n%b\r\n0\r\nX-Sum: 1\r\nAuthorization: none\r\n\r\n" % (len(BODY), BODY)
    assert statuses(running.exchange(request + extended + LIVE)) == [200, 200]


def test_pipelined_requests_are_answered_in_order(running, pool, served):
    """A slow one before quick ones, a refused one between, hundreds at once."""
    served.deadline_ns = 60_000_000_000
    pool.delay_s = 0.05
    quick = post(b'{"store_id": 2, "items": []}')
    answers = running.exchange(quick + LIVE + post(b"no JSON") + LIVE.replace(b"/v2/", b"/no/") + quick)
    assert statuses(answers) == [200, 200, 400, 404, 200]
    pool.delay_s = 0
    bodies = [b'{"store_id": 1, "items": ["N%d"]}' % n for n in range(500)]
    answers = running.exchange(b"".join(post(body) for body in bodies))
    assert [json.loads(each.body)["prediction"]["items"] for each in answers] == [[f"N{n}"] for n in range(500)]


def test_an_answer_goes_out_before_the_turn_of_the_loop_ends(running):
    """A turn may last: whoever is answered first in it reads the answer while the others are still looked at."""
    with running.connect() as client:
        until(lambda: running.door.connections == 1)
        read = []

        def ask():
            [connection] = running.door._connections
            connection.data_received(LIVE)
            read.append(client.recv(4096))

        running.call(ask)
        assert read[0].startswith(b"HTTP/1.1 200 OK")


def test_newcomers_do_not_wait_for_a_turn_of_a_busy_loop_each(running):
    """A hundred connect while each turn takes 10 ms: the event loop by itself accepts one in a turn."""
    turns = []

    def busy():
        turns.append(len(turns))
        time.sleep(0.01)
        if not ended:
            running.loop.call_soon(busy)

    ended = []
    running.call(busy)
    with contextlib.ExitStack() as stack:
        began = len(turns)
        for _ in range(100):
            stack.enter_context(running.connect())
        until(lambda: running.door.connections == 100)
        took = len(turns) - began
        ended.append(True)
    assert took < 30


def test_one_caller_with_many_requests_lets_others_in(make_handler, served):
    """Thousands that need no waiting, sent at once, do not hold the loop until the last is answered."""
    from brownfield.serving.gateway.http_connection import Connection

    class Transport:
        def __init__(self):
            self.answers = 0

        def get_extra_info(self, _name):
            return None

        def is_closing(self):
            return False

        def write(self, _data):
            self.answers += 1

    async def run():
        transport = Transport()
        connection = Connection(Door(make_handler(served)))
        connection.connection_made(transport)
        connection.data_received(LIVE * 1000)
        seen = []
        while not seen or transport.answers > seen[-1]:
            seen.append(transport.answers)
            await asyncio.sleep(0)
        return seen

    seen = asyncio.run(run())
    assert seen[0] <= 32
    assert seen[-1] == 1000


def test_a_caller_may_close_its_sending_side(running, pool):
    """What was asked completely is answered."""
    pool.delay_s = 0.1
    assert statuses(running.exchange(post())) == [200]


def test_an_upgrade_is_not_taken_up(running):
    """The request is answered as if nothing was said, and so is the next."""
    upgrade = LIVE[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with running.connect() as client, client.makefile("rb") as reader:
        client.sendall(upgrade + upgrade + LIVE)
        assert [read_answer(reader).status for _ in range(3)] == [200, 200, 200]
    h2c = post(BODY, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    assert statuses(running.exchange(h2c + LIVE)) == [200, 200]


def test_a_connection_that_is_said_to_end_ends_whatever_else_is_said_of_it(running):
    """`Connection: close` stands beside an upgrade that is not taken up, in one line or in two."""
    upgrade = b"Upgrade: h2c"
    for lines in ([b"Connection: close, upgrade"], [b"Connection: close", b"Connection: upgrade"]):
        answers = running.exchange(post(BODY, *lines, upgrade) + LIVE)
        assert [(each.status, each.fields.get(b"connection")) for each in answers] == [(200, b"close")]


NO_KEPT_ANSWER = {
    "as usual": [b"Cache-Control: no-cache"],
    "other letters": [b"Cache-Control: No-Cache"],
    "capitals": [b"cache-control: NO-STORE"],
    "in two lines": [b"Cache-Control: no-store", b"Cache-Control: max-age=5"],
}


@pytest.mark.parametrize("fields", NO_KEPT_ANSWER.values(), ids=NO_KEPT_ANSWER)
def test_who_wants_no_kept_answer_gets_none_on_either_door(make_running, make_handler, served, fields):
    """However it is spelled, and in however many lines."""
    served.champion = Version("3", served.champion.features, served.champion.pool, 1, Cache(60))
    handler = make_handler(served)
    first, kept, new = make_running(handler).exchange(post() + post() + post(BODY, *fields))
    assert [b"age" in each.fields for each in (first, kept, new)] == [False, True, False]
    answer, headers = ask_app(handler, b"/v1/till/predict", BODY, fields)
    assert answer == 200
    assert b"age" not in headers


def ask_app(handler, path, body, fields):
    """Status and header fields of the same handler's answer as ASGI app."""
    pairs = [(name.lower(), value) for name, _, value in (field.partition(b": ") for field in fields)]
    messages = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": "POST", "path": path.decode(), "headers": pairs}
    asyncio.run(asgi_app(handler)(scope, receive, send))
    return messages[0]["status"], dict(messages[0]["headers"])


@pytest.mark.parametrize("blanks", [b"", b"   ", b"\t "], ids=["none", "blanks", "a tab"])
def test_blanks_behind_a_value_are_no_part_of_it_on_either_door(make_running, make_handler, served, blanks):
    """Programs with fields of a fixed width fill them up; RFC 9110, section 5.5."""

    def authorize(header, _permission, **_peer):
        if header != b"Bearer good":
            raise Unauthenticated("no token")

    tensors = [
        {"name": "store_id", "shape": [1], "datatype": "INT64", "data": [1]},
        {"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["MILK"]},
    ]
    body = json.dumps({"inputs": tensors}).encode()
    values = {
        b"Authorization": b"Bearer good",
        b"Brownfield-Priority": b"batch",
        b"Brownfield-Timeout-Ms": b"5000",
        b"Content-Type": b"application/json",
        b"Inference-Header-Content-Length": b"%d" % len(body),
    }
    fields = [name + b": " + value + blanks for name, value in values.items()]
    handler, path = make_handler(served, authorize=authorize), b"/v2/models/till/infer"
    running = make_running(handler)
    assert statuses(running.exchange(post(body, *fields, path=path) * 2)) == [200, 200]
    assert ask_app(handler, path, body, fields)[0] == 200


# --- bad input ---


@pytest.mark.parametrize("body", [b"", b" \r\n\t"], ids=["B-01 empty", "B-01 white space"])
def test_b_01_no_body(running, body):
    """B-01: 400, and the connection stays."""
    assert statuses(running.exchange(post(body) + LIVE)) == [400, 200]
    assert statuses(running.exchange(post(b"", length=False) + LIVE)) == [400, 200]


def test_b_02_a_declared_over_long_body_is_refused_unread(quick):
    """B-02: by its head alone."""
    [answer] = quick.exchange(post(b"x", b"Content-Length: 20001", length=False))
    assert (answer.status, answer.fields[b"connection"]) == (413, b"close")


def test_b_02_an_undeclared_over_long_body_is_refused_before_its_end(quick):
    """B-02: at the cap; the caller sees the refusal although it is still sending."""
    with quick.connect() as client:
        client.sendall(post(b"", b"Transfer-Encoding: chunked", length=False) + b"%x\r\n" % 2**30 + b" " * 20_001)
        with contextlib.suppress(OSError):
            for _ in range(50):
                client.sendall(b" " * 20_000)
        [answer] = quick.read(client)
    assert answer.status == 413


HEADS = {
    "twice": [b"Content-Length: 5", b"Content-Length: 5"],
    "two lengths": [b"Content-Length: 5", b"Content-Length: 6"],
    "list": [b"Content-Length: 5, 5"],
    "negative": [b"Content-Length: -5"],
    "plus": [b"Content-Length: +5"],
    "hexadecimal": [b"Content-Length: 0x5"],
    "empty": [b"Content-Length:"],
    "overflow": [b"Content-Length: 99999999999999999999"],
    "19 digits": [b"Content-Length: 0000000000000000005"],
    "thousands of digits": [b"Content-Length: " + b"0" * 5000 + b"5"],
    "space before the colon": [b"Content-Length : 5"],
    "with Transfer-Encoding": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "after Transfer-Encoding": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "chunked twice": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "gzip": [b"Transfer-Encoding: gzip"],
    "gzip, chunked": [b"Transfer-Encoding: gzip, chunked"],
    "chunked, identity": [b"Transfer-Encoding: chunked, identity"],
    "xchunked": [b"Transfer-Encoding: xchunked"],
    "vertical tab": [b"Transfer-Encoding: \x0bchunked"],
    "folded": [b"Transfer-Encoding:\r\n chunked"],
}


@pytest.mark.parametrize("fields", HEADS.values(), ids=[f"B-03 {name}" for name in HEADS])
def test_b_03_a_length_that_can_be_read_in_two_ways_ends_the_connection(running, pool, fields):
    """B-03: 400, nothing that follows is taken for a request, the model is not asked."""
    smuggled = b"0\r\n\r\n" + post()
    answers = running.exchange(post(b"", *fields, length=False) + smuggled)
    assert statuses(answers) == [400]
    assert answers[0].fields[b"connection"] == b"close"
    assert pool.calls == 0


def test_b_03_both_doors_refuse_a_length_of_thousands_of_digits_alike(running, handler):
    """B-03: llhttp takes it, and it is no number to Python."""
    length = b"0" * 5000 + b"2"
    [answer] = running.exchange(post(b"{}", b"Content-Length: " + length, length=False))
    whole = handler.handle("POST", b"/v1/till/predict", {b"content-length": length}, b"{}")
    response = asyncio.run(whole)
    assert (answer.status, answer.body) == (response.status, response.body)
    assert b"18 digits" in answer.body


@pytest.mark.parametrize(
    "broken",
    [
        post(b"{}", b"Content-Length: " + b"0" * 5000 + b"2", length=False),
        post(BODY, b"Authorization: Bearer trap"),
    ],
    ids=["B-03 a length of thousands of digits", "a failure of ours"],
)
def test_what_is_pipelined_behind_a_request_costs_no_other_caller_an_answer(
    make_running, make_handler, served, pool, broken, caplog
):
    """Those who share its call to the model are told theirs, whatever its connection ends with, and nothing is left."""

    def trap(authorization, permission, *, peer):
        if authorization == b"Bearer trap":
            raise ZeroDivisionError

    pool.delay_s = 0.5
    served.champion = Version("3", served.champion.features, pool, 8)
    served.deadline_ns = 60_000_000_000
    handler = make_handler(served, authorize=trap)
    running = make_running(handler)
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(running.connect()) for _ in range(9)]
        for number, caller in enumerate(callers):
            caller.sendall(post() + broken if number == 4 else post())
            until(lambda number=number: handler.in_flight == number + 1)
        assert [caller.recv(12) for caller in callers] == [b"HTTP/1.1 200"] * 9
    assert handler.in_flight == 0
    assert ("a connection failed" in caplog.text) == (b"trap" in broken)


def test_b_03_a_wrong_length_never_becomes_an_answer(running, pool):
    """B-03: too long a one waits for the rest and ends with the caller; too short a one leaves no HTTP behind."""
    assert running.exchange(post(BODY, b"Content-Length: %d" % (len(BODY) + 1), length=False)) == []
    assert pool.calls == 0
    assert statuses(running.exchange(post(BODY, b"Content-Length: %d" % (len(BODY) - 1), length=False))) == [400, 400]
    assert pool.calls == 0
    assert statuses(running.exchange(post(BODY, b"Transfer-Encoding: chunked", version=b"1.0", length=False))) == [400]


@pytest.mark.parametrize(
    "body", [b"5\nhello", b"5\r\nhelloX", b"5 \r\nhello", b"0x5\r\n", b"-1\r\n", b"F" * 17 + b"\r\n"]
)
def test_b_03_chunks_that_do_not_add_up_end_the_connection(running, pool, body):
    """B-03: 400."""
    request = post(b"", b"Transfer-Encoding: chunked", length=False)
    assert statuses(running.exchange(request + body + b"\r\n0\r\n\r\n" + LIVE)) == [400]
    assert pool.calls == 0


@pytest.mark.full
def test_b_04_a_million_tiny_chunks_are_refused_at_the_cap(quick):
    """B-04: long before their end, and nothing of them is kept."""
    process = psutil.Process()
    head = post(b"", b"Transfer-Encoding: chunked", length=False)

    def attack():
        with quick.connect() as client:
            client.sendall(head)
            with contextlib.suppress(OSError):
                for _ in range(10):
                    client.sendall(b"1\r\n \r\n" * 100_000)
            with contextlib.suppress(OSError):
                assert statuses(quick.read(client)) == [400]

    def attacks():
        for _ in range(20):
            attack()
        until(lambda: quick.door.connections == 0)
        gc.collect()

    attack()
    assert kept_bytes(lambda: process.memory_info().rss, attacks, 2**20) < 2**20
    assert statuses(quick.exchange(head + chunked(*[b" "] * 1000) + LIVE)) == [400, 200]


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"zstd", b"br", b"gzip, gzip", b"none"])
def test_b_05_b_06_codings_are_refused_without_unpacking(running, coding):
    """B-05, B-06: 415, by the head; the connection stays."""
    assert statuses(running.exchange(post(b"\x1f\x8b" * 100, b"Content-Encoding: " + coding) + LIVE)) == [415, 200]


@pytest.mark.parametrize(
    "kind", [b"text/xml", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"]
)
def test_b_06_b_10_other_media_types_are_refused(running, kind):
    """B-06, B-10: no part of a multipart body is read."""
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n" * 1000
    assert statuses(running.exchange(post(body, b"Content-Type: " + kind) + LIVE)) == [415, 200]


@pytest.mark.parametrize(
    "fields",
    [[b"A: b\x00c"], [b"A\x00: b"], [b"A: b\r\n c"], [b": b"], [b"A b: c"], [b"A: b\nC: d"], [b"A: b\rC: d"]],
    ids=["NUL", "NUL in the name", "folded", "no name", "space in the name", "bare LF", "bare CR"],
)
def test_b_08_fields_that_are_none_end_the_connection(running, fields):
    """B-08: 400."""
    assert statuses(running.exchange(post(BODY, *fields) + LIVE)) == [400]


HEADER_BOMBS = {
    "one of 100 KB": [b"A: " + b"x" * 100_000],
    "1,000 fields": [b"A%d: x" % n for n in range(1000)],
    "101 fields": [b"A%d: x" % n for n in range(99)],
    "33 KiB in all": [b"A%d: " % n + b"x" * 700 for n in range(47)],
}


@pytest.mark.parametrize("fields", HEADER_BOMBS.values(), ids=[f"B-09 {name}" for name in HEADER_BOMBS])
def test_b_09_header_bombs_are_refused(running, fields):
    """B-09: 400, and the connection ends."""
    assert statuses(running.exchange(post(BODY, *fields) + LIVE)) == [400]


def test_b_09_a_head_without_end_is_refused_before_its_end(running):
    """B-09: a single field may not grow for ever inside the parser."""
    with running.connect() as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\nA: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.sendall(b"x" * 1000)
        assert statuses(running.read(client)) == [400]


def test_b_09_endless_trailers_are_refused(running):
    """B-09: they count as head."""
    request = post(b"", b"Transfer-Encoding: chunked", length=False) + b"0\r\n"
    assert statuses(running.exchange(request + b"A: b\r\n" * 200 + b"\r\n")) == [400]


ENDLESS = {
    "trailer": b"0\r\nX: ",
    "name of a trailer": b"0\r\n",
    "chunk extension": b"2;",
    "value of a chunk extension": b"2;a=",
    "size of a chunk": b"0",
}


@pytest.mark.parametrize("start", ENDLESS.values(), ids=[f"B-09 {name}" for name in ENDLESS])
def test_b_09_what_describes_a_body_without_end_is_refused_before_its_end(running, start):
    """B-09: inside the parser each piece of a field costs as much as all before it, which held everybody else up."""
    with running.connect() as client:
        client.sendall(post(b"", b"Transfer-Encoding: chunked", length=False) + b"2\r\n{}\r\n" + start)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 400_000:
                sent += client.send((b"0" if start == b"0" else b"a") * 1000)
        [answer] = running.read(client)
    assert answer.status == 400
    assert b"http.trailers" in answer.body


def test_b_09_chunk_extensions_and_trailers_of_a_usual_length_are_taken(running):
    """Signed chunks, as some clients send them: far less than a head may have."""
    chunks = [b"1;chunk-signature=" + b"0" * 64 + b"\r\n%c\r\n" % byte for byte in BODY]
    body = b"".join(chunks) + b"0\r\nX-Sum: " + b"a" * 20_000 + b"\r\n\r\n"
    request = post(b"", b"Transfer-Encoding: chunked", length=False) + body
    assert statuses(running.exchange(request + request + LIVE)) == [200, 200, 200]
    assert statuses(running.exchange(request, request, LIVE, pause_s=0.05)) == [200, 200, 200]


@pytest.mark.parametrize(
    "field", [b"Host: b", b"Content-Type: a/b\r\nContent-Type: a/b", b"Authorization: a\r\nAuthorization: b"]
)
def test_b_09_fields_that_may_stand_once_stand_once(running, field):
    """B-09: 400."""
    assert statuses(running.exchange(post(BODY, field) + LIVE)) == [400]


def test_b_09_an_odd_range_costs_nothing(running):
    """B-09: it is not looked at."""
    ranges = b"Range: bytes=" + b",".join(b"%d-" % n for n in range(5000))
    assert statuses(running.exchange(LIVE[:-2] + ranges + b"\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"TRACE / HTTP/1.1", [405]),
        (b"OPTIONS /v1/till/predict HTTP/1.1", [405]),
        (b"DELETE /v1/till/predict HTTP/1.1", [405]),
        (b"PROPFIND /v1/till/predict HTTP/1.1", [405]),
        (b"CONNECT till:443 HTTP/1.1", [405]),
        (b"BREW /v2/health/live HTTP/1.1", [405]),
        (b"get /v2/health/live HTTP/1.1", [405]),
        (b"OPTIONS * HTTP/1.1", [404]),
        (b"POST /v2/health/live HTTP/1.1\r\nX-HTTP-Method-Override: GET", [405]),
    ],
)
def test_b_12_other_methods_do_nothing(running, pool, line, expected):
    """B-12: 405 with what is allowed, and never an action."""
    answers = running.exchange(line + b"\r\nHost: till\r\n\r\n")
    assert statuses(answers) == expected
    assert expected == [404] or b"allow" in answers[0].fields
    assert pool.calls == 0


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
        (b"hello\r\n\r\n", [400]),
        (b"GET /v2\r\n\r\n", [505]),
        (b"GET /v2 HTTP/1.2\r\nHost: a\r\n\r\n", [400]),
        (b"GET /v2 HTTP/2.0\r\nHost: a\r\n\r\n", [505]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"GET /v2 HTTP/1.1\r\n\r\n", [400]),
    ],
    ids=["TLS", "greeting", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/2 preface", "no Host"],
)
def test_a_start_that_is_no_http_1_1_is_refused(running, start, expected):
    """400 or 505, and the connection ends."""
    assert statuses(running.exchange(start)) == expected


def test_bad_bytes_behind_good_requests_are_refused_in_order(running):
    """What was asked well is answered well; after a last request nothing is read."""
    assert statuses(running.exchange(LIVE + LIVE + b"garbage\r\n\r\n" + LIVE)) == [200, 200, 400]
    last = LIVE[:-2] + b"Connection: close\r\n\r\n"
    assert statuses(running.exchange(last + LIVE)) == [200]
    assert statuses(running.exchange(last + b"garbage")) == [200]


# --- faults ---


def test_f_19_a_caller_who_resets_cancels_the_work(running, served, pool):
    """F-19: the wait ends long before the deadline."""
    pool.delay_s = 60
    served.deadline_ns = 60_000_000_000
    client = running.connect()
    client.sendall(post())
    until(lambda: running.door.handler.in_flight == 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    until(lambda: running.door.handler.in_flight == 0)
    until(lambda: served.champion.admission.waiting_rows == 0)
    assert running.door.connections == 0


def test_f_19_callers_who_leave_before_a_page_is_there_are_taken_off_once(make_running, make_handler, served):
    """F-19: scrapers that reset made the count of what is under way negative for good, and overload was not seen."""

    class Backstage:
        async def metrics(self):
            await asyncio.sleep(0.1)
            return "x 1\n"

    running = make_running(make_handler(served, backstage=Backstage()))
    handler = running.door.handler
    for _ in range(5):
        with running.connect() as client:
            client.sendall(LIVE.replace(b"/v2/health/live", b"/metrics"))
            until(lambda: handler.in_flight > 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    until(lambda: running.door.connections == 0)
    [scraped] = running.exchange(LIVE.replace(b"/v2/health/live", b"/metrics"))
    assert scraped.body == b"x 1\n"
    until(lambda: not handler._late)
    assert handler.in_flight == 0


@pytest.mark.full
def test_f_19_a_caller_who_closed_is_not_waited_for_long(running, served, pool):
    """F-19: a second of grace, as it may only have closed its sending side."""
    pool.delay_s = 60
    served.deadline_ns = 60_000_000_000
    with running.connect() as client:
        client.sendall(post())
        until(lambda: running.door.handler.in_flight == 1)
    until(lambda: running.door.handler.in_flight == 0)


@pytest.mark.parametrize("start", [b"GET /v2 HT", b"", post()[:-3], b"\r\n"], ids=["head", "nothing", "body", "CRLF"])
def test_f_20_slow_requests_are_ended(quick, start):
    """F-20: by the time-out of head or body; who sent something is told."""
    began = time.monotonic()
    with quick.connect() as client:
        client.sendall(start)
        answers = quick.read(client)
    assert statuses(answers) == ([408] if start.strip() else [])
    assert time.monotonic() - began < 8


@pytest.mark.full
def test_f_20_a_slow_loris_is_ended_and_others_are_served(quick):
    """F-20: a byte now and then does not extend the time, in the head or in the body."""
    for request in (LIVE, post(BODY * 100)):
        sent = 0
        with quick.connect() as client:
            client.settimeout(0.05)
            ends_s = time.monotonic() + 60
            while time.monotonic() < ends_s:
                with contextlib.suppress(TimeoutError, OSError):
                    client.sendall(request[sent : sent + 1])
                    sent += 1
                    if client.recv(20):
                        break
                assert statuses(quick.exchange(LIVE)) == [200]
            assert time.monotonic() < ends_s


@pytest.mark.full
def test_f_20_a_slow_reader_is_ended(quick):
    """F-20: when it leaves its answers unread, no more are made for it, and the connection is cut."""
    with quick.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        pages = LIVE.replace(b"/v2/health/live", b"/openapi.json")
        with contextlib.suppress(OSError):
            for _ in range(20_000):
                client.sendall(pages * 100)
        until(lambda: quick.door.connections == 0)
    assert quick.door.handler.http.by_status[200] < 100_000


@pytest.mark.full
@pytest.mark.inside
@pytest.mark.parametrize("ends", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_f_20_who_reads_a_long_answer_in_its_time_gets_all_of_it(make_running, handler, tls, encrypted, ends):
    """F-20: twice as fast as the slowest rate, for longer than an answer may lie unread or a connection idle."""
    size, rate = 1_000_000, 400_000
    handler.answer = lambda _call, _body, reply: reply(Response(200, [], b"x" * size))
    limits = HttpLimits(write_s=0.3, idle_s=0.4, slowest_bytes_per_s=rate // 2)
    running = make_running(handler, limits=limits, tls=tls[0] if encrypted else None)
    running._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    narrow.settimeout(5)
    narrow.connect(running.address)
    with tls[1].wrap_socket(narrow, server_hostname="localhost") if encrypted else narrow as client:
        client.sendall(LIVE.replace(b"\r\n\r\n", b"\r\n" + ends + b"\r\n"))
        read, began_s = 0, time.monotonic()
        while read < size and (data := client.recv(16_384)):
            read += len(data)
            time.sleep(max(0.0, began_s + read / rate - time.monotonic()))
        assert read > size


@pytest.mark.full
def test_f_20_an_idle_connection_is_closed(quick):
    """F-20: silently, after its time."""
    with quick.connect() as client:
        client.sendall(LIVE)
        assert statuses(quick.read(client)) == [200]


def test_f_20_a_new_connection_may_wait_for_its_first_request(make_running, handler):
    """F-20: callers open connections ahead of need; the time for a head begins with its first byte."""
    running = make_running(handler, limits=HttpLimits(header_s=0.1, idle_s=60))
    with running.connect() as client, running.connect() as slow:
        slow.sendall(b"GET")
        assert statuses(running.read(slow)) == [408]
        client.sendall(LIVE)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_f_20_a_crowd_of_silent_connections_ends_a_few_at_a_time(handler):
    """F-20: a thousand ended in one turn of the loop held everybody else up for 50 ms."""

    async def most_at_once() -> int:
        door = Door(handler, limits=HttpLimits(idle_s=0.1))
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            await door.start(listener)
            while door.connections < 60:  # noqa: ASYNC110 (turn by turn, as below)
                await asyncio.sleep(0)
            counts = [60]
            while door.connections:
                await asyncio.sleep(0)
                counts.append(door.connections)
        await door.drain(1.0)
        return max(before - after for before, after in pairwise(counts))

    assert asyncio.run(most_at_once()) < 20


def test_f_21_too_many_connections_are_refused_at_once(make_running, handler):
    """F-21: politely, while those within the bound go on; room is room again."""
    running = make_running(handler, limits=HttpLimits(connections=50))
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(running.connect()) for _ in range(50)]
        until(lambda: running.door.connections == 50)
        began = time.monotonic()
        for _ in range(20):
            [answer] = running.exchange(LIVE)
            assert answer.status == 503
            assert answer.fields.keys() >= {b"retry-after", b"connection"}
        assert time.monotonic() - began < 20
        idle[0].sendall(LIVE)
        assert idle[0].recv(12) == b"HTTP/1.1 200"
    until(lambda: running.door.connections == 0)
    assert statuses(running.exchange(LIVE)) == [200]


def test_f_20_bodies_half_sent_take_no_more_than_they_may_together(make_running, handler):
    """F-20: who has been at it the longest is ended and hears of it; the others, and new ones, are answered."""
    running = make_running(handler, limits=HttpLimits(header_s=0.2, kept_bytes=250_000))
    whole = post(body=BODY + b" " * 100_000)
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(4):
            slow.append(stack.enter_context(running.connect()))
            slow[-1].sendall(whole[:-1])
            time.sleep(0.12)  # two ticks of the door
        for client in slow[:2]:
            [answer] = running.read(client)
            assert (answer.status, answer.fields[b"connection"]) == (503, b"close")
            assert b"BF-ERR-UNAVAILABLE" in answer.body
        for client in slow[2:]:
            client.sendall(whole[-1:])
            with client.makefile("rb") as reader:
                assert read_answer(reader).status == 200
        assert statuses(running.exchange(whole.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))) == [200]


@pytest.mark.inside
def test_f_20_answers_unread_take_no_more_than_they_may_together(make_running, handler):
    """F-20: who has left its answer lying the longest is cut off, and its memory is free."""
    size = 2_000_000
    handler.answer = lambda _call, _body, reply: reply(Response(200, [], b"x" * size))
    running = make_running(handler, limits=HttpLimits(header_s=0.2, write_s=300, kept_bytes=2 * size))
    running._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    with contextlib.ExitStack() as stack:
        lazy = []
        for _ in range(4):
            lazy.append(stack.enter_context(socket.socket()))
            lazy[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            lazy[-1].settimeout(5)
            lazy[-1].connect(running.address)
            lazy[-1].sendall(LIVE)
            time.sleep(0.12)
        until(lambda: running.door.connections == 2)
        for client in lazy[2:]:
            with client.makefile("rb") as reader:
                assert len(read_answer(reader).body) == size


@pytest.fixture
def tls(tmp_path):
    """Contexts of a server and of callers who trust it."""
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context, ssl.create_default_context(cafile=tmp_path / "certificate.pem")


def is_open(client):
    """Whether the other end did not close the connection."""
    client.settimeout(0.0)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_f_21_connections_without_a_handshake_count(make_running, handler, tls):
    """F-21: each holds a descriptor for as long as a head may take; those beyond the bound and its slack are closed."""
    context, trusting = tls
    running = make_running(handler, limits=HttpLimits(connections=2, header_s=60), tls=context)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(running.connect()) for _ in range(100)]
        until(lambda: sum(is_open(each) for each in silent) == 66)
        silent[0].close()
        silent[1].close()
        until(lambda: reaches(running, trusting))
    until(lambda: reaches(running, trusting))


def reaches(running, trusting):
    """Whether a caller with a handshake has an answer."""
    with contextlib.suppress(OSError), trusting.wrap_socket(running.connect(), server_hostname="localhost") as client:
        client.sendall(LIVE)
        return client.recv(12) == b"HTTP/1.1 200"
    return False


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["nothing", "no TLS"])
def test_f_20_a_handshake_that_is_none_is_ended(make_running, handler, tls, start):
    """F-20: by the time-out of a head, or at once; others are answered meanwhile, and nothing is left."""
    context, trusting = tls
    running = make_running(handler, limits=HttpLimits(header_s=0.3), tls=context)
    with running.connect() as client:
        client.sendall(start)
        assert reaches(running, trusting)
        until(lambda: not is_open(client))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP_REQUEST"),
        (bytes.fromhex("160301002d010000290301") + bytes(33) + bytes.fromhex("0002002f0100"), "UNSUPPORTED_PROTOCOL"),
    ],
    ids=["no TLS", "TLS 1.0"],
)
def test_the_log_says_once_why_handshakes_fail(make_running, handler, tls, caplog, start, reason):
    """A caller in plain text or with an old TLS is told nothing it could show: the operator is, and not each time."""
    running = make_running(handler, limits=HttpLimits(header_s=5), tls=tls[0])
    for _ in range(3):
        with running.connect() as client:
            client.sendall(start)
            until(lambda client=client: not is_open(client))
    told = [each for each in caplog.records if getattr(each, "event", "") == "BF-GTW-HANDSHAKE-FAILED"]
    assert [each.reason for each in told] == [reason]


def test_f_16_a_drain_does_not_wait_for_handshakes_that_do_not_begin(make_running, handler, tls):
    """F-16: those who connected and said nothing are cut off."""
    running = make_running(handler, limits=HttpLimits(header_s=60), tls=tls[0])
    with running.connect() as client:
        began_s = time.monotonic()
        running.close()
        assert time.monotonic() - began_s < 8
        assert not is_open(client)


def test_f_22_few_descriptors_bound_the_connections(make_running, handler):
    """F-22: the bound follows from what the process may open, so accepting never fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = psutil.Process().num_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        running = make_running(handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # the clients need some as well
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(running.connect())
            until(lambda: running.door.connections >= 50)
            assert statuses(running.exchange(LIVE)) == [503]
        until(lambda: running.door.connections == 0)
        assert statuses(running.exchange(LIVE)) == [200]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def churn(running, times):
    """Callers who leave at every point of a request."""
    request = post()
    for at in range(times):
        client = running.connect()
        client.sendall(request[: at % (len(request) + 1)])
        if at % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()


@pytest.mark.full
@pytest.mark.parametrize("last", [post(), LIVE, post(BODY, b"Connection: close"), b"GET / HTTP/1.1\r\n\r\n", b"?\r\n"])
def test_f_19_a_connection_that_has_ended_leaves_no_cycle(running, last):
    """F-19: memory of callers who come for one request each goes at once, not with the collector's next round."""

    def come_and_go(times):
        for _ in range(times):
            with running.connect() as client:
                client.sendall(last)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        until(lambda: running.door.connections == 0)

    def alive():
        return sum(type(each) is Connection for each in gc.get_objects())

    come_and_go(3)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        come_and_go(20)
        until(lambda: alive() <= before)
    finally:
        gc.enable()


@pytest.mark.parametrize("times", [1000, pytest.param(10_000, marks=pytest.mark.full)])
def test_f_19_disconnects_leak_nothing(running, pool, times):
    """F-19: no descriptor, no task, no waiting row, no memory."""
    pool.delay_s = 0.001
    process = psutil.Process()

    def leave(times):
        churn(running, times)
        until(lambda: running.door.connections == 0)
        until(lambda: running.door.handler.in_flight == 0)
        gc.collect()

    leave(times // 2)
    descriptors = process.num_fds()
    assert kept_bytes(lambda: process.memory_info().rss, lambda: leave(times), 3 * 2**20) < 3 * 2**20
    until(lambda: process.num_fds() <= descriptors)


@pytest.mark.full
def test_f_16_a_drain_finishes_what_is_under_way(make_running, handler, served, pool):
    """F-16: idle connections end, a request under way is answered with `Connection: close`, nobody new is let in."""
    running = make_running(handler)
    pool.delay_s = 0.5
    served.deadline_ns = 10_000_000_000
    with running.connect() as idle, running.connect() as busy, running.connect() as sending:
        idle.sendall(LIVE)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        request = post()
        sending.sendall(request[:-5])
        busy.sendall(request)
        until(lambda: handler.in_flight == 1)
        running.loop.call_soon_threadsafe(running._end.set)
        assert idle.recv(10) == b""
        sending.sendall(request[-5:])
        for client in (busy, sending):
            [answer] = running.read(client)
            assert (answer.status, answer.fields[b"connection"]) == (200, b"close")
        with pytest.raises(OSError, match=r"refused|reset"):
            running.connect()
    running.close()


@pytest.mark.full
def test_f_16_who_connected_before_the_end_may_ask_and_nobody_connects_after(make_running, handler):
    """F-16: a caller who connected and did not send yet is answered; one who comes later is never let in and reset."""
    running = make_running(handler)
    handler.draining = True
    with running.connect() as slow:
        running.loop.call_soon_threadsafe(running._end.set)
        until(lambda: not may_connect(running.address))
        slow.sendall(LIVE)
        [answer] = running.read(slow)
        assert (answer.status, answer.fields[b"connection"]) == (200, b"close")
    with pytest.raises(ConnectionRefusedError):
        running.connect()
    running.close()


@pytest.mark.full
def test_f_16_a_drain_does_not_wait_for_connections_that_were_opened_ahead_of_need(make_running, handler):
    """F-16: whoever connected three seconds ago and sent nothing since came for later."""
    running = make_running(handler)
    with running.connect() as pooled:
        until(lambda: running.door.connections == 1)
        time.sleep(3.0)
        handler.draining = True
        began_s = time.monotonic()
        running.loop.call_soon_threadsafe(running._end.set)
        assert pooled.recv(10) == b""
        assert time.monotonic() - began_s < 1.5  # newcomers are given two seconds
    running.close()


def may_connect(address):
    """Whether a connection begins, rather than being left without an answer."""
    try:
        socket.create_connection(address, timeout=0.5).close()
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_spoken_from_1_2_on(make_running, handler, tmp_path, version):
    """With a context of the caller's; a context that goes lower is refused."""
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    running = make_running(handler, tls=context)
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    trusting.minimum_version = trusting.maximum_version = version
    with trusting.wrap_socket(running.connect(), server_hostname="localhost") as client:
        reader = client.makefile("rb")
        client.sendall(post() + LIVE)
        assert [read_answer(reader).status, read_answer(reader).status] == [200, 200]
        client.sendall(b"garbage\r\n\r\n")
        assert read_answer(reader).status == 400
        assert reader.read() == b""
        reader.close()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.raises(ValueError, match=r"1\.2"):
        Door(handler, tls=context)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_the_call_to_copy_is_encrypted_where_the_door_is(make_running, handler, tls, encrypted):
    """The page for people names the scheme under which it was read."""
    running = make_running(handler, tls=tls[0] if encrypted else None)
    plain = running.connect()
    client = tls[1].wrap_socket(plain, server_hostname="localhost") if encrypted else plain
    with client, client.makefile("rb") as reader:
        client.sendall(b"GET /docs HTTP/1.1\r\nHost: till:8443\r\n\r\n")
        page = read_answer(reader).body.decode()
    assert f"curl -s {'https' if encrypted else 'http'}://till:8443/v1/till/predict" in page
