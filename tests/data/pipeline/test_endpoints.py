"""Lookups over HTTP and SOAP: requests made of hostile keys, answers of every kind, real SOAP stacks, whole runs."""

import html
import json
import re
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Json, Xml
from brownfield.data.pipeline.endpoints import Endpoint, NoSuchKey, compose
from brownfield.data.sources import Budget, HttpClient, Site
from brownfield.errors import SourceUnavailable
from brownfield.integration import EndpointSpec, SoapSpec
from brownfield.store import open_store
from harness.http_service import Answer, php_soap_service, service  # noqa: F401 (a fixture)
from harness.lookup_shop import lay_out, pull, sell

pytestmark = pytest.mark.full

WANTED = pa.schema([("product_id", pa.int64()), ("kind", pa.string())])
TEXT = pa.schema([("product_id", pa.string()), ("kind", pa.string())])
BY_ID = EndpointSpec(path="/products/{product_id}")
XML = {"Content-Type": "text/xml; charset=utf-8"}


@pytest.fixture
def endpoint(tmp_path, service):  # noqa: F811
    """Make an endpoint of the service, or of another at a URL."""
    made = []

    def make(spec=BY_ID, form=None, url=None, **options):
        site = Site(url or service.url, "this_machine", tls="off")
        client = HttpClient(lambda: site, Budget(tmp_path / "budget", "crm", 4, 10_000), **options)
        made.append(client)
        return Endpoint(client, spec, form or Json())

    yield make
    for client in made:
        client.close()


def rows(decoded):
    """The records of an answer."""
    return [row for each in decoded for row in each.batch.to_pylist()]


@given(st.text(min_size=1))
def test_s11_a_key_never_leaves_its_place_in_the_path(key):
    """S-11: whatever a key holds, it is one segment of the path, and comes back as it was; dots alone are no key."""
    try:
        key.encode()
        path = compose(BY_ID, {"product_id": key}).path
    except (NoSuchKey, UnicodeEncodeError):
        assert key in {".", ".."} or not key.isprintable()
        return
    assert re.fullmatch(r"/products/[A-Za-z0-9_.~%-]+", path)
    assert unquote(path.removeprefix("/products/")) == key


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=1))
def test_a_key_in_an_envelope_is_text_alone(key):
    """Whatever a key holds, the envelope has one parameter whose text is the key; or it is no key."""
    spec = EndpointSpec(soap=SoapSpec(namespace="urn:p", operation="Get", parameters={"id": "{product_id}"}))
    try:
        body = compose(spec, {"product_id": key}).body.decode()
    except NoSuchKey:
        assert re.search("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", key)
        return
    [inner] = re.findall("<o:id>([^<>]*)</o:id>", body)
    assert html.unescape(inner) == key
    assert body.count("<o:") == 2


def test_json_records_stand_behind_the_pointer(endpoint, service):  # noqa: F811
    """One object or a list, at the root or within; a pointer that leads nowhere and null are no record."""
    answers = {
        "": {"product_id": 1, "kind": "a"},
        "/data": {"data": {"product_id": 1, "kind": "a"}},
        "/data/0": {"data": [{"product_id": 1, "kind": "a"}, {"product_id": 2}]},
        "/a~1b/~0c": {"a/b": {"~c": {"product_id": 1, "kind": "a"}}},
    }
    for pointer, answer in answers.items():
        service.answer = lambda *_, answer=answer: Answer(json.dumps(answer).encode())
        spec = EndpointSpec(path="/products/{product_id}", record=pointer)
        assert rows(endpoint(spec).ask({"product_id": 1}, WANTED)) == [{"product_id": 1, "kind": "a"}]
    service.answer = lambda *_: Answer(b'{"data": null}')
    for pointer in ("/data", "/none", "/data/0"):
        assert endpoint(EndpointSpec(path="/{product_id}", record=pointer)).ask({"product_id": 1}, WANTED) == []


@pytest.mark.parametrize("status", [204, 404, 410])
def test_no_such_record_is_an_answer(endpoint, service, status):  # noqa: F811
    """204, 404 and 410 say that there is no record of the key."""
    service.answer = lambda *_: Answer(b"", status)
    assert endpoint().ask({"product_id": 1}, WANTED) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=400),
        Answer(status=401),
        Answer(status=429),
        Answer(status=500),
        Answer(status=503),
        Answer(b"<html>", headers={"Content-Type": "text/html"}),
        Answer(b"{}", headers={}),
        Answer(b"{"),
        Answer(b'{"product_id": 1, "product_id": 2}'),
        Answer(b'{"product_id": NaN}'),
        Answer(b"[" * 5_000 + b"]" * 5_000),
        Answer(b'{"product_id": "\xff"}'),
    ],
    ids=lambda answer: f"{answer.status}-{answer.body[:12]!r}-{answer.headers.get('Content-Type')}",
)
def test_anything_else_is_an_outage_that_quotes_nothing(endpoint, service, answer):  # noqa: F811
    """Errors, other media types and bad JSON are outages; what the service said never stands in the message."""
    answer.body = answer.body or b"canary-4711"
    service.answer = lambda *_: answer
    with pytest.raises(SourceUnavailable) as told:
        endpoint().ask({"product_id": 4711}, WANTED)
    assert "4711" not in str(told.value)


BOMB = "<!DOCTYPE x [" + '<!ENTITY a "aaaaaaaaaa">' + "]><p><product>&a;</product></p>"
XML_ATTACKS = {
    "B-21-billion-laughs": BOMB,
    "B-21-quadratic": '<!DOCTYPE x [<!ENTITY a "' + "a" * 50_000 + '">]><p>' + "&a;" * 1_000 + "</p>",
    "B-22-external-entity": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><p><product>&a;</product></p>',
    "B-22-external-dtd": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><p/>',
    "B-22-parameter-entity": '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x">%a;]><p/>',
    "B-23-nested": "<p>" * 200_000,
    "B-23-attributes": "<p " + " ".join(f'a{i}="1"' for i in range(200_000)) + "/>",
    "B-23-text": "<p><product><kind>" + "x" * 5_000_000 + "</kind></product></p>",
}


@pytest.mark.parametrize("attack", XML_ATTACKS.values(), ids=XML_ATTACKS)
def test_hostile_xml_is_an_outage(endpoint, service, attack):  # noqa: F811
    """B-21, B-22, B-23: an answer with a DOCTYPE, or beyond the reader's caps, is none, by key and by SOAP."""
    service.answer = lambda *_: Answer(attack.encode(), headers=XML)
    with pytest.raises(SourceUnavailable):
        endpoint(form=Xml("/p/product")).ask({"product_id": 1}, TEXT)
    soap = EndpointSpec(soap=SoapSpec(namespace="urn:p", operation="Get", parameters={"id": "{product_id}"}))
    with pytest.raises(SourceUnavailable):
        endpoint(soap, Xml("/p/product")).ask({"product_id": 1}, TEXT)


SOAP = {
    "1.1": ("http://schemas.xmlsoap.org/soap/envelope/", "text/xml"),
    "1.2": ("http://www.w3.org/2003/05/soap-envelope", "application/soap+xml"),
}


@pytest.mark.parametrize("version", SOAP)
def test_soap_faults_are_told_apart(endpoint, service, version):  # noqa: F811
    """The caller's fault is no record, the server's is an outage, and neither text is repeated."""
    namespace, media_type = SOAP[version]
    caller, server = ("Client", "Server") if version == "1.1" else ("Sender", "Receiver")

    def fault(code):
        inner = (
            f"<faultcode>s:{code}</faultcode><faultstring>canary</faultstring>"
            if version == "1.1"
            else f"<s:Code><s:Value>s:{code}</s:Value></s:Code><s:Reason><s:Text>canary</s:Text></s:Reason>"
        )
        body = f'<s:Envelope xmlns:s="{namespace}"><s:Body><s:Fault>{inner}</s:Fault></s:Body></s:Envelope>'
        return Answer(body.encode(), 500, {"Content-Type": media_type})

    spec = EndpointSpec(
        soap=SoapSpec(
            version=version, namespace="urn:p", operation="Get", action="urn:p#Get", parameters={"id": "{product_id}"}
        )
    )
    asked = endpoint(spec, Xml("/s:Envelope/s:Body/s:x", {}, {"s": namespace}))
    service.answer = lambda *_: fault(caller)
    assert asked.ask({"product_id": 1}, TEXT) == []
    service.answer = lambda *_: fault(server)
    with pytest.raises(SourceUnavailable) as told:
        asked.ask({"product_id": 1}, TEXT)
    assert "canary" not in str(told.value)
    headers = service.asked[0][2]
    if version == "1.1":
        assert headers["soapaction"] == '"urn:p#Get"'
    else:
        assert headers["content-type"] == 'application/soap+xml; charset=utf-8; action="urn:p#Get"'


@pytest.mark.parametrize("version", SOAP)
def test_phps_soap_server_answers(endpoint, tmp_path, version):
    """A SOAP stack that is not ours takes our envelopes, with keys that must be escaped, and its faults are mapped."""
    spec = EndpointSpec(
        soap=SoapSpec(
            version=version, namespace="urn:products", operation="GetProduct", parameters={"id": "{product_id}"},
            qualified=False,
        )
    )  # fmt: skip
    prefixes = {"s": SOAP[version][0], "p": "urn:products"}
    fields = {"product_id": "product/product_id", "kind": "product/kind"}
    form = Xml("/s:Envelope/s:Body/p:GetProductResponse", fields, prefixes)
    with php_soap_service(tmp_path, version) as url:
        asked = endpoint(spec, form, url)
        for key in ("7", "a<b>&c", 'é"\u4e2d'):
            assert rows(asked.ask({"product_id": key}, TEXT)) == [{"product_id": key, "kind": f"<{key} & co>"}]
        assert asked.ask({"product_id": "bad"}, TEXT) == []
        with pytest.raises(SourceUnavailable, match="fault"):
            asked.ask({"product_id": "boom"}, TEXT)


def http_shop(folder, service, monkeypatch, endpoint, more=""):  # noqa: F811
    """A shop whose products are asked of the service."""
    shop = lay_out(folder, "X")
    monkeypatch.setenv("CRM_URL", service.url)
    file = shop / "brownfield.yaml"
    file.write_text(
        file.read_text() + "  crm:\n    kind: http\n    base_url: {env: CRM_URL}\n    network: this_machine\n"
        "    tls: {mode: 'off'}\n    budget: {requests_per_s: 10000}\n"
    )
    file = shop / "integrations/reco/integration.yaml"
    places = f"chain: [{{connection: crm, endpoint: {endpoint}, format: json}}{more}]"
    file.write_text(file.read_text().replace("chain: [{connection: erp, table: products}, X]", places))
    return shop


def lines(shop):
    """Rows of the unified table."""
    files = str(shop / "var/data/reco/lines/*.parquet")
    return duckdb.sql(f"SELECT line_id, kind, known FROM '{files}' ORDER BY line_id").fetchall()  # noqa: S608 (our own path)


def by_key(_method, path, _headers, _body):
    """Answer for a product; 999 is none."""
    number = int(path.rpartition("/")[2])
    return (
        Answer(status=404)
        if number == 999
        else Answer(json.dumps({"product_id": number, "kind": f"k{number}"}).encode())
    )


def test_a_whole_document_is_a_lookup_with_a_copy(tmp_path, service, monkeypatch):  # noqa: F811
    """A lookup read whole over HTTP falls to its copy when the service is gone, and says so."""
    everything = [{"product_id": i, "kind": f"k{i}"} for i in range(20)]
    service.answer = lambda *_: Answer(json.dumps({"items": everything}).encode())
    more = ", {snapshot: last_good, max_age_h: 24}"
    shop = http_shop(tmp_path / "shop", service, monkeypatch, "{path: /products, record: /items}", more)
    assert pull(shop).sources["products"].state == "PRIMARY"
    service.answer = lambda *_: Answer(status=503)
    sell(shop, (5, 5))
    report = pull(shop)
    assert (report.sources["products"].state, report.sources["products"].accepted) == ("SNAPSHOT", 20)
    assert lines(shop)[-1] == (5, "k5", True)


def test_f42_each_key_is_asked_once_and_the_last_resort_stands_in(tmp_path, service, monkeypatch):  # noqa: F811
    """F-42: in a run each distinct key is one request; with the service gone the constant stands in, match unknown."""
    service.answer = by_key
    more = ", {constant: {kind: unknown}}"
    shop = http_shop(tmp_path / "shop", service, monkeypatch, "{path: '/products/{product_id}'}", more)
    sell(shop, *((i, i % 4) for i in range(5, 40)))
    report = pull(shop)
    assert sorted(path for _, path, _, _ in service.asked) == sorted(f"/products/{i}" for i in (0, 1, 2, 3, 999))
    assert (report.sources["products"].state, report.sources["products"].rows_in) == ("PRIMARY", 4)
    assert lines(shop)[:4] == [(1, "k1", True), (2, "k2", True), (3, "k3", True), (4, None, False)]
    service.answer = lambda *_: Answer(status=503)
    sell(shop, (100, 1))
    report = pull(shop)
    assert report.sources["products"].state == "FALLBACK"
    assert lines(shop)[-1] == (100, "unknown", None)
    with open_store(shop / "var/brownfield.db") as store:
        assert store.lookups.of_run(report.run_id)["products"][0] == "FALLBACK"


def test_another_record_than_was_asked_for_is_never_joined(tmp_path, service, monkeypatch):  # noqa: F811
    """A service that answers with the record of another key counts as failing: its rows poison no other key."""
    service.answer = lambda *_: Answer(b'{"product_id": 1, "kind": "wrong"}')
    shop = http_shop(tmp_path / "shop", service, monkeypatch, "{path: '/products/{product_id}'}")
    with pytest.raises(SourceUnavailable, match="another record"):
        pull(shop)
