"""The way to a server: encrypted and checked unless declared otherwise, and never silently in clear (S-29)."""

from dataclasses import replace

import pytest

from brownfield.data.sources import Address, Mysql, Postgres
from brownfield.data.sources.dialect import ConnectionLost, Refused

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
    """The default checks: a server that vouches for itself is not enough."""
    with pytest.raises((ConnectionLost, Refused), match=r"(?i)certificate"):
        way()


def test_s_29_a_certificate_of_another_name_is_refused(way, encrypting):
    """The right issuer for the wrong host is not enough."""
    with pytest.raises((ConnectionLost, Refused), match=r"(?i)certificate"):
        way(host="db.example.internal", ca_file=str(encrypting.certificate))


def test_s_29_encryption_without_a_check_and_none_at_all_must_be_declared(way):
    """Each mode does what it says."""
    assert way(tls="encrypt") is True
    assert way(tls="off") is False
