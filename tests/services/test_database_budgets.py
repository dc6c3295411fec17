"""What a server sees of us stays within the declared budget, in every second, restart storms included (I10)."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace

import pyarrow as pa
import pytest

from brownfield.data.sources import Budget
from brownfield.errors import SourceUnavailable

pytestmark = pytest.mark.full

WANTED = pa.schema([("id", pa.int64())])
ROWS = 2_000
SESSIONS = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE user = 'legacy'",
}
READER = """
import sys
import time
from pathlib import Path
import pyarrow as pa
from brownfield.data.sources import Address, Budget, DatabaseTable, Mysql, Postgres
kind, folder, host, port, database, user, password, schema, rate = sys.argv[1:]
address = Address(host, int(port), (host,), database, user, password, "off", schema=schema)
budget = Budget(Path(folder), "db", max_connections=2, rows_per_s=int(rate))
source = DatabaseTable(Postgres() if kind == "postgres" else Mysql(), lambda: address, "counted", budget)
for pulled in source.read(pa.schema([("id", pa.int64())])):
    print(time.monotonic(), pulled.decoded.batch.num_rows, flush=True)
"""


@pytest.fixture
def counted(server):
    """A table of some thousand rows."""
    values = ", ".join(f"({place})" for place in range(ROWS))
    server.run(
        "DROP TABLE IF EXISTS counted",
        "CREATE TABLE counted (id integer PRIMARY KEY)",
        f"INSERT INTO counted VALUES {values}",  # noqa: S608 (our own numbers)
    )


def reader(address, server, folder, rate):
    """Start a process that reads the table."""
    where = [server.kind, folder, address.host, address.port, address.database, address.user, address.password]
    command = [sys.executable, "-c", READER, *map(str, where), address.schema, str(rate)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_i10_a_restart_storm_stays_within_connections_and_rows(server, address, counted, proxy, tmp_path):
    """Readers are killed and started anew all the time: no second has more rows, and never more than two are let in."""
    rate = 500
    through = replace(address, port=proxy.port)
    got: list[tuple[float, int]] = []
    alive: list[tuple[subprocess.Popen, threading.Thread]] = []
    started = 0

    sessions: list[int] = []
    over = threading.Event()

    def watch():
        with closing(server.connect()) as connection:
            connection.autocommit(True) if server.kind == "mysql" else connection.set_autocommit(True)
            cursor = connection.cursor()
            while not over.wait(0.02):
                cursor.execute(SESSIONS[server.kind])
                sessions.append(cursor.fetchone()[0] - 1)  # the watcher's own

    def listen(stream):
        with stream:
            got.extend((float(at), int(rows)) for at, rows in map(bytes.split, stream))  # as the reader's clock says

    def end(process, listener):
        process.kill()
        process.wait()
        listener.join()

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.monotonic()
    while (started < 8 or len(got) < 30) and time.monotonic() - begun < 90:
        while len(alive) < 3:
            process = reader(through, server, tmp_path, rate)
            listener = threading.Thread(target=listen, args=(process.stdout,))
            listener.start()
            alive.append((process, listener))
            started += 1
        before, asked = len(got), time.monotonic()
        while len(got) < before + 4 and time.monotonic() - asked < 12:  # a busy machine starts slowly
            time.sleep(0.05)
        end(*alive.pop(0))
    for each in alive:
        end(*each)
    over.set()
    watcher.join()
    assert len(got) >= 30, "the storm read next to nothing, so this test proved nothing"
    assert 1 <= max(sessions) <= 2
    assert proxy.most_open() <= 2
    most = max(sum(rows for at, rows in got if begin <= at < begin + 1) for begin, _ in got)
    assert most <= rate


@pytest.mark.parametrize("server", ["mariadb"], indirect=True)
def test_i10_the_server_counts_no_more_rows_in_a_second_than_declared(server, table, counted, tmp_path):
    """Counted by MariaDB's own counter of rows sent, fifty times a second, while one reader reads on."""
    rate = 400
    source = table("counted", budget=Budget(tmp_path / "b", "db", rows_per_s=rate))
    looks: list[tuple[float, float, int]] = []
    done = threading.Event()

    def watch():
        statement = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Rows_sent'"
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            while not done.wait(0.02):
                asked_s = time.monotonic()
                cursor.execute(statement)
                seen = int(cursor.fetchone()[0]) - len(looks)  # each look is one row itself
                looks.append((asked_s, time.monotonic(), seen))

    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = sum(pulled.decoded.batch.num_rows for pulled in source.read(WANTED))
    done.set()
    watcher.join()
    assert rows == ROWS
    assert len(looks) > 100
    most = max(later - now for at, _, now in looks for _, then, later in looks if at <= then < at + 0.95)
    assert rate // 2 <= most <= rate


def test_a_connection_beyond_the_budget_is_refused_by_us(server, table, counted, tmp_path):
    """While one reads, a second of a budget of one is told, and the server never sees it."""
    budget = Budget(tmp_path / "b", "db", max_connections=1, rows_per_s=10_000, sleep=lambda _: None)
    ticking = iter(range(10**9))
    impatient = Budget(tmp_path / "b", "db", max_connections=1, now=lambda: float(next(ticking)), sleep=lambda _: None)
    pages = table("counted", budget=budget, page_rows=10).read(WANTED)
    next(pages)
    with pytest.raises(SourceUnavailable, match="all 1 connections"):
        table("counted", budget=impatient).probe()
    pages.close()
    table("counted", budget=budget).probe()


@pytest.mark.parametrize("server", ["postgres"], indirect=True)
def test_i10_a_connection_is_given_back_when_the_server_ended_it(server, table, counted, tmp_path, monkeypatch):
    """A server process that is slow to end counts as one of ours until it ended: a successor is not one too many."""
    monkeypatch.setattr("brownfield.data.farewell._LONGEST_S", 60.0)
    pages = table("counted", budget=Budget(tmp_path / "b", "db", sleep=lambda _: None)).read(WANTED)
    next(pages)
    with closing(server.connect()) as connection:
        connection.set_autocommit(True)
        ours = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ((pid,),) = connection.execute(f"SELECT pid {ours}").fetchall()
        os.kill(pid, signal.SIGSTOP)
        ending = threading.Thread(target=pages.close)
        ending.start()
        try:
            ending.join(0.5)
            assert ending.is_alive()
        finally:
            os.kill(pid, signal.SIGCONT)
        ending.join()
        assert connection.execute(f"SELECT count(*) {ours}").fetchone() == (0,)
