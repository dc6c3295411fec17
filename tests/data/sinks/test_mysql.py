"""What holds for the sink of MariaDB tables alone: lost answers, stopped owners, grants, other unique indexes."""

from contextlib import closing

import pyarrow as pa
import pymysql
import pytest

from brownfield.data.sinks import Applied, TableTarget, ledger_ddl
from brownfield.data.sinks.mysql import _upsert
from brownfield.errors import DeclarationError, Fenced, SinkRefused
from harness.proxy import Proxy
from harness.table_sinks import ROWS, SCORES, WHOLE, ask_a_closed_port, cut_at, lose_the_answer

pytestmark = pytest.mark.full

STATEMENTS = [
    b"INSERT INTO brownfield_stage",
    b"brownfield_effect",
    b"brownfield_stream",
    b"KEY UPDATE `scores`",
    b"COMMIT",
]


@pytest.fixture
def proxy(mariadb):
    """A proxy before the server."""
    made = Proxy(mariadb.host, mariadb.port)
    yield made
    made.close()


@pytest.mark.parametrize("delivers", [True, False], ids=["delivered", "lost"])
@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.decode().split()[-1].strip("`"))
def test_f53_the_connection_breaks_at_any_statement(mysql_place, proxy, statement, delivers) -> None:
    """F-53: cut at any statement, delivered or not, the effect is there whole or not at all, and once when repeated."""
    cut_at(mysql_place, proxy, statement, delivers=delivers)


def test_f53_a_commit_whose_answer_is_lost_is_found_done(mysql_place, proxy) -> None:
    """F-53: when COMMIT came through and its answer did not, apply looks it up and says so instead of failing."""
    lose_the_answer(mysql_place, proxy)


def test_f41_a_stopped_owner_loses_its_locks(mysql_place) -> None:
    """F-41: an owner that stands still inside its transaction is ended by the server; the next one goes on."""
    with closing(mysql_place.sink()) as zombie, closing(mysql_place.sink()) as owner:
        zombie.take_over()
        with zombie._session().cursor() as stopped:
            stopped.execute("START TRANSACTION")
            stopped.execute(_upsert(zombie._target))
            stopped.execute("UPDATE brownfield_stream SET position = 'zombie'")
        owner.take_over()  # waits for the lock until the server ends the zombie's transaction
        assert owner.apply("e1", ROWS, {"after": [2]}) == Applied(2, repeated=False)
        with pytest.raises(Fenced):
            zombie.apply("e2", ROWS)
        assert owner.position() == {"after": [2]}
    assert mysql_place.rows(SCORES) == WHOLE


def test_i4_the_printed_grants_are_enough_and_no_more(mysql_place) -> None:
    """I4: a role with the grants of ledger_ddl can make effects, and touches no other column, row or table."""
    target = TableTarget("scores", ("basket", "label", "score"), ("basket",))
    role = "only-grants"
    mysql_place.run(f"DROP USER IF EXISTS '{role}'@'%'; CREATE USER '{role}'@'%' IDENTIFIED BY '{role}'")
    grants = ledger_ddl("mysql", schema=mysql_place.parameters["database"], target=target, role=role)
    mysql_place.run(grants[grants.index("GRANT") :].replace("`", '"'))
    with mysql_place.sink(target, user=role, password=role) as sink:
        assert sink.apply("e1", ROWS) == Applied(2, repeated=False)
        assert sink.apply("e2", ROWS) == Applied(2, repeated=False)
        for forbidden in ("UPDATE scores SET owner_note = ''", "DELETE FROM scores", "SELECT * FROM elsewhere"):
            with pytest.raises(pymysql.err.OperationalError, match="denied"), sink._session().cursor() as cursor:
                cursor.execute(forbidden)
    mysql_place.run(f"DROP USER '{role}'@'%'")
    assert mysql_place.rows(SCORES) == WHOLE


def test_i4_another_unique_index_is_refused(mysql_place) -> None:
    """I4: a row of another key that shares a unique column would be overwritten, so such a table is refused."""
    mysql_place.run("CREATE TABLE twice (k int PRIMARY KEY, mail varchar(40) UNIQUE, n int)")
    with pytest.raises(DeclarationError, match=r"no other unique index .* got mail \(mail\)"):
        mysql_place.sink(TableTarget("twice", ("k", "mail"), ("k",))).take_over()
    mysql_place.sink(
        TableTarget("twice", ("k", "n"), ("k",))
    ).take_over()  # what is not written is null, and meets nobody
    mysql_place.run("CREATE TABLE numbered (id int AUTO_INCREMENT PRIMARY KEY, k int NOT NULL UNIQUE, n int)")
    with mysql_place.sink(TableTarget("numbered", ("k", "n"), ("k",))) as sink:
        sink.apply("e1", pa.record_batch({"k": [7], "n": [1]}))
        sink.apply("e2", pa.record_batch({"k": [7], "n": [2]}))
    assert mysql_place.rows("SELECT id, k, n FROM numbered") == [(1, 7, 2)]


def test_a_table_without_transactions_is_refused(mysql_place) -> None:
    """Rows of MyISAM cannot be taken back, so an effect there would not be whole or nothing."""
    mysql_place.run("CREATE TABLE old (k int PRIMARY KEY) ENGINE = MyISAM")
    with pytest.raises(DeclarationError, match="InnoDB"):
        mysql_place.sink(TableTarget("old", ("k",), ("k",))).take_over()


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", "secret" * 50), ("score", float("nan")), ("score", float("inf")), ("basket", 2**64 - 1)],
)
def test_what_the_table_cannot_hold_is_refused_and_never_cut(mysql_place, column, value) -> None:
    """A text too long, a number out of range and NaN refuse the batch, without the value."""
    row = {"basket": 1, "label": "a", "score": 0.5, column: value}
    kinds = {"basket": pa.uint64(), "label": pa.string(), "score": pa.float64()}
    with mysql_place.sink() as sink, pytest.raises(SinkRefused) as refused:
        sink.apply("e1", pa.record_batch([pa.array([row[name]], kind) for name, kind in kinds.items()], list(kinds)))
    assert str(value) not in str(refused.value)
    assert mysql_place.rows("SELECT count(*) FROM scores") == [(0,)]


def test_a_server_that_is_away_is_unavailable(mysql_place) -> None:
    """A closed port makes the sink unavailable."""
    ask_a_closed_port(mysql_place)
