"""Named-fields JSON and the refusals of bad input, by the identifiers of the catalogue."""

import asyncio
import json

import pytest

from brownfield.serving.gateway import Limits
from harness.memory import peak_bytes

GOOD = {"store_id": 7, "items": ["MILK"]}


def ask(client, body, **headers):
    return asyncio.run(client.predict(body, **headers))


def test_one_object_gives_one_prediction(client):
    """An object in, ``prediction`` and ``decision`` out."""
    status, answer = ask(client, GOOD)
    assert status == 200
    assert answer["prediction"] == {"items": ["MILK"], "scores": [0.5]}
    assert answer["decision"]["version"] == "3"


def test_an_array_gives_as_many_predictions_in_order(client):
    """An array in, ``predictions`` out, under one decision."""
    status, answer = ask(client, [GOOD, {"store_id": 8, "items": []}])
    assert status == 200
    assert [one["items"] for one in answer["predictions"]] == [["MILK"], []]


def raw(store_id: str = "7", items: str = "[]", more: str = "") -> bytes:
    return f'{{"store_id": {store_id}, "items": {items}{more}}}'.encode()


BAD = {
    "B-01 empty": (b"", 400),
    "B-01 white space": (b"  \n", 400),
    "B-07 invalid UTF-8": (b'{"store_id": 7, "items": ["\xff"]}', 400),
    "B-07 overlong": (b'{"store_id": 7, "items": ["\xc0\xaf"]}', 400),
    "B-07 lone surrogate": (raw(items='["\\ud800"]'), 400),
    "B-07 byte order mark": (b"\xef\xbb\xbf" + raw(), 400),
    "B-07 UTF-16": (json.dumps(GOOD).encode("utf-16"), 400),
    "B-08 NUL in text": (raw(items='["\\u0000"]'), 400),
    "B-08 NUL byte": (raw(items='["\x00"]'), 400),
    "B-08 NUL in a key": (raw(more=', "a\\u0000": 1'), 400),
    "B-13 deep arrays": (b"[" * 100_000, 400),
    "B-13 deep objects": (b'{"a":' * 100_000, 400),
    "B-14 duplicate key": (raw(more=', "store_id": 8'), 400),
    "B-15 NaN": (raw("NaN"), 400),
    "B-15 Infinity": (raw("-Infinity"), 400),
    "B-15 overflow": (raw("1e999"), 400),
    "B-15 400 digits": (raw("9" * 400), 400),
    "B-15 fraction for integer": (raw("7.5"), 422),
    "B-16 many keys": (("{" + ",".join(f'"k{n}":1' for n in range(100_000)) + "}").encode(), 400),
    "B-17 __proto__": (raw(more=', "__proto__": {}'), 422),
    "B-17 $ref": (raw(more=', "$ref": "x"'), 422),
    "B-18 extra": (raw(more=', "colour": 1'), 422),
    "B-18 missing": (b'{"store_id": 7}', 422),
    "B-18 null for required": (raw("null"), 422),
    "B-19 number as text": (raw('"7"'), 422),
    "B-19 decimal comma": (raw('"7,0"'), 422),
    "B-19 padded": (raw('" 7 "'), 422),
    "B-19 Arabic digits": (raw('"\u0667"'), 422),
    "B-19 boolean as number": (raw("true"), 422),
    "B-33 below the range": (raw("0"), 422),
    "B-33 too many items": (raw(items=json.dumps(["A"] * 21)), 422),
    "B-33 too long an item": (raw(items=json.dumps(["A" * 65])), 422),
    "array of nothing": (b"[]", 400),
    "a number": (b"7", 400),
    "an array of numbers": (b"[7]", 400),
    "cut short": (raw()[:-1], 400),
    "two documents": (raw() + raw(), 400),
}


@pytest.mark.parametrize(("body", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_typed_and_without_a_worker(client, served, pool, body, expected):
    """problem+json with field, rule, code and what was expected; never a 5xx, the value, or a call of a worker."""
    response = asyncio.run(client.ask("POST", "/v1/till/predict", body))
    problem = json.loads(response.body)
    assert response.status == problem["status"] == expected
    assert dict(response.headers)[b"content-type"] == b"application/problem+json"
    assert {"type", "title", "status", "code", "detail", "violations"} == problem.keys()
    assert all(set(each) == {"field", "rule", "code", "row", "expected"} for each in problem["violations"])
    assert all(each["expected"] for each in problem["violations"])
    assert problem["violations"]
    assert pool.calls == 0
    assert sum(served.meter.refused.values()) >= 1


@pytest.mark.parametrize("secret", ["4929-1234-canary", "canary\u202e", "<script>canary"])
def test_a_refusal_never_repeats_the_value(client, secret):
    """I11, S-13: values may be personal data."""
    for body in ({"store_id": secret, "items": []}, {"store_id": 7, "items": [secret * 40]}):
        response = asyncio.run(client.ask("POST", "/v1/till/predict", body))
        assert response.status == 422
        assert b"canary" not in response.body


def test_every_violation_of_every_record_is_named(client):
    """One round trip tells the sender all that is wrong, with the record's index."""
    status, problem = ask(client, [GOOD, {"store_id": 0, "items": "MILK"}])
    assert status == 422
    assert {(each["row"], each["field"]) for each in problem["violations"]} == {(1, "store_id"), (1, "items")}


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "json"])
def test_another_media_type_is_refused(client, media_type):
    """B-06: 415, whatever the body."""
    status, problem = ask(client, GOOD, content_type=media_type)
    assert (status, problem["violations"][0]["code"]) == (415, "BF-REQ-003")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON", "", "; charset=utf-8"]
)
def test_json_media_types_are_taken(client, media_type):
    """With or without a character set, in any case of letters; an empty one is as good as none, as it is for V2."""
    assert ask(client, GOOD, content_type=media_type)[0] == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "gzip, gzip", "br", "unknown"])
def test_compressed_bodies_are_refused(client, encoding):
    """B-05, B-06: without decompression there is no bomb."""
    status, problem = ask(client, b"\x1f\x8b", content_encoding=encoding)
    assert (status, problem["violations"][0]["code"]) == (415, "BF-REQ-003")


def test_an_over_long_body_is_refused(make_client, served):
    """B-02: with the cap in the words, declared or not."""
    client = make_client(served, limits=Limits(body_bytes=100))
    assert ask(client, b" " * 101)[0] == 413
    status, problem = ask(client, b"", content_length="101")
    assert (status, problem["violations"][0]["code"]) == (413, "BF-REQ-001")
    assert "100 bytes" in problem["detail"]


MANY = {
    "records": [GOOD] * 100_000,
    "braces in a text": [GOOD | {"items": ["{" * 64] * 20}] * 10 + [GOOD] * 100_000,
    "broken ones behind": [GOOD] * 20_000 + [None],
}


@pytest.mark.parametrize("records", MANY.values(), ids=MANY)
def test_more_records_than_are_taken_are_refused_before_they_are_read(client, records):
    """R-17: for a part of what reading them takes: some copies of the body, where each record became many objects."""
    body, seen = json.dumps(records).encode(), []
    assert peak_bytes(lambda: seen.append(ask(client, body))) < 4 * len(body) + 100_000
    [(status, problem)] = seen
    assert (status, [each["code"] for each in problem["violations"]]) == (413, ["BF-REQ-002"])
    assert "at most 10000 records" in problem["detail"]


@pytest.mark.parametrize("items", [["MILK"], ["{"], ["}, {"]], ids=["plain", "a brace", "braces"])
@pytest.mark.parametrize(("records", "status"), [(19, 200), (20, 200), (21, 413)])
def test_records_are_counted_whatever_their_texts_hold(make_client, served, items, records, status):
    """Braces in texts are no records; as many as are taken are answered."""
    client = make_client(served, limits=Limits(rows=20))
    assert ask(client, [GOOD | {"items": items}] * records)[0] == status
    assert ask(client, GOOD | {"items": items * 20})[0] == 200


def test_no_answer_at_all_is_a_503_with_retry_after(client, served, pool):
    """A typed refusal, never a 500; the decision says why."""
    pool.alive = False
    served.fallbacks = ()
    response = asyncio.run(client.ask("POST", "/v1/till/predict", GOOD))
    problem = json.loads(response.body)
    assert response.status == 503
    assert dict(response.headers)[b"retry-after"] == b"1"
    assert problem["code"] == "BF-ERR-UNANSWERED"
    assert problem["decision"]["cause"] == "worker"
