"""The way to a server: encrypted and checked unless declared otherwise, and never silently in clear (S-29)."""

from dataclasses import replace

import pytest

from brownfield.data.sinks import MysqlTableSink, PostgresTableSink, TableTarget
from brownfield.data.sources import Address, Mysql, Postgres, libpq_parameters, pymysql_parameters
from brownfield.data.sources.dialect import Refused
from brownfield.errors import SinkUnavailable

pytestmark = pytest.mark.full


@pytest.fixture
def way(encrypting):
    """Connect in a mode, and tell whether the session is encrypted."""

    def connect(host="127.0.0.1", **options):
        address = Address(
            host, encrypting.port, (encrypting.host,), encrypting.database, encrypting.user, encrypting.password
        )
        postgres = encrypting.kind == "postgres"
        address = replace(address, schema="public" if postgres else "", **options)
        session = (Postgres() if postgres else Mysql()).connect(address)
        try:
            with session.connection.cursor() as cursor:
                if postgres:
                    cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                    return cursor.fetchone()[0]
                cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
                return cursor.fetchone()[1] != ""
        finally:
            session.close()

    return connect


def test_s_29_a_certificate_that_is_vouched_for_is_accepted(way, encrypting):
    """With the declared certificates and the name that stands in it, the session is encrypted."""
    assert way(ca_file=str(encrypting.certificate)) is True


def test_s_29_a_certificate_that_nobody_vouches_for_is_refused(way):
    """The default checks: a server that vouches for itself is not enough; the next step is about its certificate."""
    with pytest.raises(Refused, match=r"(?i)certificate") as refused:
        way()
    assert "tls: {ca_file: ...}" in refused.value.next_step


def test_s_29_a_server_in_clear_is_refused_where_encryption_is_declared(server):
    """A server that does not encrypt is not called one that is out of reach."""
    schema = "public" if server.kind == "postgres" else ""
    where = Address(server.host, server.port, (server.host,), server.database, server.user, server.password, "encrypt")
    with pytest.raises(Refused, match=r"(?i)ssl") as refused:
        (Postgres() if server.kind == "postgres" else Mysql()).connect(replace(where, schema=schema))
    assert "tls: {mode: off}" in refused.value.next_step


def test_a_sink_says_why_a_server_does_not_let_it_in(encrypting):
    """What the driver was told stands in the reason for which rows wait."""
    here = (encrypting.host, encrypting.port, (encrypting.host,), encrypting.database, encrypting.user)
    address = Address(*here, "wrong", ca_file=str(encrypting.certificate))
    target = TableTarget("scores", ("basket", "score"), ("basket",))
    sink = (
        PostgresTableSink(libpq_parameters(address), target, "shop/till")
        if encrypting.kind == "postgres"
        else MysqlTableSink(pymysql_parameters(address), target, "shop/till")
    )
    with pytest.raises(SinkUnavailable, match=r"let us in \(.*(password authentication failed|Access denied)"):
        sink.take_over()


def test_s_29_a_certificate_of_another_name_is_refused(way, encrypting):
    """The right issuer for the wrong host is not enough."""
    with pytest.raises(Refused, match=r"(?i)certificate"):
        way(host="db.example.internal", ca_file=str(encrypting.certificate))


def test_s_29_encryption_without_a_check_and_none_at_all_must_be_declared(way):
    """Each mode does what it says."""
    assert way(tls="encrypt") is True
    assert way(tls="off") is False
