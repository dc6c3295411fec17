"""Bad input against a served workspace with a real model: refused by type, told without the value, far from the model.

Every body carries the canary where a person's data would stand; at the end nothing that was written may hold it.
"""

import json

import httpx
import pytest

pytestmark = pytest.mark.full

CANARY = "canary-4929-7391"
PATH = "/v1/store-recommendations/predict"
V2_PATH = "/v2/models/store-recommendations/infer"


def raw(store: str = "367", items: str = f'["{CANARY}"]', more: str = "") -> bytes:
    return f'{{"store_id": {store}, "items": {items}{more}}}'.encode()


BAD = {
    "B-01 empty": (b"", 400),
    "B-01 white space": (b" \r\n\t ", 400),
    "B-07 invalid UTF-8": (raw(items=f'["{CANARY}?"]').replace(b"?", b"\xff"), 400),
    "B-07 overlong": (raw(items=f'["{CANARY}?"]').replace(b"?", b"\xc0\xaf"), 400),
    "B-07 lone surrogate": (raw(items=f'["{CANARY}\\ud800"]'), 400),
    "B-07 byte order mark": (b"\xef\xbb\xbf" + raw(), 400),
    "B-07 UTF-16": (raw().decode().encode("utf-16"), 400),
    "B-08 NUL in text": (raw(items=f'["{CANARY}\\u0000"]'), 400),
    "B-08 NUL byte": (raw(items=f'["{CANARY}\x00"]'), 400),
    "B-08 NUL in a field name": (raw(more=f', "{CANARY}\\u0000": 1'), 400),
    "B-13 arrays": (b"[" * 100_000, 400),
    "B-13 objects": (f'{{"{CANARY}":'.encode() * 100_000, 400),
    "B-14": (raw(more=', "store_id": 368'), 400),
    "B-14 twin by escape": (raw(more=', "store\\u005fid": 368'), 400),
    "B-15 NaN": (raw("NaN"), 400),
    "B-15 Infinity": (raw("Infinity"), 400),
    "B-15 overflow": (raw("1e999"), 400),
    "B-15 400 digits": (raw("9" * 400), 400),
    "B-15 fraction": (raw("7.5"), 422),
    "B-15 beyond 64 bits": (raw("18446744073709551616"), 400),
    "B-16": (("{" + ",".join(f'"{CANARY}{n}":1' for n in range(100_000)) + "}").encode(), 400),
    "B-17 __proto__": (raw(more=f', "__proto__": {{"{CANARY}": 1}}'), 422),
    "B-17 __class__": (raw(more=f', "__class__": "{CANARY}"'), 422),
    "B-17 $ref": (raw(more=f', "$ref": "{CANARY}"'), 422),
    "B-17 $type": (raw(more=f', "$type": "{CANARY}"'), 422),
    "B-18 extra": (raw(more=f', "colour": "{CANARY}"'), 422),
    "B-18 missing": (f'{{"items": ["{CANARY}"]}}'.encode(), 422),
    "B-18 null": (raw("null"), 422),
    "B-19 text": (raw(f'"{CANARY}"'), 422),
    "B-19 number in quotes": (raw('"367"'), 422),
    "B-19 decimal comma": (raw('"367,0"'), 422),
    "B-19 blanks": (raw('" 367 "'), 422),
    "B-19 Arabic digits": (raw('"\u0663"'), 422),
    "B-19 boolean": (raw("true"), 422),
    "B-33 below": (raw("0"), 422),
    "B-33 above": (raw("100000"), 422),
    "B-33 too many items": (raw(items=json.dumps([CANARY] * 201)), 422),
    "B-33 too long": (raw(items=json.dumps([CANARY * 10])), 422),
}


@pytest.mark.parametrize(("body", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_meet_a_typed_refusal(retail, timing, body, expected):
    """B-01..B-33: problem+json with field, rule and code and without the value; the model's process never wakes."""
    kind = {"Content-Type": "application/json"}
    answer = retail.asked_without_a_model(lambda: httpx.post(retail.url + PATH, content=body, headers=kind))
    problem = answer.json()
    assert answer.status_code == problem["status"] == expected
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["violations"]
    for violation in problem["violations"]:
        assert violation["rule"]
        assert violation["code"].startswith("BF-")
    assert CANARY not in answer.text + str(answer.headers)
    total, parts = timing(answer.headers["server-timing"])
    assert total == pytest.approx(parts, abs=0.0005)


V2_BAD = {
    "B-01": b"",
    "B-07": b'{"inputs": [{"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["\xff"]}]}',
    "B-08": b'{"inputs": [{"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["canary\\u0000"]}]}',
    "B-13": b'{"inputs":' * 50_000,
    "B-14": b'{"inputs": [], "inputs": []}',
    "B-15": b'{"inputs": [{"name": "store_id", "shape": [1], "datatype": "INT64", "data": [1e999]}]}',
    "B-17": b'{"__proto__": 1, "inputs": []}',
    "B-18": b'{"inputs": [{"name": "canary-4929-7391", "shape": [1], "datatype": "INT64", "data": [1]}]}',
    "B-19": b'{"inputs": [{"name": "store_id", "shape": [1], "datatype": "INT64", "data": ["canary-4929-7391"]}]}',
    "B-33": (
        b'{"inputs": [{"name": "store_id", "shape": [1], "datatype": "INT64", "data": [0]},'
        b'{"name": "items", "shape": [1, 1], "datatype": "BYTES", "data": ["canary-4929-7391"]}]}'
    ),
}


@pytest.mark.parametrize("body", V2_BAD.values(), ids=V2_BAD.keys())
def test_bad_tensors_meet_the_protocols_refusal(retail, timing, body):
    """The V2 calls refuse the same input as the protocol says: 4xx and one ``error`` text without the value."""
    answer = retail.asked_without_a_model(lambda: httpx.post(retail.url + V2_PATH, content=body))
    assert 400 <= answer.status_code < 500
    assert list(answer.json()) == ["error"]
    assert "BF-" in answer.json()["error"]
    assert "canary" not in answer.text
    total, parts = timing(answer.headers["server-timing"])
    assert total == pytest.approx(parts, abs=0.0005)


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()


def test_b02_a_declared_over_long_body_is_refused_unread(retail, parse):
    """B-02: 413 on the header alone, before one byte of the body was sent."""
    answer = retail.raw(HEAD + b"Content-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert parse(answer)["violations"][0]["code"] == "BF-REQ-001"


def test_b02_an_undeclared_over_long_body_is_refused_before_its_end(retail, parse):
    """B-02: chunks without an end are read up to the cap and not beyond."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = retail.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 200)
    assert answer.startswith(b"HTTP/1.1 413")
    assert parse(answer)["violations"][0]["code"] == "BF-REQ-001"


@pytest.mark.parametrize(
    "line",
    [
        b"X-Canary: canary\x00\r\n",
        b"X-Can\x00ary: 1\r\n",
        b"Content-Length: canary\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"X-Canary: " + b"canary" * 11_000 + b"\r\n",
        b"X-Canary: 1\r\n" * 7_500,
    ],
    ids=[
        "B-08 NUL in a header",
        "B-08 NUL in a header's name",
        "no number as length",
        "negative length",
        "two lengths",
        "long header",
        "many headers",
    ],
)
def test_bad_headers_are_refused(retail, parse, line):
    """B-08: a head that is no HTTP, or has no end, is a typed 400 that repeats nothing; the next caller is served."""
    answer = retail.raw(HEAD + line + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"content-type: application/problem+json" in answer
    assert parse(answer)["violations"][0]["rule"] == "http.head"
    assert b"canary" not in answer.lower()
    assert httpx.get(f"{retail.url}/v2/health/live").status_code == 200


def test_nothing_that_was_written_holds_a_value(retail):
    """S-13, S-19: after all of the above neither metrics nor logs nor files of the workspace hold the canary."""
    good = httpx.post(retail.url + PATH, json={"store_id": 367, "items": ["BANANAS"]})
    assert good.json()["decision"]["source"] == "model", "the model is alive after all of it"
    httpx.post(retail.url + PATH, content=raw(f'"{CANARY}"'), headers={"Content-Type": "application/json"})
    metrics = httpx.get(f"{retail.url}/metrics").text
    assert 'code="BF-FLD-004"' in metrics
    assert not [line for line in metrics.splitlines() if 'status="5' in line]
    assert "canary" not in metrics
    assert "canary" not in retail.log
    for line in retail.log.splitlines():
        assert {"at", "level", "event", "message"} <= json.loads(line).keys()
    written = [path for path in (retail.folder / "var").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if b"canary" in path.read_bytes()]
