"""Database servers of our own: PostgreSQL and MariaDB, each a context manager and a fixture of the same name.

A server runs on a free port of the loopback, as the user that its package made, and is ended by its process id.
``BROWNFIELD_TEST_POSTGRES_URL`` or ``BROWNFIELD_TEST_MARIADB_URL`` names another one for the fixtures instead
(``postgres://user:password@host:port/database``, a role that may create tables). Where neither is there, tests skip.
Benchmarks and soak runners use ``with postgres_server() as server`` and hand ``server.options`` to their processes.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from harness.ports import free_port

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

    @property
    def options(self) -> dict[str, Any]:
        """How to connect, in the words of psycopg or PyMySQL."""
        name = "dbname" if self.kind == "postgres" else "database"
        return {
            "host": self.host, "port": self.port, "user": self.user, "password": self.password, name: self.database,
        }  # fmt: skip

    def connect(self):
        """Open a connection of the legacy system's own."""
        if self.kind == "postgres":
            import psycopg

            return psycopg.connect(**self.options)
        import pymysql

        return pymysql.connect(charset="utf8mb4", **self.options)

    def dump(self) -> bytes:
        """Give all tables of the database as the server's own program spells them out, without times and versions."""
        if self.kind == "postgres":
            (program,) = installed("pg_dump")
            command = [program, "-h", self.host, "-p", str(self.port), "-U", self.user, "-d", self.database]
            secret = {"PGPASSWORD": self.password}
        else:
            (program,) = installed("mariadb-dump")
            command = [program, "--no-defaults", f"--host={self.host}", f"--port={self.port}", f"--user={self.user}",
                       "--skip-dump-date", "--skip-lock-tables", "--routines", "--triggers", self.database]  # fmt: skip
            secret = {"MYSQL_PWD": self.password}
        out = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **secret}).stdout
        return b"\n".join(line for line in out.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict")))

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


@contextmanager
def postgres_standby(primary: Server, delay_s: int = 0) -> Iterator[Server]:
    """Run a standby that follows a server of ours, and applies what it is sent so much later."""
    basebackup, program = installed("pg_basebackup", "postgres")
    server = replace(primary, port=free_port())
    source = f"host={primary.host} port={primary.port} user={primary.user} password={primary.password}"

    def prepare(folder):
        return [basebackup, "-D", folder / "data", "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync"]

    def command(folder):
        return [program, "-D", folder / "data", "-p", str(server.port), "-c", f"listen_addresses={HERE}",
                "-c", f"unix_socket_directories={folder}", "-c", "fsync=off",
                "-c", f"recovery_min_apply_delay={delay_s}s"]  # fmt: skip

    with started("postgres", prepare, command, signal.SIGINT, lambda: reachable(server)):
        yield server


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
def mariadb_server(*, encrypted: bool = False, number: int = 0) -> Iterator[Server]:
    """Run a MariaDB server of our own; one with a number keeps the log that a replica follows."""
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
                f"--pid-file={folder / 'pid'}", f"--tmpdir={folder / 'data'}", f"--init-file={folder / 'first.sql'}",
                "--innodb-flush-log-at-trx-commit=0",
                *([f"--server-id={number}", f"--log-bin={folder / 'binlog'}"] if number else []),
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
