"""Writers killed with SIGKILL while a consumer takes what they write: nothing is lost, nothing is there twice.

20 kills in each run of the full suite; ``make soak`` sets BROWNFIELD_KILLS to 1,000.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))
WRITER = Path(__file__).with_name("writer.py")
TOUCHED = "SELECT basket, count(*) FROM touched GROUP BY basket ORDER BY basket"
SQLITE_TRIGGERS = """
CREATE TABLE touched (basket bigint);
CREATE TRIGGER inserted AFTER INSERT ON scores BEGIN INSERT INTO touched VALUES (new.basket); END;
CREATE TRIGGER updated AFTER UPDATE ON scores BEGIN INSERT INTO touched VALUES (new.basket); END;
"""
POSTGRES_TRIGGERS = """
CREATE TABLE touched (basket bigint);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS
  $$ BEGIN INSERT INTO touched VALUES (new.basket); RETURN NULL; END $$;
CREATE TRIGGER touched AFTER INSERT OR UPDATE ON scores FOR EACH ROW EXECUTE FUNCTION touch();
"""

MYSQL_TRIGGERS = """
CREATE TABLE touched (basket bigint);
CREATE TRIGGER inserted AFTER INSERT ON scores FOR EACH ROW INSERT INTO touched VALUES (new.basket);
CREATE TRIGGER updated AFTER UPDATE ON scores FOR EACH ROW INSERT INTO touched VALUES (new.basket);
"""


def soak(settings: dict, consume=lambda: None, longest_s: float = 0.5) -> None:
    """Kill writers at random moments, on a slow machine later ones, then let one end."""
    chance = random.Random(7)  # noqa: S311 (moments of kills)
    with subprocess.Popen(
        [sys.executable, WRITER, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writers:
        begin(writers, 1)  # with what is done for the first time
        assert writers.stdout.readline() == "0\n"
        began = time.monotonic()
        begin(writers, 3)
        assert writers.stdout.readline() == "0\n"
        consume()
        longest_s = max(longest_s, time.monotonic() - began)
        for _ in range(KILLS):
            writer = begin(writers, 0)
            until = time.monotonic() + chance.uniform(0, longest_s)
            while time.monotonic() < until:
                consume()
                time.sleep(0.002)
            os.kill(writer, signal.SIGKILL)
            assert writers.stdout.readline() == "-9\n"
        begin(writers, 5)
        assert writers.stdout.readline() == "0\n"  # it made all effects that the killed ones left
        writers.stdin.close()
    consume()


def begin(writers: subprocess.Popen, effects: int) -> int:
    """Begin a writer and wait until it has taken over; its process."""
    writers.stdin.write(f"{effects}\n")
    writers.stdin.flush()
    return int(writers.stdout.readline())


def check_table(place) -> None:
    """Every effect up to the last is there, its rows were written once, and ledger and counts agree."""
    ((position,),) = place.rows("SELECT position FROM brownfield_stream")
    last = json.loads(position)["after"]
    baskets = range(10, (last + 1) * 10)
    assert last > KILLS // 5
    assert place.rows(TOUCHED) == [(basket, 1) for basket in baskets]
    assert [basket for (basket,) in place.rows("SELECT basket FROM scores ORDER BY basket")] == list(baskets)
    ledger = place.rows("SELECT effect_id, row_count FROM brownfield_effect")
    assert sorted(ledger) == sorted((f"effect-{number}", 10) for number in range(1, last + 1))


def test_f40_r05_sqlite_loses_nothing_and_writes_nothing_twice(sqlite_place) -> None:
    """F-40, R-05: writers of a SQLite table are killed again and again; each row is written exactly once."""
    sqlite_place.run(SQLITE_TRIGGERS)
    soak({"kind": "sqlite", "path": str(sqlite_place.path)})
    check_table(sqlite_place)


def test_f40_r05_postgres_loses_nothing_and_writes_nothing_twice(postgres_place) -> None:
    """F-40, R-05: writers of a PostgreSQL table are killed again and again; each row is written exactly once."""
    postgres_place.run(POSTGRES_TRIGGERS)
    soak({"kind": "postgres", "parameters": postgres_place.parameters, "schema": postgres_place.schema})
    check_table(postgres_place)


def test_f40_r05_mariadb_loses_nothing_and_writes_nothing_twice(mysql_place) -> None:
    """F-40, R-05: writers of a MariaDB table are killed again and again; each row is written exactly once."""
    mysql_place.run(MYSQL_TRIGGERS)
    soak({"kind": "mysql", "parameters": mysql_place.parameters})
    check_table(mysql_place)


@pytest.mark.parametrize("kind", ["files", "sftp"])
def test_f40_r05_files_are_seen_once_by_a_consumer_that_takes_them_at_once(tmp_path, kind, request) -> None:
    """F-40, R-05: writers of a drop folder are killed again and again; each record is in exactly one file, whole."""
    import sqlite3

    drop = tmp_path / "drop"
    drop.mkdir()
    seen: Counter[int] = Counter()

    def consume() -> None:
        for marker in drop.glob("*.done"):
            told = dict(line.split("=", 1) for line in marker.read_text().splitlines())
            data = marker.with_suffix("")
            content = data.read_bytes()
            assert hashlib.sha256(content).hexdigest() == told["sha256"]
            lines = content.decode().splitlines()
            assert len(lines) == int(told["count"])
            seen.update(int(line.split(",")[0]) for line in lines)
            data.unlink()
            marker.unlink()

    settings = {"kind": kind, "drop": str(drop), "ledger": str(tmp_path / "ledger.db"), "var": str(tmp_path / "var")}
    if kind == "sftp":
        settings["address"] = asdict(request.getfixturevalue("sftp_server").address())
    soak(settings, consume, 0.8 if kind == "sftp" else 0.5)
    ledger = sqlite3.connect(tmp_path / "ledger.db")
    states = dict(ledger.execute("SELECT state, count(*) FROM effect GROUP BY state"))
    ledger.close()
    assert states == {"done": len(seen) // 10}
    assert states["done"] > KILLS // 5
    assert seen == Counter(range(10, (states["done"] + 1) * 10))
    assert list((drop / ".stage").iterdir()) == []
