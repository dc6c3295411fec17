"""Order within a key: while a record of a key is refused, later ones wait behind it, and follow it in their order."""

import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from brownfield.data.pipeline import discard_quarantined, park_key, replay_quarantined, run_pipeline
from brownfield.errors import RunPaused
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


@pytest.fixture
def bank(tmp_path):
    """Accounts without an event yet."""
    return make(tmp_path)


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
    contract.write_text(contract.read_text().replace("maximum: 100}", f"maximum: {maximum}}}"))


def test_later_records_of_a_refused_one_wait_and_others_pass(bank):
    """In the same batch and in later runs records of the key are quarantined as waiting; other keys go on."""
    book(bank, ("a", 1), ("a", 500), ("b", 1), ("a", 2), (None, 500), (None, 3))
    assert run(bank) == (3, 3)
    assert waiting(bank) == {"2": "BF-RUL-001", "4": "BF-QUA-001", "5": "BF-RUL-001"}
    book(bank, ("a", 3), ("b", 2))
    assert run(bank) == (1, 1)
    assert history(bank) == [1, 3, 6, 8]


def test_a_replay_lets_them_in_in_their_order(bank):
    """When the first is good now, all of its key follow, whichever of them was selected; the next run waits no more."""
    book(bank, ("a", 500), ("a", 1), ("b", 700), ("b", 2), ("a", 2))
    run(bank)
    book(bank, ("a", 3))
    run(bank)
    assert replay(bank) == (0, 6)
    allow(bank, 600)
    assert replay(bank, code="BF-QUA-001") == (4, 2)
    assert history(bank) == [1, 2, 5, 6]
    assert waiting(bank) == {"3": "BF-RUL-001", "4": "BF-QUA-001"}
    book(bank, ("a", 4), ("b", 3))
    assert run(bank) == (1, 1)
    assert history(bank) == [1, 2, 5, 6, 7]


def test_a_key_is_selected_by_its_value(bank):
    """Only the records of one key are tried."""
    book(bank, ("a", 500), ("b", 500), ("b", 1))
    run(bank)
    allow(bank, 600)
    assert replay(bank, park_key=park_key("reco\0events", ["b"])) == (2, 0)
    assert history(bank) == [2, 3]


def test_behind_a_discarded_record_the_others_follow_with_the_next_replay(bank):
    """A discarded record blocks nothing, and what waited for it is let in before anything newer."""
    book(bank, ("a", 500), ("a", 1))
    run(bank)
    on_store(bank, lambda spec, _c, store, _o: discard_quarantined(
        spec, store, source="events", wanted=Selection(code="BF-RUL-001"), apply=True))  # fmt: skip
    book(bank, ("a", 2))
    assert run(bank) == (0, 1)
    assert replay(bank) == (2, 0)
    assert history(bank) == [2, 3]
    assert waiting(bank) == {}


def test_a_record_that_does_not_decode_blocks_its_key_too(bank):
    """A row whose amount is no number tells its account, and the account's later rows wait."""
    book(bank, ("a", "much"), ("b", 1), ("a", 1))
    assert run(bank) == (1, 2)
    assert waiting(bank) == {"1": "BF-FLD-004", "3": "BF-QUA-001"}


def test_waiting_is_bounded_by_count_and_age(tmp_path):
    """Above the declared number, or age, a run stops and keeps nothing; a person may let it pass once."""
    bank = make(tmp_path / "many", "park: {key: account, max_records: 2}")
    book(bank, ("a", 500), ("a", 1), ("a", 2))
    assert run(bank) == (0, 3)
    book(bank, ("a", 3), ("b", 1))
    with pytest.raises(RunPaused, match="4 records wait"):
        run(bank)
    assert len(waiting(bank)) == 3
    assert run(bank, accept=["parked"]) == (1, 1)
    bank = make(tmp_path / "old", "park: {key: account, max_age_h: 0.000001}")
    book(bank, ("a", 500))
    run(bank)
    book(bank, ("b", 1))
    with pytest.raises(RunPaused, match="wait since"):
        run(bank)


EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2, 500, "much"])), max_size=9)


@pytest.mark.full
@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(batches=st.lists(EVENTS, min_size=1, max_size=2), replays=st.booleans())
@example(batches=[[("a", 1), ("a", "much"), ("a", 2)], [("a", 1), ("b", 500), ("b", 1)]], replays=True)
def test_whatever_comes_no_record_overtakes_another_of_its_key(tmp_path_factory, batches, replays):
    """For any events, runs and replays, the table has each key's records in their order, and none behind a refused."""
    bank = make(tmp_path_factory.mktemp("bank"))
    told = []
    for batch in batches:
        book(bank, *batch)
        told += batch
        run(bank)
        if replays:
            replay(bank)
    allow(bank, 600)
    replay(bank)
    accepted = history(bank)
    for account in "abc":
        lines = [number for number, (name, _) in enumerate(told, 1) if name == account]
        bad = next((number for number in lines if told[number - 1][1] == "much"), len(told) + 1)
        assert [line for line in accepted if line in lines] == [line for line in lines if line < bad]
    assert len(accepted) + len(waiting(bank)) == len(told)
