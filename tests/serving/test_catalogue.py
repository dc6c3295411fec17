"""The catalogue of bad requests on every encoding of the door: named fields, V2 JSON, V2 with binary tensors.

Each row is sent over a socket; it is refused with a status of the catalogue, no worker is asked, no value comes back in
the refusal, and the next caller is answered.
"""

import contextlib
import json
import struct
from typing import NamedTuple

import pytest

from brownfield.serving.gateway import Limits
from harness.door import LIVE, Running, chunked, read_answer

SECRET = "canary-4711"  # noqa: S105 (a value of a record)
MOST_BYTES = 20_000


class Request(NamedTuple):
    """A path, header lines beside the length, and a body."""

    path: bytes
    fields: tuple[bytes, ...]
    body: bytes

    def sent(self, *more, method=b"POST", path=None, body=None, length=None):
        """As bytes; ``more`` header lines, another body, another length (none where that is empty)."""
        body = self.body if body is None else body
        size = b"Content-Length: %d" % len(body) if length is None else length
        lines = [
            b"%b %b HTTP/1.1" % (method, path or self.path),
            b"Host: till",
            *self.fields,
            *more,
            *([size] * bool(size)),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


def v2(store=7, items=SECRET, **changes):
    """V2 tensors of one record, the first one changed."""
    stores = {"name": "store_id", "shape": [1], "datatype": "INT64", "data": [store], **changes}
    return {"inputs": [stores, {"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": [items]}]}


def named_request(text=None):
    """Named fields."""
    return Request(b"/v1/till/predict", (), (text or json.dumps({"store_id": 7, "items": [SECRET]})).encode("latin-1"))


def v2_request(text=None):
    """V2 in JSON."""
    return Request(b"/v2/models/till/infer", (), (text or json.dumps(v2())).encode("latin-1"))


def binary_request(text=None, blob=None, **changes):
    """V2 whose items are binary; ``text`` is what stands in them."""
    blob = blob if blob is not None else (text or SECRET).encode("latin-1")
    blob = struct.pack("<I", len(blob)) + blob
    whole = v2(**changes)
    whole["inputs"][1].pop("data")
    whole["inputs"][1]["parameters"] = {"binary_data_size": len(blob)}
    head = json.dumps(whole).encode()
    return Request(b"/v2/models/till/infer", (b"Inference-Header-Content-Length: %d" % len(head),), head + blob)


ENCODINGS = {"named": named_request, "V2": v2_request, "binary": binary_request}


@pytest.fixture(params=ENCODINGS)
def encoding(request):
    """The name of each encoding."""
    return request.param


@pytest.fixture
def door(make_handler, served):
    """A door over the till with a small body cap."""
    running = Running(make_handler(served, limits=Limits(body_bytes=MOST_BYTES)))
    yield running
    running.close()


@pytest.fixture
def refused(door, pool, served, encoding):
    """Sends, and holds every answer to what the catalogue asks of a refusal."""

    def send(*requests, statuses, counted=False):
        for request in requests:
            [answer] = door.exchange(request)
            assert answer.status in statuses, (answer, request[:300])
            assert SECRET.encode() not in answer.body
            assert b"Traceback" not in answer.body
            assert len(answer.body) < 2000
        assert pool.calls == 0
        assert not counted or sum(served.meter.refused.values()) >= len(requests)
        [good] = door.exchange(ENCODINGS[encoding]().sent())
        assert (good.status, pool.calls) == (200, 1)

    return send


def test_b01_no_body_at_all(refused, encoding):
    """B-01: empty or white space, 400."""
    plain = Request(ENCODINGS[encoding]().path, (), b"")
    fields = (b"Inference-Header-Content-Length: 2",) if encoding == "binary" else ()
    refused(plain.sent(), plain.sent(*fields, body=b" \n"), statuses={400}, counted=True)


def test_b02_an_over_long_body_is_refused_before_it_is_read(refused, encoding):
    """B-02: 413, by its declared length with hardly a byte of it, and without one at the cap."""
    good = ENCODINGS[encoding]()
    endless = b"%x\r\n" % 2**30 + good.body + b" " * MOST_BYTES
    refused(
        good.sent(body=good.body[:9], length=b"Content-Length: %d" % (MOST_BYTES + 1)),
        good.sent(b"Transfer-Encoding: chunked", length=b"", body=endless),
        statuses={413},
    )


SMUGGLING = (
    (b"Content-Length: 5",),
    (b"Transfer-Encoding: chunked",),
    (b"Transfer-Encoding: xchunked",),
    (b"Transfer-Encoding: gzip, chunked",),
)


def test_b03_a_length_that_can_be_read_in_two_ways_ends_the_connection(refused, encoding):
    """B-03: 400 and nothing behind it is read, not even a request."""
    good = ENCODINGS[encoding]()
    doubled = [good.sent(*more) + good.sent() for more in SMUGGLING]
    wrong = [
        good.sent(length=b"Content-Length: %b" % length) + good.sent() for length in (b"-1", b"+5", b"5, 5", b"0x5")
    ]
    refused(*doubled, *wrong, statuses={400})


def test_b04_a_body_in_tiny_chunks(refused, encoding, door):
    """B-04: beyond the cap on chunks 400, though the body is short enough; below it, it is a body."""
    good = ENCODINGS[encoding]()
    tiny = chunked(*[good.body[at : at + 1] for at in range(len(good.body))])
    with door.connect() as client, contextlib.suppress(OSError):
        client.sendall(good.sent(b"Transfer-Encoding: chunked", length=b"", body=chunked(*[b" "] * (MOST_BYTES - 1))))
        assert read_answer(client.makefile("rb")).status == 400
    [taken] = door.exchange(good.sent(b"Transfer-Encoding: chunked", length=b"", body=tiny))
    assert taken.status == 200


def test_b05_b06_b10_codings_and_media_types(refused, encoding):
    """B-05, B-06, B-10: bombs are never unpacked, parts never read: 415 by the head."""
    good = ENCODINGS[encoding]()
    codings = [
        good.sent(b"Content-Encoding: " + each) for each in (b"gzip", b"deflate", b"zstd", b"br", b"gzip, gzip", b"x")
    ]
    kinds = (b"text/xml", b"multipart/form-data; boundary=" + b"x" * 300, b"application/x-www-form-urlencoded")
    parts = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n" * 400
    media = [good.sent(b"Content-Type: " + each, body=parts) for each in kinds]
    refused(*codings, *media, statuses={415}, counted=True)


def test_b06_a_foreign_media_type_is_told_the_right_one(door, encoding):
    """B-06: what tools send that were told nothing (`curl -d`, `wget --post-data`) is answered with what to send."""
    [answer] = door.exchange(ENCODINGS[encoding]().sent(b"Content-Type: application/x-www-form-urlencoded"))
    assert answer.status == 415
    assert b"application/json" in answer.body


ODD_TEXTS = {
    "B-07 invalid UTF-8": "\xff",
    "B-07 overlong": "\xc0\xaf",
    "B-07 surrogate in bytes": "\xed\xa0\x80",
    "B-07 cut short": "\xe2\x82",
    "B-08 NUL": "\0",
}
ODD_JSON = {
    "B-07 lone surrogate": '{"%s": "\\ud800"}',
    "B-07 byte order mark": '\xef\xbb\xbf{"%s": 1}',
    "B-07 UTF-16": '\xff\xfe{\0"\0',
    "B-08 NUL in a name": '{"%s\\u0000": 1}',
    "B-08 NUL beside the text": '{"%s": 1}\0',
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_b07_b08_text_that_is_none(refused, encoding, text):
    """B-07, B-08: 400, also inside a binary tensor."""
    whole = {"named": {"store_id": 7, "items": ["%"]}, "V2": v2(items="%")}.get(encoding)
    odd = ENCODINGS[encoding](json.dumps(whole).replace("%", SECRET + text) if whole else SECRET + text)
    refused(odd.sent(), statuses={400}, counted=True)


@pytest.mark.parametrize("text", ODD_JSON.values(), ids=ODD_JSON)
def test_b07_b08_json_that_is_none(refused, encoding, text):
    """B-07, B-08: 400; in a binary request it is the part before the tensors."""
    body = text.replace("%s", SECRET).encode("latin-1")
    fields = (b"Inference-Header-Content-Length: %d" % len(body),) if encoding == "binary" else ()
    refused(Request(ENCODINGS[encoding]().path, fields, body).sent(), statuses={400}, counted=True)


HEADERS = {
    "B-08 NUL in a field": [b"A: b\0c"],
    "B-08 NUL in its name": [b"A\0: b"],
    "B-09 100 KB": [b"A: " + b"x" * 100_000],
    "B-09 1,000 fields": [b"A%d: x" % number for number in range(1000)],
    "B-09 Host twice": [b"Host: other"],
    "B-09 Content-Type twice": [b"Content-Type: application/json"] * 2,
    "B-09 tensor length twice": [b"Inference-Header-Content-Length: 1"] * 2,
}


@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS)
def test_b08_b09_heads(refused, encoding, fields):
    """B-08, B-09: 400 or 431."""
    refused(ENCODINGS[encoding]().sent(*fields), statuses={400, 431})


def test_b09_an_odd_range_is_not_looked_at(door, encoding):
    """B-09: thousands of ranges cost nothing, and the request is answered."""
    ranges = b"Range: bytes=" + b",".join(b"%d-" % number for number in range(5000))
    [answer] = door.exchange(ENCODINGS[encoding]().sent(ranges))
    assert answer.status == 200


def test_b11_other_spellings_of_its_path(refused, encoding):
    """B-11: 404 for what is not the path byte by byte, 400 for what is no path."""
    good = ENCODINGS[encoding]()
    path = good.path
    spellings = (b"/" + path, path + b"/", path + b";x", path + b"%00", path.replace(b"till", b"%74ill"))
    dots = (b"/v2/.." + path, b"/%2e%2e" + path, path.replace(b"/", b"\\"), path.upper(), b"/" + b"a" * 8000)
    refused(*(good.sent(path=each) for each in (*spellings, *dots)), statuses={404, 400})


def test_b12_other_methods(refused, encoding):
    """B-12: 405, whatever a field says that overrides methods elsewhere."""
    good = ENCODINGS[encoding]()
    methods = (b"PUT", b"PATCH", b"DELETE", b"TRACE", b"OPTIONS", b"PROPFIND", b"BREW", b"GET")
    override = b"X-HTTP-Method-Override: POST"
    refused(*(good.sent(override, method=each) for each in methods), statuses={405})


TENSORS = {
    "B-27 negative": {"shape": [-1]},
    "B-27 zero": {"shape": [0], "data": []},
    "B-27 none": {"shape": []},
    "B-27 product beyond 64 bits": {"shape": [2**32, 2**32, 2**32]},
    "B-27 dimension beyond 64 bits": {"shape": [2**70]},
    "B-27 more than there is": {"shape": [2]},
    "B-27 expansion beyond the cap": {"shape": [10**10], "datatype": "INT8"},
    "B-28 object": {"datatype": "OBJECT"},
    "B-28 structured": {"datatype": "i4,f8"},
    "B-28 byte order": {"datatype": ">i8"},
    "B-28 strides": {"strides": [16]},
    "B-28 order": {"parameters": {"order": "F"}, "shape": [1, 1, 1]},
}


@pytest.mark.parametrize("encoding", ["V2", "binary"], indirect=True)
@pytest.mark.parametrize("changes", TENSORS.values(), ids=TENSORS)
def test_b27_b28_tensors(refused, encoding, changes):
    """B-27, B-28: 400 (413 for too many rows) before anything of that size is made, or 422 for a wrong value."""
    text = json.dumps(v2(**changes))
    refused(
        (v2_request(text) if encoding == "V2" else binary_request(**changes)).sent(),
        statuses={400, 413, 422},
        counted=True,
    )


@pytest.mark.parametrize("size", [0, 7, 9, 16, -8, 2**63, "8", None], ids=lambda size: f"B-27 {size}")
@pytest.mark.parametrize("encoding", ["binary"], indirect=True)
def test_b27_binary_sizes(refused, size):
    """B-27: a size that is not that of shape and datatype, 400."""
    whole = v2(parameters={"binary_data_size": size})
    whole["inputs"][0].pop("data")
    head = json.dumps(whole).encode()
    fields = (b"Inference-Header-Content-Length: %d" % len(head),)
    refused(Request(b"/v2/models/till/infer", fields, head + struct.pack("<q", 7)).sent(), statuses={400}, counted=True)


@pytest.mark.parametrize("padding", range(8))
@pytest.mark.parametrize("encoding", ["binary"], indirect=True)
def test_b28_a_tensor_at_any_address_is_read_right(door, encoding, padding):
    """B-28: numbers that begin at any byte of the request are what was sent: the smallest one is refused, not more."""
    for number, status in ((1, 200), (2**62, 200), (0, 422), (-(2**63), 422)):
        whole = v2(parameters={"binary_data_size": 8})
        whole["inputs"][0].pop("data")
        head = json.dumps(whole).encode() + b" " * padding
        fields = (b"Inference-Header-Content-Length: %d" % len(head),)
        [answer] = door.exchange(Request(ENCODINGS[encoding]().path, fields, head + struct.pack("<q", number)).sent())
        assert answer.status == status, answer


def test_b78_what_is_not_served_is_named_with_what_is(refused, encoding, door):
    """B-78: 404 for another integration and another version, with the versions that are served."""
    good = ENCODINGS[encoding]()
    refused(good.sent(path=good.path.replace(b"till", b"shop")), statuses={404})
    if encoding != "named":
        [answer] = door.exchange(good.sent(path=b"/v2/models/till/versions/2/infer"))
        assert answer.status == 404
        assert b"Served now: 3." in answer.body
    [alive] = door.exchange(LIVE)
    assert alive.status == 200
