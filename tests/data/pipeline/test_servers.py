"""Where a declared server is: by reference, looked up anew for each connection, and never where it must not be."""

import pytest

from brownfield.data.pipeline.servers import bind_table, resolve_address
from brownfield.errors import DeclarationError, SourceUnavailable
from brownfield.integration import BudgetSpec, MysqlConnection, PostgresConnection, QuietHours, Reference, TlsSpec
from harness.certificates import make_certificate


def declared(**others):
    """A connection whose host and password are named by environment variables."""
    options = {"database": "pos", "user": "reader", "password": Reference(env="TEST_POS_PASSWORD"), **others}
    return PostgresConnection(host=Reference(env="TEST_POS_HOST"), **options)


@pytest.fixture(autouse=True)
def pos(monkeypatch):
    """Set where the server is."""
    monkeypatch.setenv("TEST_POS_HOST", "127.0.0.1")
    monkeypatch.setenv("TEST_POS_PASSWORD", "geheim-4711")
    return lambda host: monkeypatch.setenv("TEST_POS_HOST", host)


def test_references_are_read_anew_for_each_connection(tmp_path, pos, monkeypatch):
    """A source that was bound follows a change of address and password without a restart."""
    source = bind_table(declared(), tmp_path, "sales", None, ("id",))
    assert source.resolve().addresses == ("127.0.0.1",)
    pos("10.1.2.3")
    monkeypatch.setenv("TEST_POS_PASSWORD", "geheim-4712")
    assert source.resolve().addresses == ("10.1.2.3",)
    assert source.resolve().password == "geheim-4712"  # noqa: S105 (of the test)


def test_every_part_may_come_by_reference(tmp_path):
    """Port, database, user and certificates too; a file counts from the workspace."""
    for name, value in (("port", "6543"), ("db", "till"), ("user", "me"), ("ca", "certs/ca.pem")):
        (tmp_path / name).write_text(value + "\n")
    (tmp_path / "certs").mkdir()
    make_certificate(tmp_path / "certs").rename(tmp_path / "certs/ca.pem")
    options = declared(
        port=Reference(file="port"),
        database=Reference(file="db"),
        user=Reference(file="user"),
        tls=TlsSpec(ca_file=Reference(file="ca")),
        budget=BudgetSpec(statement_timeout_s=7),
        schema="legacy",
    )
    address = resolve_address(options, tmp_path)
    assert (address.port, address.database, address.user) == (6543, "till", "me")
    assert address.ca_file == str(tmp_path / "certs/ca.pem")
    assert (address.tls, address.schema, address.statement_timeout_s) == ("verify", "legacy", 7)
    (tmp_path / "port").write_text("0x50")
    with pytest.raises(DeclarationError, match="a port from 1 to 65535"):
        resolve_address(options, tmp_path)


@pytest.mark.parametrize(("content", "why"), [(None, "No such file or directory"), ("no", "no certificates in PEM")])
def test_certificates_that_cannot_be_read_are_an_outage_that_says_so(tmp_path, content, why):
    """A lookup goes on to its next place and a sink keeps its rows; a person reads which key to correct."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    kinds = [declared(tls=TlsSpec(ca_file="ca.pem")), declared(tls=TlsSpec(ca_file=Reference(file="named")))]
    (tmp_path / "named").write_text("ca.pem")
    for options, where in zip(kinds, ("ca.pem", "file named"), strict=True):
        with pytest.raises(SourceUnavailable, match=rf"^{where}: .*{why}.*Correct tls.ca_file") as outage:
            resolve_address(options, tmp_path)
        assert outage.value.next_step.startswith("Correct tls.ca_file: a path below the workspace")


def test_a_reference_that_holds_the_certificates_and_not_their_path_is_told_so(tmp_path):
    """However long it is, and without repeating it."""
    for times in (1, 40):
        (tmp_path / "ca").write_text("-----BEGIN CERTIFICATE-----\n" + "MIIB" * 60 * times)
        with pytest.raises(SourceUnavailable, match="the certificates themselves") as outage:
            resolve_address(declared(tls=TlsSpec(ca_file=Reference(file="ca"))), tmp_path)
        assert "MIIB" not in str(outage.value)


REFUSED = [
    "169.254.169.254",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "0.0.0.0",  # noqa: S104 (refused)
    "224.0.0.1",
    "255.255.255.255",
    "::ffff:169.254.169.254",
    "::ffff:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "metadata.google.internal",
    "/var/run/postgresql",
    "@socket",
    "a,b",
    "db.example?sslmode=disable",
    "user:pw@db",
    "db example",
]


@pytest.mark.parametrize("host", REFUSED, ids=lambda host: f"B-72-{host}")
def test_b_72_s_11_an_address_that_no_server_may_have_is_refused(tmp_path, pos, host):
    """Metadata services, hidden and disguised addresses, sockets and further settings; the value is not repeated."""
    pos(host)
    with pytest.raises(DeclarationError) as caught:
        resolve_address(declared(), tmp_path)
    assert host not in str(caught.value)


def test_s_11_a_name_is_resolved_once_and_every_address_of_it_is_checked(tmp_path, pos, monkeypatch):
    """A name that also stands for a metadata service is refused as a whole."""
    answers = [(2, 1, 6, "", ("10.0.0.5", 5432)), (2, 1, 6, "", ("169.254.169.254", 5432))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    pos("db.example.internal")
    with pytest.raises(DeclarationError, match="link-local"):
        resolve_address(declared(), tmp_path)
    answers.pop()
    address = resolve_address(declared(), tmp_path)
    assert (address.host, address.addresses) == ("db.example.internal", ("10.0.0.5",))


def test_a_name_that_stands_for_nothing_is_unavailable(tmp_path, pos):
    """The next place of a chain may answer."""
    pos("no-such-host.invalid")
    with pytest.raises(SourceUnavailable, match="stands for no address"):
        resolve_address(declared(), tmp_path)


def test_no_secret_stands_where_an_address_is_shown(tmp_path):
    """An address shows its place, not the password."""
    assert "geheim" not in repr(resolve_address(declared(), tmp_path))
    assert "geheim" not in repr(bind_table(declared(), tmp_path, "sales", None, ()))


def test_connections_to_one_server_share_its_budget(tmp_path):
    """The budget belongs to host and port, whatever the connections are called; quiet hours are taken over."""
    quiet = QuietHours(zone="Europe/Berlin", windows=("08:00-10:00",))
    one = bind_table(declared(budget=BudgetSpec(max_connections=1, quiet_hours=quiet)), tmp_path, "a", None, ())
    other = bind_table(declared(database="stock"), tmp_path, "b", None, ())
    assert one.budget.system == other.budget.system
    assert one.budget.folder == other.budget.folder == tmp_path / "var" / "budgets"
    assert one.budget.quiet is not None
    mysql = MysqlConnection(host=Reference(env="TEST_POS_HOST"), database="pos", user="reader")
    assert bind_table(mysql, tmp_path, "a", None, ()).budget.system != one.budget.system
