"""Real servers for the tests that need them, and what a source of ours needs to read them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from brownfield.data.sources import Address, Budget, DatabaseTable, Mysql, Postgres
from harness.databases import Server, encrypting, mariadb, postgres, server
from harness.proxy import Proxy

__all__ = ["encrypting", "mariadb", "postgres", "server"]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the server."""
    between = Proxy(server.host, server.port)
    yield between
    between.close()


@pytest.fixture
def dialect(server):
    """What the kind of server has of its own."""
    return Postgres() if server.kind == "postgres" else Mysql()


@pytest.fixture
def address(server) -> Address:
    """The server as a source knows it."""
    schema = "public" if server.kind == "postgres" else ""
    return Address(
        server.host, server.port, (server.host,), server.database, server.user, server.password, "off", schema=schema
    )


@pytest.fixture
def table(address, dialect, tmp_path):
    """Make a source of a table of the server."""

    def make(name, **options):
        where = {field: options.pop(field) for field in ("port", "statement_timeout_s") if field in options}
        budget = options.pop("budget", Budget(tmp_path / "budget", "db", rows_per_s=10_000_000))
        return DatabaseTable(dialect, lambda: replace(address, **where), name, budget, **options)

    return make
