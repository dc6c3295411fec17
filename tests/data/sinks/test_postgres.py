"""What holds for the sink of PostgreSQL tables alone: lost answers, stopped owners, grants."""

from contextlib import closing

import psycopg
import pyarrow as pa
import pytest

from brownfield.data.sinks import Applied, TableTarget, ledger_ddl
from brownfield.errors import Fenced, SinkRefused, SinkUnavailable
from harness.proxy import Proxy
from harness.table_sinks import ROWS, SCORES, WHOLE, ask_a_closed_port, cut_at, lose_the_answer

pytestmark = pytest.mark.full


@pytest.fixture
def proxy(postgres):
    """A proxy before the server."""
    made = Proxy(postgres.host, postgres.port)
    yield made
    made.close()


@pytest.mark.parametrize("delivers", [True, False], ids=["delivered", "lost"])
@pytest.mark.parametrize("statement", [b"COPY", b"brownfield_effect", b"brownfield_stream", b"EXCLUDED", b"COMMIT"])
def test_f53_the_connection_breaks_at_any_statement(postgres_place, proxy, statement, delivers) -> None:
    """F-53: cut at any statement, delivered or not, the effect is there whole or not at all, and once when repeated."""
    cut_at(postgres_place, proxy, statement, delivers=delivers)


def test_f53_a_commit_whose_answer_is_lost_is_found_done(postgres_place, proxy) -> None:
    """F-53: when COMMIT came through and its answer did not, apply looks it up and says so instead of failing."""
    lose_the_answer(postgres_place, proxy)


def test_f41_a_stopped_owner_loses_its_locks(postgres_place) -> None:
    """F-41: an owner that stands still inside its transaction is ended by the server; the next one goes on."""
    with closing(postgres_place.sink()) as zombie, closing(postgres_place.sink()) as owner:
        zombie.take_over()
        stopped = zombie._session()
        stopped.execute("BEGIN")
        stopped.execute(zombie._upsert())
        stopped.execute(f"UPDATE {zombie._named('brownfield_stream')} SET position = 'zombie'")  # noqa: S608 (a test's own name)
        owner.take_over()  # waits for the lock until the server ends the zombie's transaction
        assert owner.apply("e1", ROWS, {"after": [2]}) == Applied(2, repeated=False)
        with pytest.raises(SinkUnavailable):
            zombie.apply("e2", ROWS)  # its session is gone
        with pytest.raises(Fenced):
            zombie.apply("e2", ROWS)
        assert owner.position() == {"after": [2]}
    assert postgres_place.rows(SCORES) == WHOLE


def test_an_ended_session_is_opened_again(postgres_place) -> None:
    """When the administrator ends our session, the effect is asked for again on a new one."""
    with postgres_place.sink() as sink:
        pid = sink._session().info.backend_pid
        postgres_place.rows(f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(SinkUnavailable):
            sink.apply("e1", ROWS)
        assert sink.apply("e1", ROWS) == Applied(2, repeated=False)


def test_i4_the_printed_grants_are_enough_and_no_more(postgres_place) -> None:
    """I4: a role with the grants of ledger_ddl can make effects, and touches no other column, row or table."""
    target = TableTarget("scores", ("basket", "label", "score"), ("basket",))
    postgres_place.run(f"CREATE ROLE \"{postgres_place.schema}\" LOGIN PASSWORD 'only-grants'")
    limited = {"user": postgres_place.schema, "password": "only-grants"}
    grants = ledger_ddl("postgres", schema=postgres_place.schema, target=target, role=postgres_place.schema)
    postgres_place.run(grants[grants.index("GRANT") :])
    with postgres_place.sink(target, **limited) as sink:
        assert sink.apply("e1", ROWS) == Applied(2, repeated=False)
        assert sink.apply("e2", ROWS) == Applied(2, repeated=False)
        for forbidden in ("UPDATE scores SET owner_note = ''", "DELETE FROM scores", "SELECT * FROM elsewhere"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sink._session().execute(f'SET search_path = "{postgres_place.schema}"; {forbidden}')
    postgres_place.run(f'REVOKE ALL ON scores FROM "{postgres_place.schema}"')
    with (
        postgres_place.sink(target, **limited) as sink,
        pytest.raises(SinkUnavailable, match="grants"),
    ):
        sink.apply("e3", ROWS)
    postgres_place.run(f'DROP OWNED BY "{postgres_place.schema}"; DROP ROLE "{postgres_place.schema}"')


def test_text_that_postgres_cannot_hold_is_refused(postgres_place) -> None:
    """NUL in a text, a number out of range and a text too long refuse the batch, without the value."""
    with postgres_place.sink() as sink:
        for name, label in (("e1", "secret\0"), ("e2", "secret" * 50)):
            with pytest.raises(SinkRefused) as refused:
                sink.apply(name, pa.record_batch({"basket": [1], "label": [label], "score": [0.5]}))
            assert "secret" not in str(refused.value)
    assert postgres_place.rows("SELECT count(*) FROM scores") == [(0,)]


def test_a_server_that_is_away_is_unavailable(postgres_place) -> None:
    """A closed port makes the sink unavailable."""
    ask_a_closed_port(postgres_place)
