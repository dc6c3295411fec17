"""Lookups on standbys: how old what they show is, and the way from a real primary to its real replica."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from brownfield.data.pipeline.lookups import moment
from brownfield.data.sources import Address, Budget, DatabaseTable, Mysql, Postgres
from brownfield.data.sources.base import UNKNOWN
from harness.databases import mariadb_server, postgres_server, postgres_standby
from harness.lookup_shop import SNAPSHOT, lay_out, pull
from harness.waiting import until

pytestmark = pytest.mark.full

PRODUCTS = "INSERT INTO products SELECT i, 'kind ' || i FROM generate_series(0, 19) AS i"


def table(server, folder, **role):
    """The products as a source."""
    name = {"user": server.user, "password": server.password, **role}
    schema = "public" if server.kind == "postgres" else ""
    address = Address(server.host, server.port, (server.host,), server.database, tls="off", schema=schema, **name)
    dialect = Postgres() if server.kind == "postgres" else Mysql()
    return DatabaseTable(dialect, lambda: address, "products", Budget(folder / "budget", f"{server.port}"), ("id",))


@pytest.fixture(scope="module")
def primary():
    """A PostgreSQL server with twenty products."""
    with postgres_server() as server:
        server.run("CREATE TABLE products (product_id integer PRIMARY KEY, kind text)", PRODUCTS)
        yield server


@pytest.fixture(scope="module")
def standby(primary):
    """Its standby, which streams."""
    with postgres_standby(primary) as server:
        yield server


def test_f42_a_standby_that_falls_behind_shows_its_age(primary, standby, tmp_path):
    """F-42: on a primary the moment is now; on a standby that stopped applying it is that of its last transaction."""
    primary.run("UPDATE products SET kind = 'first' WHERE product_id = 0")
    first = "SELECT kind FROM products WHERE product_id = 0"
    until(lambda: standby.run(first) == [("first",)])
    standby.run("SELECT pg_wal_replay_pause()")
    until(lambda: standby.run("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
    [(stopped_utc,)] = standby.run("SELECT pg_last_xact_replay_timestamp()")
    primary.run("UPDATE products SET kind = 'second' WHERE product_id = 0")
    later_utc = datetime.now(UTC) + timedelta(hours=2)
    assert table(primary, tmp_path).as_of() is None
    assert moment(table(primary, tmp_path), later_utc, None) == later_utc
    assert table(standby, tmp_path).as_of() == stopped_utc
    assert moment(table(standby, tmp_path), later_utc, 60) == stopped_utc - timedelta(seconds=60)
    assert standby.run(first) == [("first",)]
    standby.run("SELECT pg_wal_replay_resume()")
    until(lambda: standby.run(first) == [("second",)])
    assert table(standby, tmp_path).as_of() > stopped_utc
    assert moment(table(standby, tmp_path), stopped_utc - timedelta(hours=1), None) is None


CONNECTIONS = """
  {name}:
    kind: postgres
    host: {{env: SHOP_{name}_HOST}}
    port: {{env: SHOP_{name}_PORT}}
    database: postgres
    user: legacy
    password: {{env: SHOP_{name}_PASSWORD}}
    tls: {{mode: "off"}}
"""


@pytest.fixture
def shop(tmp_path, monkeypatch, primary, standby):
    """A shop whose products lie on a primary, its standby, and in the last good copy."""
    folder = lay_out(tmp_path / "shop", f"{{connection: second, table: products, lag_s: 1}}, {SNAPSHOT}")
    for name, server in (("erp", primary), ("second", standby)):
        for key, value in (("HOST", server.host), ("PORT", server.port), ("PASSWORD", server.password)):
            monkeypatch.setenv(f"SHOP_{name}_{key}", str(value))
    text = (folder / "brownfield.yaml").read_text().replace("  erp: {kind: sqlite, path: legacy/erp.db}\n", "")
    (folder / "brownfield.yaml").write_text(text + "".join(CONNECTIONS.format(name=name) for name in ("erp", "second")))
    return folder


def test_f42_from_a_real_primary_to_its_real_standby(shop, primary, standby, monkeypatch):
    """F-42: with the primary out of reach the standby's rows are used; state and moment say so, then the copy."""
    first = pull(shop).sources["products"]
    assert (first.state, first.accepted) == ("PRIMARY", 20)
    monkeypatch.setenv("SHOP_erp_PORT", "1")
    [(replayed_utc,)] = standby.run("SELECT pg_last_xact_replay_timestamp()")
    second = pull(shop, rebuild=True).sources["products"]
    told = (replayed_utc - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert (second.state, second.accepted, second.as_of) == ("REPLICA", 20, told)
    monkeypatch.setenv("SHOP_second_PORT", "1")
    third = pull(shop, rebuild=True).sources["products"]
    assert (third.state, third.accepted, third.as_of) == ("SNAPSHOT", 20, first.as_of)  # it shows more


def test_a_standby_that_has_replayed_nothing_is_of_no_known_age(primary, tmp_path):
    """A standby that knows no transaction of its primary shows an unknown moment, which never counts as fresh."""
    with postgres_standby(primary, delay_s=3_600) as late:
        source = table(late, tmp_path)
        assert source.as_of() == UNKNOWN
        assert moment(source, datetime.now(UTC), 5) is None


def test_f42_a_replica_of_mariadb_says_how_far_it_is_behind_to_a_role_that_may_see_it(tmp_path):
    """F-42: a role that may see it learns a replica's age, and that a stopped one has none; others learn nothing."""
    with mariadb_server(number=1) as first, mariadb_server(number=2) as second:
        for server in (first, second):
            server.run("SET sql_log_bin = 0", "CREATE TABLE products (id integer PRIMARY KEY, kind text)")
        [(file, place, *_)] = first.run("SHOW MASTER STATUS")
        second.run("CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'a'", "GRANT SELECT ON legacy.* TO plain@'127.0.0.1'")
        second.run(
            f"CHANGE MASTER TO MASTER_HOST='{first.host}', MASTER_PORT={first.port}, MASTER_USER='{first.user}', "
            f"MASTER_PASSWORD='{first.password}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={place}, "
            "MASTER_DELAY=3600",
            "START SLAVE",
        )
        first.run("INSERT INTO products VALUES (1, 'milk')")
        assert table(first, tmp_path).as_of() is None
        source = table(second, tmp_path)
        until(lambda: source.as_of() not in {None, UNKNOWN})
        time.sleep(2)
        assert timedelta(seconds=2) <= datetime.now(UTC) - source.as_of() < timedelta(minutes=5)
        assert table(second, tmp_path, user="plain", password="a").as_of() is None  # noqa: S106 (of the test)
        second.run("STOP SLAVE")
        assert source.as_of() == UNKNOWN
