"""Real servers for the tests that need them, and a proxy that counts and cuts connections.

A server is started once for each test process, on a free port of the loopback, as the user that its package made, and
ended by its process id. ``BROWNFIELD_TEST_POSTGRES_URL`` or ``BROWNFIELD_TEST_MARIADB_URL`` names another one instead
(``postgres://user:password@host:port/database``, a role that may create tables). Where neither is there, tests skip.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from brownfield.data.sources import Address, Budget, DatabaseTable, Mysql, Postgres

HERE = "127.0.0.1"
SECRET = "till-4711-secret"  # noqa: S105 (of a server that lives as long as the tests)


@dataclass(frozen=True)
class Server:
    """A database server and a role that may do everything in one database."""

    kind: str
    host: str
    port: int
    user: str
    password: str
    database: str
    certificate: Path | None = None

    def connect(self):
        """Open a connection of the legacy system's own."""
        options = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        if self.kind == "postgres":
            import psycopg

            return psycopg.connect(dbname=self.database, **options)
        import pymysql

        return pymysql.connect(database=self.database, charset="utf8mb4", **options)

    def run(self, *statements):
        """Run statements as the legacy system; the rows of the last one."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
        return rows


def from_url(kind: str, url: str) -> Server:
    """Read the server that the environment names."""
    parts = urlsplit(url)
    return Server(
        kind,
        parts.hostname,
        parts.port,
        unquote(parts.username),
        unquote(parts.password or ""),
        parts.path.strip("/"),
    )


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return probe.getsockname()[1]


def installed(*names: str) -> list[str]:
    """Find programs, or skip."""
    folders = [os.environ["PATH"], "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    found = [shutil.which(name, path=os.pathsep.join(folders)) for name in names]
    if None in found:
        pytest.skip(f"{', '.join(names)} not installed: run `make services`")
    return found


@contextmanager
def started(user: str, prepare, command, stop_by: signal.Signals, answers) -> Iterator[Path]:
    """Run a server as a user in a folder of its own until the tests are over."""
    as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="brownfield-server-"))
    try:
        if as_user:
            shutil.chown(folder, user)
        with (folder / "log").open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "cwd": folder}
            subprocess.run(prepare(folder), check=True, **streams, **as_user)
            subprocess.run(certificate(folder), check=True, **streams, **as_user)
            process = subprocess.Popen(command(folder), **streams, **as_user)
            try:
                deadline = time.monotonic() + 30
                while not answers():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError((folder / "log").read_text(errors="replace")[-2000:])
                    time.sleep(0.05)
                yield folder
            finally:
                process.send_signal(stop_by)
                process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def certificate(folder: Path) -> list[str]:
    """Give the command that makes a certificate for this machine, which vouches for itself."""
    subject = ["-subj", "/CN=brownfield-test", "-addext", f"subjectAltName=IP:{HERE}"]
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
    return ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]


def reachable(server: Server) -> bool:
    """Tell whether a server lets its role in."""
    try:
        server.run("SELECT 1")
    except Exception:  # noqa: BLE001 (each driver has errors of its own; all mean: not yet)
        return False
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server."""
    url = os.environ.get("BROWNFIELD_TEST_POSTGRES_URL")
    if url:
        yield from_url("postgres", url)
        return
    with postgres_server() as server:
        yield server


@contextmanager
def postgres_server(*, encrypted: bool = False) -> Iterator[Server]:
    """Run a PostgreSQL server of our own."""
    initdb, program = installed("initdb", "postgres")
    server = Server("postgres", HERE, free_port(), "legacy", SECRET, "postgres")
    with tempfile.NamedTemporaryFile("w", prefix="brownfield-pw-") as password:
        password.write(SECRET)
        password.flush()
        Path(password.name).chmod(0o644)

        def prepare(folder):
            return [initdb, "-D", folder / "data", "-A", "scram-sha-256", "-U", "legacy", "-N",
                    f"--pwfile={password.name}", "--encoding=UTF8", "--locale=C.UTF-8"]  # fmt: skip

        def command(folder):
            return [program, "-D", folder / "data", "-p", str(server.port), "-c", f"listen_addresses={HERE}",
                    "-c", f"unix_socket_directories={folder}", "-c", "fsync=off",
                    *(["-c", "ssl=on", "-c", f"ssl_cert_file={folder / 'server.pem'}",
                       "-c", f"ssl_key_file={folder / 'server.key'}"] if encrypted else [])]  # fmt: skip

        with started("postgres", prepare, command, signal.SIGINT, lambda: reachable(server)) as folder:
            yield replace(server, certificate=folder / "server.pem")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server."""
    url = os.environ.get("BROWNFIELD_TEST_MARIADB_URL")
    if url:
        yield from_url("mysql", url)
        return
    with mariadb_server() as server:
        yield server


@contextmanager
def mariadb_server(*, encrypted: bool = False) -> Iterator[Server]:
    """Run a MariaDB server of our own."""
    install, program = installed("mariadb-install-db", "mariadbd")
    server = Server("mysql", HERE, free_port(), "legacy", SECRET, "legacy")
    first = (
        "CREATE DATABASE legacy CHARACTER SET utf8mb4;\n"
        f"CREATE USER legacy@'{HERE}' IDENTIFIED BY '{SECRET}';\n"
        f"GRANT ALL ON *.* TO legacy@'{HERE}' WITH GRANT OPTION;\n"
    )

    def prepare(folder):
        (folder / "first.sql").write_text(first)
        (folder / "first.sql").chmod(0o644)
        return [install, "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db",
                "--auth-root-authentication-method=normal"]  # fmt: skip

    def command(folder):
        return [program, "--no-defaults", f"--datadir={folder / 'data'}", f"--port={server.port}",
                f"--bind-address={HERE}", f"--socket={folder / 'socket'}", "--skip-name-resolve",
                f"--pid-file={folder / 'pid'}", f"--init-file={folder / 'first.sql'}",
                "--innodb-flush-log-at-trx-commit=0",
                *([f"--ssl-cert={folder / 'server.pem'}", f"--ssl-key={folder / 'server.key'}"]
                  if encrypted else [])]  # fmt: skip

    with started("mysql", prepare, command, signal.SIGTERM, lambda: reachable(server)) as folder:
        yield replace(server, certificate=folder / "server.pem")


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def encrypting(request) -> Iterator[Server]:
    """Each kind of server in turn, one that offers encryption under a certificate of its own."""
    start = {"postgres": postgres_server, "mariadb": mariadb_server}[request.param]
    with start(encrypted=True) as server:
        yield server


@pytest.fixture(params=["postgres", "mariadb"])
def server(request) -> Server:
    """Each kind of server in turn."""
    return request.getfixturevalue(request.param)


class Proxy:
    """A TCP proxy on a port of its own: counts connections and may cut one after so many bytes of answer."""

    def __init__(self, server: Server) -> None:
        self.target = (server.host, server.port)
        self.listener = socket.create_server((HERE, 0))
        self.port = self.listener.getsockname()[1]
        self.opened_at: list[float] = []
        self.spans: list[list[float]] = []
        self.cut_after: int | None = None
        self.refusing = False
        self.asked = b""
        self.silent = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.silent = False
        self.listener.close()

    def most_open(self, linger_s: float) -> int:
        """Most connections at one time, leaving aside how long the end of a killed one takes to arrive."""
        with self._lock:
            spans = [(begin, end - linger_s) for begin, end in self.spans]
        return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.opened_at.append(time.monotonic())
                if self.refusing:
                    client.close()
                    continue
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        span = [time.monotonic(), float("inf")]
        with self._lock:
            self.spans.append(span)
        with client, socket.create_connection(self.target) as upstream:
            forth = threading.Thread(target=self._pump, args=(client, upstream, False), daemon=True)
            forth.start()
            self._pump(upstream, client, True)
            for end in (client, upstream):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            forth.join()
        span[1] = time.monotonic()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:  # noqa: FBT001 (our own two calls)
        with suppress(OSError):
            while data := source.recv(65536):
                while answers and self.silent:
                    time.sleep(0.05)
                if not answers:
                    self.asked += data
                if answers and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut_after = None
                        return
                sink.sendall(data)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(server) -> Iterator[Proxy]:
    """A proxy before the server."""
    between = Proxy(server)
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
