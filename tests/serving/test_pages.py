"""The page for people and the OpenAPI document."""

import asyncio
import base64
import hashlib
import json
import re

from brownfield.serving.gateway import Served
from brownfield.serving.gateway.pages import example_record


def ask(client, path, **headers):
    response = asyncio.run(client.ask("GET", path, **headers))
    return response.body.decode(), dict(response.headers)


def test_the_page_tells_people_how_to_ask(client):
    """Fields, types, rules, an example that passes the contract, and a call to copy."""
    page, headers = ask(client, "/docs")
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    for words in (
        "Suggest the next items",
        "store_id",
        "at least 1",
        "list of string",
        "at most 20 items",
        "/v1/till/",
    ):
        assert words in page
    assert "Model version 3 answers." in page


def test_the_example_of_the_page_passes_the_contract(served):
    """Copied and pasted, it gets an answer."""
    assert served.request.rows.check([example_record(served.request)]).rows == 1


def test_nothing_on_the_page_runs_and_nothing_comes_from_elsewhere(client):
    """S-21: no script, no address of another host, and a policy that would refuse both."""
    page, headers = ask(client, "/docs")
    policy = headers[b"content-security-policy"].decode()
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_what_the_declaration_says_is_text_on_the_page(make_client, make_contract):
    """S-21: markup in a purpose or a description is shown, not run."""
    evil = "<script>alert(1)</script>"
    field = {"name": "x", "logicalType": "string", "description": evil, "examples": [evil]}
    contract = make_contract([field], [field])
    client = make_client(Served(name="till", contract=contract, deadline_ms=10, purpose=evil), title=evil)
    page, _ = ask(client, "/docs")
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_an_empty_workspace_has_a_page(make_client):
    """It says that nothing is served yet."""
    assert "Nothing is served yet." in ask(make_client(), "/docs")[0]


def test_the_openapi_document_has_every_integration(client):
    """OpenAPI 3.1, from the contracts."""
    text, headers = ask(client, "/openapi.json")
    document = json.loads(text)
    assert headers[b"content-type"] == b"application/json"
    assert document["openapi"].startswith("3.1")
    assert "/v1/till/predict" in document["paths"]


def test_the_call_to_copy_goes_where_the_reader_came_from(client):
    """The Host field is taken when it is one, and is no way into the page or the reader's shell."""
    assert "http://models.shop:8080/v1/till/predict" in ask(client, "/docs", host="models.shop:8080")[0]
    for host in ("x'; rm -rf ~", "<b>", "a b", "x/y", ""):
        page, _ = ask(client, "/docs", host=host)
        assert "http://127.0.0.1:8080/v1/till/predict" in page
        assert "rm -rf" not in page
