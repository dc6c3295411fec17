"""Mapping files in whole runs: what they make of a silo, what they refuse, and what is kept of it."""

import os
import sqlite3
from contextlib import closing

import duckdb
import pytest

from brownfield.data.pipeline import replay_quarantined, run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import Selection, open_store
from brownfield.workspace.check import check

WORKSPACE = """
workspace: clinic
connections:
  ward: {kind: sqlite, path: legacy/ward.db}
  drop: {kind: folder, path: legacy/drop}
"""
INTEGRATION = """
integration: stay
contract: contract.odcs.yaml
sources:
  stays: {feed: true, connection: ward, table: AUFENTHALT, cursor: {column: stay_id, key: stay_id}, mapping: stays.yaml}
  people: {lookup: person_id, connection: drop, path: people.csv, format: csv, delimiter: ";", mapping: people.yaml}
unified:
  visits: {from: stays, join: [{source: people, on: person_id, take: [sex, weight_kg]}]}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: stay
version: 1.0.0
status: active
schema:
  - name: request
    logicalType: object
    properties: [{name: person_id, logicalType: string, required: true}]
  - name: response
    logicalType: object
    properties: [{name: items, logicalType: array, required: true, items: {logicalType: string}}]
  - name: stays
    logicalType: object
    properties:
      - {name: stay_id, logicalType: integer, primaryKey: true, required: true}
      - {name: person_id, logicalType: string, required: true}
      - {name: until, logicalType: date}
      - {name: until_reason, logicalType: string}
      - {name: until_missing, logicalType: boolean, required: true}
      - {name: cost, logicalType: number}
      - {name: house, logicalType: string, required: true}
  - name: people
    logicalType: object
    properties:
      - {name: person_id, logicalType: string, primaryKey: true, required: true}
      - {name: sex, logicalType: string, required: true, enum: [{value: male}, {value: female}]}
      - name: weight_kg
        logicalType: number
        customProperties: [{property: unit, value: kg, vendor: brownfield}]
      - {name: insured, logicalType: boolean}
  - name: visits
    logicalType: object
    properties:
      - {name: stay_id, logicalType: integer, required: true}
      - {name: person_id, logicalType: string, required: true}
      - {name: until, logicalType: date}
      - {name: until_reason, logicalType: string}
      - {name: cost, logicalType: number}
      - {name: sex, logicalType: string}
      - {name: weight_kg, logicalType: number}
"""
STAYS = """
approved: true
fields:
  stay_id: {from: FALL_NR}
  person_id: {from: PAT_NR, trim: right, leading_zeros: strip}
  until: {from: BIS, date: dd.MM.yyyy, sentinels: {"31.12.9999": open_ended, "00.00.0000": unknown}}
  until_reason: {reason_of: until}
  until_missing: {missing_of: until}
  cost: {from: KOSTEN, number: {decimal: ",", thousands: ".", minus: trailing}}
  house: {constant: north}
"""
PEOPLE = """
approved: true
fields:
  person_id: {from: NR, trim: both, leading_zeros: strip}
  sex: {from: GESCHL, codes: {M: male, W: female}}
  weight_kg: {from: GEWICHT_LB, number: {}, unit: {from: lb}}
  insured: {from: VERS, boolean: {yes: [J], no: [N]}}
"""
ROWS = [
    (1, "0042  ", "28.02.2026", "1.234,50"),
    (2, "0042", "31.12.9999", "7,25-"),
    (3, "7", "00.00.0000", None),
    (4, "7", None, "0,00"),
    (5, "7", "30.02.2026", "1,00"),  # a day that the calendar does not have
    (6, "7", "01.03.2026", "1.23"),  # a group of two digits
    (7, "7", "2026-03-01", "one"),  # two fields at fault
]
CSV = "NR;GESCHL;GEWICHT_LB;VERS\n00042;M;100;J\n7;W;150.5;N\n8;X;1;J\n9;W;1;yes\n"


@pytest.fixture
def clinic(tmp_path):
    """A workspace with two silos whose columns the contract does not know."""
    folder = tmp_path / "clinic"
    (folder / "legacy" / "drop").mkdir(parents=True)
    (folder / "integrations" / "stay").mkdir(parents=True)
    (folder / "brownfield.yaml").write_text(WORKSPACE)
    for name, text in (
        ("integration.yaml", INTEGRATION),
        ("contract.odcs.yaml", CONTRACT),
        ("stays.yaml", STAYS),
        ("people.yaml", PEOPLE),
    ):
        (folder / "integrations" / "stay" / name).write_text(text)
    with closing(sqlite3.connect(folder / "legacy" / "ward.db")) as database, database:
        database.execute("CREATE TABLE AUFENTHALT (FALL_NR INTEGER PRIMARY KEY, PAT_NR TEXT, BIS TEXT, KOSTEN TEXT)")
        database.executemany("INSERT INTO AUFENTHALT VALUES (?, ?, ?, ?)", ROWS)
    (folder / "legacy" / "drop" / "people.csv").write_text(CSV)
    return folder


def run(folder, **options):
    """Run the pipeline once and give its report."""
    workspace = load_workspace(folder)
    integration = workspace.integrations["stay"]
    with open_store(folder / "var" / "brownfield.db") as store:
        return run_pipeline(integration, workspace.connections, store, folder / "var" / "data" / "stay", **options)


def table(folder, name):
    """Give the rows of a unified table."""
    return duckdb.sql(f"SELECT * FROM '{folder}/var/data/stay/{name}/*.parquet' ORDER BY 1").fetchall()  # noqa: S608 (a path of ours)


def test_a_silo_is_read_through_its_mapping_file(clinic):
    """Names, keys, dates, numbers, codes, units and reasons come out as the contract has them."""
    report = run(clinic)
    stays, people = report.sources["stays"], report.sources["people"]
    assert (stays.rows_in, stays.accepted, stays.quarantined) == (7, 4, 3)
    assert stays.by_rule == {"cost.map": 1, "until.map": 2}
    assert people.by_code == {"BF-MAP-001": 1, "BF-MAP-003": 1}
    rows = table(clinic, "visits")
    assert [row[:2] for row in rows] == [(1, "42"), (2, "42"), (3, "7"), (4, "7")]
    assert [str(row[2]) for row in rows] == ["2026-02-28", "None", "None", "None"]
    assert [row[3] for row in rows] == [None, "open_ended", "unknown", "not_supplied"]
    assert [row[4] for row in rows] == [1234.5, -7.25, None, 0.0]
    assert [row[5] for row in rows] == ["male", "male", "female", "female"]
    assert [row[6] for row in rows] == pytest.approx([45.359237, 45.359237, 68.265651685, 68.265651685])


def test_what_does_not_map_is_kept_with_its_bytes_and_stage(clinic):
    """A record that the mapping refuses lies in quarantine with stage, code and the silo's own names."""
    run(clinic)
    with open_store(clinic / "var" / "brownfield.db") as store:
        kept = store.quarantine.select("stay", Selection(source="stays"))
    assert {(each.stage, str(each.code), each.rule) for each in kept} == {
        ("map", "BF-MAP-004", "until.map"),
        ("map", "BF-MAP-002", "cost.map"),
    }
    assert b'"BIS":"30.02.2026"' in next(each.raw for each in kept if each.position == "FALL_NR=5")


def test_the_report_and_the_ledger_name_version_reasons_and_collisions(clinic):
    """B-45: keys that fall together are counted, sentinels by reason, and a changed file is another version."""
    drop = clinic / "legacy" / "drop" / "people.csv"
    drop.write_text(drop.read_text() + " 7;M;1;J\n")
    report = run(clinic)
    people, stays = report.sources["people"], report.sources["stays"]
    assert people.mapping.collisions == {"person_id": 1}
    assert people.by_code["BF-RUL-007"] == 1
    assert stays.mapping.missing == {"until": {"open_ended": 1, "unknown": 1}}
    file = clinic / "integrations" / "stay" / "people.yaml"
    file.write_text(file.read_text().replace("[J]", "[J, yes]"))
    changed = run(clinic).sources["people"]
    assert changed.by_code.get("BF-MAP-003") is None
    with open_store(clinic / "var" / "brownfield.db") as store:
        later, earlier = (store.ledger.counts(each.run_id) for each in store.ledger.runs("stay"))
    versions = [next(each.mapping for each in counts if each.source == "people") for counts in (earlier, later)]
    assert versions == [people.mapping.digest, changed.mapping.digest]
    assert versions[0] != versions[1]


CHAIN = """  people:
    lookup: person_id
    failover: {failures: 1, window_s: 0.1, good_probes: 1, cool_down_s: 30}
    chain:
      - {connection: drop, path: people.csv, format: csv, delimiter: ";", mapping: people.yaml}
      - {connection: drop, path: copy.csv, format: csv, delimiter: ";", mapping: copy.yaml}
      - {snapshot: last_good, max_age_h: 24}
"""


@pytest.mark.full
def test_the_mapping_of_a_chain_is_that_of_the_place_that_was_read(clinic):
    """Each place maps with its own file: report and ledger name it; a copy was mapped before."""
    home, drop = clinic / "integrations" / "stay", clinic / "legacy" / "drop"
    flat = next(line for line in INTEGRATION.splitlines(keepends=True) if line.startswith("  people:"))
    (home / "integration.yaml").write_text(INTEGRATION.replace(flat, CHAIN))
    (home / "copy.yaml").write_text(PEOPLE.replace("codes: {M:", "codes: {D: female, M:"))
    (drop / "copy.csv").write_text(CSV.replace("8;X;1;J", "0008;D;1;J\n 8;D;1;J"))
    os.utime(drop / "copy.csv", (0, 1_700_000_000))
    told = []
    for gone in ("", "people.csv", "copy.csv"):
        (drop / gone).unlink() if gone else None
        told.append(run(clinic).sources["people"])
    assert [each.state for each in told] == ["PRIMARY", "REPLICA", "SNAPSHOT"]
    assert told[1].as_of == "2023-11-14T22:13:20.000000Z"
    first, second, third = (each.mapping for each in told)
    assert first.digest
    assert second.digest not in {"", first.digest}
    assert (first.collisions, second.collisions) == ({}, {"person_id": 1})
    assert third.digest == ""
    assert told[2].as_of == told[0].as_of  # the replica's rows are older, so the copy is still the primary's
    with open_store(clinic / "var" / "brownfield.db") as store:
        kept = [store.ledger.counts(each.run_id) for each in reversed(store.ledger.runs("stay"))]
    versions = [each.mapping for counts in kept for each in counts if each.source == "people"]
    assert versions == [first.digest, second.digest, ""]


def test_a_replay_maps_with_the_file_of_today(clinic):
    """A record that the mapping refused comes in by a replay once the file admits it."""
    run(clinic)
    file = clinic / "integrations" / "stay" / "stays.yaml"
    file.write_text(file.read_text().replace('"31.12.9999"', '"30.02.2026": invalid, "31.12.9999"'))
    workspace = load_workspace(clinic)
    with open_store(clinic / "var" / "brownfield.db") as store:
        outcome = replay_quarantined(
            workspace.integrations["stay"],
            workspace.connections,
            store,
            clinic / "var" / "data" / "stay",
            source="stays",
            apply=True,
        )
    assert (outcome.selected, outcome.accepted, outcome.still_bad) == (3, 1, 2)
    assert [row[:1] + row[3:4] for row in table(clinic, "visits")][-1] == (5, "invalid")


def test_check_tells_of_a_column_that_is_read_in_two_ways(clinic):
    """Two fields that need one column as text and as a number are a finding with file and line, before any run."""
    file = clinic / "integrations" / "stay" / "stays.yaml"
    file.write_text(file.read_text() + "  cost_class: {from: KOSTEN, reads: integer, codes: {'1': low}}\n")
    contract = clinic / "integrations" / "stay" / "contract.odcs.yaml"
    house = "      - {name: house, logicalType: string, required: true}\n"
    contract.write_text(
        contract.read_text().replace(house, house + "      - {name: cost_class, logicalType: string}\n")
    )
    [finding] = [each for each in check(clinic).findings if each.level == "error"]
    assert finding.where == "integrations/stay/stays.yaml:11"
    assert "the column KOSTEN read in one way" in finding.message
