"""A small bank: one table of events by account, read as a feed that keeps the order within an account."""

import re
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq

from brownfield.data.pipeline import replay_quarantined, run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import Selection, open_store

WORKSPACE = "workspace: shop\nconnections:\n  pos: {kind: sqlite, path: pos.db}\n"
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  events:
    feed: true
    connection: pos
    table: events
    cursor: {column: line, key: line}
    park: {key: account}
unified: {history: {from: events}}
fallback: {chain: [{constant: {items: []}}]}
"""
FIELDS = """
      - {name: line, logicalType: integer, primaryKey: true, required: true}
      - {name: account, logicalType: string}
      - {name: amount, logicalType: integer, required: true, logicalTypeOptions: {maximum: 100}}
"""
CONTRACT = f"""
apiVersion: v3.2.0
kind: DataContract
id: reco
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{{name: line, logicalType: integer, required: true}}]
  - name: response
    logicalType: object
    properties: [{{name: items, logicalType: array, required: true, items: {{logicalType: string}}}}]
  - name: events
    logicalType: object
    properties:{FIELDS}
  - name: history
    logicalType: object
    properties:{FIELDS.replace("maximum: 100", "maximum: 1000000")}
"""


def make(folder, park="park: {key: account}"):
    """Accounts in a folder."""
    (folder / "integrations/reco").mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(WORKSPACE)
    (folder / "integrations/reco/integration.yaml").write_text(INTEGRATION.replace("park: {key: account}", park))
    (folder / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    with closing(sqlite3.connect(folder / "pos.db")) as database, database:
        database.execute("CREATE TABLE events (line INTEGER PRIMARY KEY, account, amount)")
    return folder


def book(bank, *events):
    """New events, each an account and an amount."""
    with closing(sqlite3.connect(bank / "pos.db")) as database, database:
        database.executemany("INSERT INTO events (account, amount) VALUES (?, ?)", events)


def on_store(bank, work):
    """Do something with integration, connections, store and tables."""
    workspace = load_workspace(bank)
    with open_store(bank / "var/brownfield.db") as store:
        return work(workspace.integrations["reco"], workspace.connections, store, bank / "var/data/reco")


def run(bank, **options):
    """One run; accepted, quarantined."""
    report = on_store(bank, lambda *parts: run_pipeline(*parts, **options)).sources["events"]
    return report.accepted, report.quarantined


def replay(bank, **options):
    """One replay for good; accepted, still bad."""
    wanted = Selection(**options)
    done = on_store(bank, lambda *parts: replay_quarantined(*parts, source="events", wanted=wanted, apply=True))
    return done.accepted, done.still_bad


def waiting(bank):
    """Line to code of what is open."""
    found = on_store(bank, lambda _i, _c, store, _o: store.quarantine.select("reco"))
    return {each.position.removeprefix("line="): each.code for each in found if each.state == "open"}


def history(bank):
    """Lines of the table, part after part, as they were added."""
    listed = on_store(bank, lambda _i, _c, store, _o: store.parts.listed("reco")).get("history", [])
    return [
        line
        for part in listed
        for line in pq.read_table(bank / "var/data/reco/history" / part.file)["line"].to_pylist()
    ]


def allow(bank, maximum):
    """Admit larger amounts."""
    contract = bank / "integrations/reco/contract.odcs.yaml"
    contract.write_text(re.sub(r"maximum: \d{3}}", f"maximum: {maximum}}}", contract.read_text()))
