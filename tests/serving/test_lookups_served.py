"""Lookups of a served workspace: a real process that reads them, a table that is gone, a service that is slow."""

import os
import signal
import sqlite3
import time
from contextlib import closing

import httpx
import numpy as np
import psutil
import pytest

from brownfield.contract import compile_contract
from brownfield.data.features import Features
from brownfield.data.features.inputs import Numeric
from brownfield.data.features.outputs import RawOutput
from brownfield.integration import load_document
from brownfield.model import Golden, write_bundle
from harness.http_service import Answer, service  # noqa: F401 (a fixture)
from harness.processes import descendants
from harness.shadows import Shadows

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: risk
version: 1.0.0
status: active
slaProperties: [{property: latency, value: 1, unit: h, element: products.price}]
schema:
  - name: request
    logicalType: object
    properties: [{name: product_id, logicalType: integer, required: true}]
  - name: response
    logicalType: object
    properties:
      - name: y
        required: true
        customProperties: [{property: tensor, value: {dtype: float32, shape: [1]}, vendor: brownfield}]
  - name: products
    logicalType: object
    properties:
      - {name: product_id, logicalType: integer, primaryKey: true, required: true}
      - {name: price, logicalType: number}
"""
INTEGRATION = """
integration: risk
contract: contract.odcs.yaml
sources:
  products:
    lookup: product_id
    failover: {{failures: 2, window_s: 30, good_probes: 1, cool_down_s: 600}}
    chain: [{chain}]
enrich: [{{source: products, on: product_id, take: [price], refresh_s: 1}}]
model: {{path: bundles/one}}
fallback: {{deadline_ms: 20000, chain: [{{constant: {{y: [0.5]}}}}]}}
"""


_SLOW_S = 60
_MOST_ASKED = 10


def lay_out(folder, risk, chain, connection):
    """A workspace whose model adds the price of a product to its number."""
    home = folder / "integrations/risk"
    home.mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(f"workspace: risk\nconnections:\n  {connection}\n")
    (home / "contract.odcs.yaml").write_text(CONTRACT)
    (home / "integration.yaml").write_text(INTEGRATION.format(chain=chain))
    inputs = tuple(
        Numeric(field=name, tensor="x", dtype="float32", fill=-1000.0, mask=True) for name in ("product_id", "price")
    )
    features = Features(inputs=inputs, outputs=(RawOutput(field="y", tensor="y"),))
    golden = Golden({"x": np.repeat([[1.0], [2.0]], 4, 1).astype("f4")}, {"y": np.array([[4.0], [8.0]], "f4")})
    contract = compile_contract(load_document(CONTRACT, "contract.odcs.yaml").data)
    write_bundle(
        home / "bundles/one", name="risk", version="1", model=risk.model(), features=features, contract=contract,
        golden=golden,
    )  # fmt: skip
    return folder


def ask(url, product_id):
    """One answer and how long it took."""
    begun = time.monotonic()
    answer = httpx.post(f"{url}/v1/risk/predict", json={"product_id": product_id}, timeout=40)
    assert answer.status_code == 200, answer.text
    return answer.json(), time.monotonic() - begun


def until(url, holds, within_s=80.0):
    """Ask until it holds of an answer."""
    end = time.monotonic() + within_s
    while True:
        answer, _ = ask(url, 3)
        if holds(answer):
            return answer
        assert time.monotonic() < end, answer
        time.sleep(0.1)


@pytest.mark.full
def test_f42_requests_go_on_with_the_table_of_a_source_that_is_gone(tmp_path, risk, serving):
    """F-42: a price that changes is served a moment later; when its database is gone, the copy is, and says so."""
    chain = "{connection: erp, table: products}, {snapshot: last_good, max_age_h: 24}"
    folder = lay_out(tmp_path, risk, chain, "erp: {kind: sqlite, path: erp.db}")
    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("CREATE TABLE products (product_id INTEGER PRIMARY KEY, price REAL)")
        database.executemany("INSERT INTO products VALUES (?, ?)", [(i, 10.0 * i) for i in range(10)])
    running = serving(folder)
    answer = until(running.url, lambda each: each["lookups"][0]["bf_state"] == "PRIMARY")
    assert (answer["prediction"], answer["lookups"][0]["bf_missing"]) == ({"y": [33.0]}, [])
    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("UPDATE products SET price = 50 WHERE product_id = 3")
    until(running.url, lambda each: each["prediction"] == {"y": [53.0]})
    (folder / "erp.db").rename(folder / "gone.db")
    answer = until(running.url, lambda each: each["lookups"][0]["bf_state"] == "SNAPSHOT")
    assert answer["prediction"] == {"y": [53.0]}
    assert answer["decision"]["reason"] == "STALE"
    assert answer["lookups"][0]["bf_stale_s"] > 0


@pytest.mark.full
def test_f44_requests_do_not_wait_for_a_slow_service(tmp_path, risk, serving, service, monkeypatch):  # noqa: F811
    """F-44: a service that answers after 30 s costs a request its declared deadline, and soon nothing at all."""
    monkeypatch.setenv("CRM_URL", service.url)
    service.answer = lambda _m, path, *_: Answer(b'{"product_id": %s, "price": 30}' % path.rpartition("/")[2].encode())
    connection = "crm: {kind: http, base_url: {env: CRM_URL}, network: this_machine, tls: {mode: 'off'}}"
    endpoint = "{connection: crm, endpoint: {path: '/p/{product_id}'}, format: json, deadline_ms: 4000}"
    running = serving(lay_out(tmp_path, risk, f"{endpoint}, {{constant: {{price: 7}}}}", connection))
    answer = until(running.url, lambda each: each["lookups"][0]["bf_state"] == "PRIMARY")
    assert answer["prediction"] == {"y": [33.0]}
    service.answer = lambda *_: Answer(wait_s=_SLOW_S)
    product, asked = 3, -1
    while len(service.asked) > asked:  # until a request asks no more
        asked, product = len(service.asked), product + 1
        answer, took_s = ask(running.url, product)
        assert (answer["prediction"], answer["lookups"][0]["bf_state"]) == ({"y": [product + 7.0]}, "FALLBACK")
        assert took_s < _SLOW_S / 2  # it waits for the deadline, never for the service
        assert product < _MOST_ASKED, "a service that fails is asked again and again"


def reader_of(running):
    """The process that reads the lookups of a served workspace; None while there is none."""
    return next((each.pid for each in descendants(running.pid, "pipeline.refresh")), None)


def set_price(folder, price):
    """Change the price of the product that is asked for."""
    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("UPDATE products SET price = ? WHERE product_id = 3", (price,))


@pytest.mark.full
def test_requests_outlive_the_process_that_reads_lookups_and_reloads(tmp_path, risk, serving):
    """Killed, it is started again; a reload is refused, or swaps process and table; requests keep their values."""
    chain = "{connection: erp, table: products}, {snapshot: last_good, max_age_h: 24}"
    folder = lay_out(tmp_path, risk, chain, "erp: {kind: sqlite, path: erp.db}")
    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("CREATE TABLE products (product_id INTEGER PRIMARY KEY, price REAL)")
        database.executemany("INSERT INTO products VALUES (?, ?)", [(i, 10.0 * i) for i in range(10)])
    running = serving(folder)
    until(running.url, lambda each: each["lookups"][0]["bf_state"] == "PRIMARY")
    killed = reader_of(running)
    os.kill(killed, signal.SIGKILL)
    set_price(folder, 50)
    seen = []

    def shows(value):
        def holds(answer):
            [note] = answer["lookups"]
            seen.append((note["bf_state"], bool(note["bf_missing"])))
            return answer["prediction"] == {"y": [value]}

        return holds

    until(running.url, shows(53.0))
    second = reader_of(running)
    assert second not in {None, killed}
    assert "BF-LKP-READER-ENDED" in running.log

    contract = folder / "integrations/risk/contract.odcs.yaml"
    price = "{name: price, logicalType: number}"
    contract.write_text(CONTRACT.replace(price, "{name: price, logicalType: number, classification: pii}"))
    running.process.send_signal(signal.SIGHUP)
    until(running.url, lambda _: "BF-SRV-RELOAD-REFUSED" in running.log)
    assert "security.encryption_key" in running.log
    assert reader_of(running) == second
    contract.write_text(CONTRACT)

    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("CREATE TABLE prices (product_id INTEGER PRIMARY KEY, price REAL)")
        database.executemany("INSERT INTO prices VALUES (?, ?)", [(i, 100.0) for i in range(10)])
    declared = folder / "integrations/risk/integration.yaml"
    declared.write_text(declared.read_text().replace("table: products", "table: prices"))
    running.process.send_signal(signal.SIGHUP)
    until(running.url, shows(103.0))
    until(running.url, lambda _: not psutil.pid_exists(second))
    assert reader_of(running) not in {None, second}
    assert {state for state, _ in seen} <= {"PRIMARY", "SNAPSHOT"}
    assert not any(missing for _, missing in seen)


@pytest.mark.full
def test_no_file_of_the_current_folder_is_a_module(tmp_path, risk, serving, monkeypatch):
    """Named as modules are, they are imported by none of the processes; what ``PYTHONPATH`` says is heeded."""
    folder = lay_out(
        tmp_path / "workspace",
        risk,
        "{connection: erp, table: products}, {snapshot: last_good, max_age_h: 24}",
        "erp: {kind: sqlite, path: erp.db}",
    )
    with closing(sqlite3.connect(folder / "erp.db")) as database, database:
        database.execute("CREATE TABLE products (product_id INTEGER PRIMARY KEY, price REAL)")
        database.execute("INSERT INTO products VALUES (3, 30)")
    shadows = Shadows(tmp_path / "shadows", monkeypatch)
    until(serving(folder).url, lambda each: each["lookups"][0]["bf_state"] == "PRIMARY")
    assert shadows.begun("pipeline.refresh")
    assert not shadows.imported
