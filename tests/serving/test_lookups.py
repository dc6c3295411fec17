"""Lookups at request time: what is joined, how old it may be, what every answer says about it."""

import asyncio
import errno
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator

from brownfield.contract import compile_contract
from brownfield.data.served_status import FILE, ServedStatus
from brownfield.data.served_table import write_served_table
from brownfield.serving.fallback.constant import Constant
from brownfield.serving.gateway import Served, Version
from brownfield.serving.gateway.enrich import Enrichment, Found, Joined, Take
from brownfield.serving.lookups import TableLookup
from brownfield.serving.workers.inline import InlinePool
from brownfield.testing import FakeClock


def contract(policy):
    """A contract whose request names a product and whose lookup knows its price, stale after an hour."""
    ours = [{"property": "nullPolicy", "value": policy, "vendor": "brownfield"}]
    ours += [{"property": "impute", "value": 9.0, "vendor": "brownfield"}] if policy == "impute" else []
    return compile_contract(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": "till",
            "version": "1.0.0",
            "status": "active",
            "slaProperties": [{"property": "latency", "value": 1, "unit": "h", "element": "products.price"}],
            "schema": [
                {
                    "name": "request",
                    "logicalType": "object",
                    "properties": [{"name": "product_id", "logicalType": "integer", "required": True}],
                },
                {
                    "name": "response",
                    "logicalType": "object",
                    "properties": [{"name": "score", "logicalType": "number", "required": True}],
                },
                {
                    "name": "products",
                    "logicalType": "object",
                    "properties": [
                        {"name": "product_id", "logicalType": "integer"},
                        {"name": "price", "logicalType": "number", "customProperties": ours},
                    ],
                },
            ],
        }
    )


class PriceFeatures:
    """The price in, or -1 where it is missing; the model's number out."""

    def encode(self, columns, rows):
        """Give the prices."""
        return {"x": np.array([-1 if each is None else each for each in columns["price"]], np.float32).reshape(rows, 1)}

    def decode(self, tensors, _columns, rows):
        """Give the model's numbers."""
        return {"score": tensors["y"].reshape(rows).tolist()}


class Shop:
    """A served integration whose price comes from a table, with a moved clock."""

    def __init__(self, folder, make_client, policy="pass", constants=None):
        self.folder = folder
        self.clock = FakeClock()
        self.table = TableLookup("products", folder, 60.0, self.clock)
        rules = contract(policy)
        take = Take(rules.schema("products").field("price"), rules.stale_after("products", "price"))
        joined = Joined(self.table, ("product_id",), (take,), constants or {})
        self.served = Served(
            name="till",
            contract=rules,
            deadline_ms=10_000,
            champion=Version("1", PriceFeatures(), InlinePool(lambda tensors: {"y": tensors["x"]})),
            fallbacks=(Constant({"score": 0.5}, rules.schema("response")),),
            enrichment=Enrichment([joined], self.clock),
        )
        self.client = make_client(self.served)

    def write(self, prices, state="PRIMARY", ahead_s=0.0):
        """Write a table, and take it over."""
        self.put(prices, state, ahead_s)
        assert self.table.look()

    def put(self, prices, state="PRIMARY", ahead_s=0.0):
        """Write a table as the process that reads lookups does; its file."""
        rows = pa.table({"product_id": list(prices), "price": pa.array(prices.values(), pa.float64())})
        content = write_served_table(rows, ("product_id",), ["price"])
        digest = hashlib.sha256(content).hexdigest()
        file = self.folder / f"served-{digest[:16]}.table"
        file.write_bytes(content)
        now = self.clock.now_utc()
        status = ServedStatus(
            state=state,
            as_of_utc=now + timedelta(seconds=ahead_s),
            file=file.name,
            sha256=digest,
            written_utc=now,
        )
        (self.folder / FILE).write_bytes(msgspec.json.encode(status))
        return file

    def ask(self, *products):
        """Ask for products; the parsed answer."""
        _, answer = asyncio.run(self.client.predict([{"product_id": each} for each in products]))
        return answer

    def get(self, *request):
        """One request; the response."""
        return asyncio.run(self.client.ask(*request))


@pytest.fixture
def shop(tmp_path, make_client):
    """Make shops."""
    return lambda **options: Shop(tmp_path, make_client, **options)


def said(answer):
    """What the only lookup said."""
    [note] = answer["lookups"]
    return note


def test_a_request_is_joined_and_says_what_with(shop):
    """The model sees the price; the answer carries state, moment, age and what was missing."""
    till = shop()
    till.write({1: 5.0, 2: None})
    till.clock.advance(30)
    answer = till.ask(1, 2, 3)
    assert [each["score"] for each in answer["predictions"]] == [5.0, -1.0, -1.0]
    assert said(answer) == {
        "source": "products",
        "bf_state": "PRIMARY",
        "bf_as_of": "2026-01-01T00:00:00.000000Z",
        "bf_stale_s": 30.0,
        "bf_missing": [{"field": "price", "reason": "null"}],
    }
    assert answer["decision"]["reason"] == "STALE"
    assert till.ask(1)["decision"]["reason"] == "STATIC"


def test_openapi_describes_what_lookups_say(shop):
    """The document's schema holds each note that answers carry, and refuses a state that there is not."""
    till = shop()
    api = json.loads(till.get("GET", "/openapi.json").body)
    item = api["paths"]["/v1/till/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert "#/components/schemas/Lookup" in json.dumps(item)
    schema = Draft202012Validator(api["components"]["schemas"]["Lookup"])
    schema.validate(said(till.ask(1)))
    till.write({1: 5.0})
    note = said(till.ask(1, 8))
    schema.validate(note)
    assert not schema.is_valid({**note, "bf_state": "FRESH"})


def test_the_header_says_the_same_on_both_paths(shop):
    """Named fields and V2 carry one header field with state, moment, age and missing fields."""
    till = shop()
    till.write({1: 5.0}, "REPLICA")
    named = till.get("POST", "/v1/till/predict", {"product_id": 7})
    v2 = till.get(
        "POST",
        "/v2/models/till/infer",
        {"inputs": [{"name": "product_id", "shape": [1], "datatype": "INT64", "data": [7]}]},
    )
    expected = b'products;bf_state=REPLICA;bf_missing="price:no_match"'
    assert dict(named.headers)[b"brownfield-lookups"] == expected
    assert dict(v2.headers)[b"brownfield-lookups"] == expected


def test_age_is_judged_when_the_request_is_answered(shop):
    """An hour after its moment a value is missing, reason stale, without anything having been written since."""
    till = shop()
    till.write({1: 5.0})
    till.clock.advance(3_600)
    assert till.ask(1)["predictions"] == [{"score": 5.0}]
    till.clock.advance(1)
    answer = till.ask(1)
    assert answer["predictions"] == [{"score": -1.0}]
    assert said(answer)["bf_missing"] == [{"field": "price", "reason": "stale"}]
    assert said(answer)["bf_stale_s"] == 3601.0


def test_f49_a_moment_to_come_never_counts_as_fresh(shop):
    """F-49: a table whose moment lies ahead of our clock, because either clock lies, is stale."""
    till = shop()
    till.write({1: 5.0}, ahead_s=3_600)
    assert said(till.ask(1))["bf_missing"] == [{"field": "price", "reason": "stale"}]
    till.clock.jump(7_200)
    till.write({1: 5.0})
    assert said(till.ask(1))["bf_missing"] == []
    till.clock.jump(-3_600)
    assert said(till.ask(1))["bf_missing"] == [{"field": "price", "reason": "stale"}]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("pass", ("model", -1.0, "")), ("impute", ("model", 9.0, "")), ("reject", ("constant", 0.5, "lookup"))],
)
def test_the_null_policy_decides_about_what_is_stale(shop, policy, expected):
    """A missing value reaches the model as missing, as its stand-in, or not at all: then the fallback answers."""
    till = shop(policy=policy)
    till.write({1: 5.0})
    till.clock.advance(4_000)
    answer = till.ask(1)
    decision = answer["decision"]
    assert (decision["source"], answer["predictions"][0]["score"], decision["cause"]) == expected
    assert said(answer)["bf_missing"] == [{"field": "price", "reason": "stale"}]


def test_the_last_resort_stands_for_what_is_gone(shop):
    """A declared constant takes the place of a stale value, and the state says so."""
    till = shop(constants={"price": 2.0})
    till.write({1: 5.0})
    till.clock.advance(4_000)
    answer = till.ask(1)
    assert (answer["predictions"], said(answer)["bf_state"]) == ([{"score": 2.0}], "FALLBACK")


def test_before_the_first_table_values_are_unavailable(shop):
    """A lookup that was never read says REFUSE, and its fields are missing."""
    answer = shop().ask(1)
    assert (said(answer)["bf_state"], said(answer)["bf_as_of"]) == ("REFUSE", None)
    assert said(answer)["bf_missing"] == [{"field": "price", "reason": "unavailable"}]


def test_a_table_that_nobody_renews_is_a_copy(shop):
    """When the process that reads lookups is gone for three periods, PRIMARY is said no more."""
    till = shop()
    till.write({1: 5.0})
    till.clock.advance(181)
    assert said(till.ask(1))["bf_state"] == "SNAPSHOT"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_f61_a_torn_table_is_never_used(shop, share):
    """F-61: with its file cut at any place, the lookup is unavailable instead of wrong."""
    till = shop()
    till.write({1: 5.0})
    [file] = till.folder.glob("served-*.table")
    till.table = TableLookup("products", till.folder, 60.0, till.clock)
    till.served.enrichment.joins = (till.served.enrichment.joins[0]._replace(lookup=till.table),)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    till.table.look()
    assert said(till.ask(1))["bf_missing"] == [{"field": "price", "reason": "unavailable"}]


def test_a_table_is_swapped_as_a_whole(shop):
    """A new table holds from the next request on; metrics count states and missing fields."""
    till = shop()
    till.write({1: 5.0})
    before = till.ask(1)
    till.write({1: 6.0}, "SNAPSHOT")
    after = till.ask(1, 8)
    assert (before["predictions"], after["predictions"]) == ([{"score": 5.0}], [{"score": 6.0}, {"score": -1.0}])
    text = till.get("GET", "/metrics").body.decode()
    assert 'brownfield_lookup_requests_total{integration="till",source="products",state="SNAPSHOT"} 1' in text
    missing = 'brownfield_lookup_missing_total{integration="till",source="products",field="price",reason="no_match"} 1'
    assert missing in text


def use_up(monkeypatch):
    """No file descriptor is left to read tables with."""
    opened = Path.open

    def refused(path, mode="r", *args, **options):
        if (path.suffix, mode) == (".table", "rb"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", refused)


def test_f42_a_table_that_cannot_be_opened_once_is_not_lost(shop, monkeypatch, caplog):
    """F-42: the table before is served on, its trouble is told of once, and the next look takes the new one over."""
    till = shop()
    till.write({1: 5.0})
    with monkeypatch.context() as patched:
        use_up(patched)
        till.put({1: 6.0})
        assert [till.table.look() for _ in range(3)] == [False] * 3
    answer = till.ask(1)
    assert (answer["predictions"], said(answer)["bf_state"]) == ([{"score": 5.0}], "PRIMARY")
    assert [each.event for each in caplog.records if each.levelname == "ERROR"] == ["BF-LKP-TABLE-REFUSED"]
    assert till.table.look()
    assert till.ask(1)["predictions"] == [{"score": 6.0}]


def test_f42_without_a_table_before_it_is_tried_again(shop, monkeypatch):
    """F-42: with none to serve on, it is unavailable until the next look."""
    till = shop()
    with monkeypatch.context() as patched:
        use_up(patched)
        till.put({1: 5.0})
        till.table.look()
        assert said(till.ask(1))["bf_state"] == "REFUSE"
    assert till.table.look()
    assert till.ask(1)["predictions"] == [{"score": 5.0}]


def test_f61_a_torn_table_leaves_the_one_before(shop):
    """F-61: it is served on, becomes a copy when no other comes, and gives way to the very table once that is whole."""
    till = shop()
    till.write({1: 5.0})
    whole = till.put({1: 6.0})
    content = whole.read_bytes()
    whole.write_bytes(content[:-1])
    till.table.look()
    assert till.ask(1)["predictions"] == [{"score": 5.0}]
    till.clock.advance(181)
    answer = till.ask(1)
    assert (answer["predictions"], said(answer)["bf_state"]) == ([{"score": 5.0}], "SNAPSHOT")
    till.write({1: 6.0})
    assert till.ask(1)["predictions"] == [{"score": 6.0}]


def test_f61_a_first_table_that_was_torn_is_taken_over_when_it_is_whole(shop):
    """F-61: the next reading writes the same table again; it holds from then on."""
    till = shop()
    whole = till.put({1: 5.0})
    whole.write_bytes(whole.read_bytes()[:-1])
    till.table.look()
    assert said(till.ask(1))["bf_state"] == "REFUSE"
    till.write({1: 5.0})
    assert till.ask(1)["predictions"] == [{"score": 5.0}]


class SlowLookup:
    """A lookup that takes nine tenths of the time that it is told."""

    def __init__(self, name, clock):
        self.name, self.clock, self.told = name, clock, []

    async def find(self, _keys, rows, timeout_s):
        """Say that it is unavailable, after a while."""
        self.told.append(timeout_s)
        self.clock.advance(max(timeout_s * 0.9, 0.0))
        return Found("PRIMARY", None, {}, ["unavailable"] * rows)


def test_f44_lookups_in_a_row_share_the_time_that_a_request_has(shop):
    """F-44: each is told what those before it left, so that all together end before the deadline."""
    till = shop()
    slow = [SlowLookup(name, till.clock) for name in ("one", "two", "three")]
    enrichment = Enrichment([Joined(each, ("product_id",), (), {}) for each in slow], till.clock)
    checked = till.served.request.rows.check([{"product_id": 1}])
    begun_ns = till.clock.monotonic_ns()
    asyncio.run(enrichment.apply(checked, 0.3))
    assert [each.told for each in slow] == [[pytest.approx(0.3)], [pytest.approx(0.03)], [pytest.approx(0.003)]]
    assert till.clock.monotonic_ns() - begun_ns < 300_000_000
