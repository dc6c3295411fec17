"""How refused records are kept: encrypted or not at all where they are classified, for a time, up to a size."""

import base64
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from brownfield.clock import SystemClock
from brownfield.data.pipeline import Custody, custody_of, replay_quarantined, run_pipeline
from brownfield.errors import DeclarationError, DecryptionFailed, QuarantineFull
from brownfield.integration import load_workspace
from brownfield.security import EncryptionKey, Keyring, Secret
from brownfield.store import QuarantineState, open_store
from harness.shop import head

CANARY = "CANARY-Ann-Lee-4711"
OTHER = "CANARY-Bob-Ray-0815"
WORKSPACE = """
workspace: shop
connections:
  pos: {kind: sqlite, path: pos.db}
  drop: {kind: folder, path: drop}
"""
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  people: {feed: true, connection: pos, table: people, cursor: {column: line, key: line}}
  names: {lookup: nickname, connection: drop, path: names.csv, format: csv}
unified:
  known: {from: people, join: [{source: names, on: nickname, take: [town]}]}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = (
    head(request="line")
    + """  - name: people
    logicalType: object
    properties:
      - {name: line, logicalType: integer, primaryKey: true, required: true}
      - {name: nickname, logicalType: string, classification: pii}
      - {name: age, logicalType: integer, required: true, logicalTypeOptions: {maximum: 150}}
      - {name: note, logicalType: string}
  - name: names
    logicalType: object
    properties:
      - {name: nickname, logicalType: string, primaryKey: true, required: true, classification: pii}
      - {name: town, logicalType: string, required: true, logicalTypeOptions: {maxLength: 5}}
  - name: known
    logicalType: object
    properties:
      - {name: line, logicalType: integer, primaryKey: true, required: true}
      - {name: age, logicalType: integer, required: true, logicalTypeOptions: {minimum: 18}}
      - {name: town, logicalType: string}
"""
)


@pytest.fixture
def shop(tmp_path):
    """People, of whom one is too old, one has no age, one is too young for the table, and a town that is too long."""
    (tmp_path / "integrations/reco").mkdir(parents=True)
    (tmp_path / "brownfield.yaml").write_text(WORKSPACE)
    (tmp_path / "integrations/reco/integration.yaml").write_text(INTEGRATION)
    (tmp_path / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop/names.csv").write_text(f"nickname,town\nann,Bern\n{CANARY},Reykjavik\n")
    people = [(1, "ann", 30, None), (2, CANARY, 900, CANARY), (3, OTHER, None, None), (4, CANARY, 17, CANARY)]
    people.append((5, OTHER, "old", OTHER))
    with closing(sqlite3.connect(tmp_path / "pos.db")) as database, database:
        database.execute("CREATE TABLE people (line INTEGER PRIMARY KEY, nickname, age, note)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", people)
    return tmp_path


def keyring(*numbers):
    """Keys that are told by a number."""
    texts = [base64.b64encode(bytes([number]) * 32).decode() for number in numbers]
    return Keyring([EncryptionKey(Secret(text)) for text in texts])


def run(shop, custody=None, **options):
    """One run."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        return run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco",
            custody=custody, **options,
        )  # fmt: skip


def replay(shop, custody, source="people", **options):
    """One replay."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        return replay_quarantined(
            workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco",
            source=source, custody=custody, **options,
        )  # fmt: skip


def entries(shop):
    """What is in quarantine."""
    with open_store(shop / "var/brownfield.db") as store:
        return store.quarantine.select("reco")


def mend(shop):
    """Admit every age and town."""
    contract = shop / "integrations/reco/contract.odcs.yaml"
    text = contract.read_text().replace("maximum: 150", "maximum: 1500").replace("minimum: 18", "minimum: 0")
    contract.write_text(text.replace("maxLength: 5", "maxLength: 50"))


def leaks(shop):
    """Files below var that hold a canary; those of unified tables and of what joins need are meant to."""
    found = [path for path in (shop / "var").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert any(path.name.startswith("brownfield.db") for path in found)
    return [
        path.name for path in found for canary in (b"CANARY", b"Ann-Lee", b"Bob-Ray") if canary in path.read_bytes()
    ]


@pytest.mark.parametrize("keys", [None, keyring(1)], ids=["no-key", "key"])
def test_i11_no_classified_value_stands_in_clear_below_var(shop, keys):
    """I11: neither the store's file nor its log hold a canary, while it is open and after; all was refused and kept."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco",
            custody=Custody(keys),
        )  # fmt: skip
        assert (shop / "var/brownfield.db-wal").stat().st_size > 0
        assert leaks(shop) == []
    assert leaks(shop) == []
    kept = entries(shop)
    assert sorted((each.source, each.stage) for each in kept) == [
        ("known", "unify"), ("names", "check"), ("people", "check"), ("people", "check"), ("people", "decode")
    ]  # fmt: skip
    assert {each.raw is None for each in kept} == {keys is None}
    assert all(each.raw_bytes > 0 for each in kept)
    if keys is None:
        assert replay(shop, Custody()).unreadable == 3


def test_encrypted_records_are_replayed_and_those_refused_again_get_the_new_key(shop):
    """What one key sealed is brought in while that key is declared as an old one; without it nothing changes."""
    run(shop, Custody(keyring(1)))
    mend(shop)
    old, new = keyring(1).active.key_id, keyring(2).active.key_id
    assert {each.key_id for each in entries(shop)} == {old}
    with pytest.raises(DecryptionFailed, match=old):
        replay(shop, Custody(keyring(2)), apply=True)
    done = replay(shop, Custody(keyring(2, 1)), apply=True)
    assert (done.selected, done.accepted, done.still_bad) == (3, 1, 2)
    kept = {each.position: (str(each.state), each.key_id) for each in entries(shop) if each.source == "people"}
    assert kept == {"line=2": ("replayed", old), "line=3": ("open", new), "line=5": ("open", new)}
    assert leaks(shop) == []
    assert sorted(pq.read_table(shop / "var/data/reco/known")["line"].to_pylist()) == [1, 2]


@pytest.mark.full
def test_f_58_records_that_a_table_refused_are_replayed_under_its_own_name(shop):
    """F-58: a record that its source accepted and a table refused joins the table once, and the run's counts move."""
    custody = Custody(keyring(1))
    first = run(shop, custody)
    mend(shop)
    assert replay(shop, custody, "known").accepted == 1
    done = replay(shop, custody, "known", apply=True)
    assert (done.selected, done.accepted, done.still_bad) == (1, 1, 0)
    assert replay(shop, custody, "known", apply=True).already_applied == 1
    assert sorted(pq.read_table(shop / "var/data/reco/known")["line"].to_pylist()) == [1, 4]
    with open_store(shop / "var/brownfield.db") as store:
        [counts] = [each for each in store.ledger.counts(first.run_id) if each.source == "known"]
    assert (counts.rows_in, counts.accepted, counts.quarantined, counts.by_rule) == (2, 2, 0, {})


def test_a_lookup_is_tried_and_brought_in_by_its_next_pull(shop):
    """A dry run shows what a lookup's refused record would be under the contract of today; the next run closes it."""
    custody = Custody(keyring(1))
    run(shop, custody)
    mend(shop)
    dry = replay(shop, custody, "names")
    assert (dry.accepted, dry.still_bad, dry.by_rule_before) == (1, 0, {"town.length": 1})
    with pytest.raises(DeclarationError, match="pulled whole by the next run"):
        replay(shop, custody, "names", apply=True)
    run(shop, custody)
    assert [each.state for each in entries(shop) if each.source == "names"] == [QuarantineState.FIXED]


def test_a_feed_that_is_read_on_by_a_classified_column_is_refused(shop):
    """I11: its position would stand in clear in the store, so nothing is read."""
    integration = shop / "integrations/reco/integration.yaml"
    integration.write_text(integration.read_text().replace("column: line, key: line", "column: line, key: nickname"))
    with pytest.raises(DeclarationError, match="kept in clear"):
        run(shop)
    assert leaks(shop) == []


class Later(SystemClock):
    """The system's clock, some days on."""

    def __init__(self, days):
        self.days = days

    def now_utc(self):
        """Now, and then some."""
        return datetime.now(UTC) + timedelta(days=self.days)


def test_s19_a_run_deletes_what_was_kept_for_long_enough(shop):
    """S-19: bytes and previews go with the first run after the declared days, which says how many, audited."""
    custody = Custody(keyring(1), keep_d=30)
    assert run(shop, custody).expired == 0
    with open_store(shop / "var/brownfield.db", clock=Later(31)) as store:
        workspace = load_workspace(shop)
        report = run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco",
            custody=custody, clock=Later(31),
        )  # fmt: skip
        assert report.to_dict()["expired"] == 4
        [entry] = [each for each in store.audit.entries() if each.action == "quarantine.expire"]
        kept = {(each.source, str(each.state), each.raw is None) for each in store.quarantine.select("reco")}
    assert (entry.subject, json.loads(entry.detail)["records"]) == ("reco", 4)
    assert kept == {("known", "expired", True), ("people", "expired", True), ("names", "open", False)}


def test_f_54_a_quarantine_that_is_full_stops_the_run_and_drops_nothing(shop):
    """F-54: refused records that do not fit end the run with nothing kept; with room the next run keeps them all."""
    with pytest.raises(QuarantineFull, match="max_mib"):
        run(shop, Custody(keyring(1), max_bytes=100))
    assert entries(shop) == []
    assert list((shop / "var/data/reco").rglob("*.parquet*")) == []
    run(shop, Custody(keyring(1), max_bytes=10_000))
    assert len(entries(shop)) == 5
    with pytest.raises(QuarantineFull, match="max_mib"):
        replay(shop, Custody(keyring(1), max_bytes=100), apply=True)
    assert {each.attempt for each in entries(shop)} == {1}


def test_the_workspace_says_how_refused_records_are_kept(shop, monkeypatch):
    """Key, days and size are those of brownfield.yaml."""
    declared = "security: {encryption_key: {env: BF_KEY}}\nquarantine: {keep_d: 7, max_mib: 3}\n"
    (shop / "brownfield.yaml").write_text(WORKSPACE + declared)
    monkeypatch.setenv("BF_KEY", base64.b64encode(bytes(32)).decode())
    custody = custody_of(load_workspace(shop))
    assert (custody.keep_d, custody.max_bytes, custody.keys is not None) == (7, 3 << 20, True)
