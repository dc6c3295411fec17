"""RabbitMQ, Mosquitto, NATS and Redis, each started on a free port in a folder of its own and ended by its process id.

``Server.restart`` stops one and starts it on the same port and folder, as an owner would.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.certificates import make_certificate
from harness.ports import free_port

HERE = "127.0.0.1"


def installed(name: str) -> str:
    """Find a program, or skip."""
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/lib/rabbitmq/bin"]))
    if found is None:
        pytest.skip(f"{name} not installed: run `make services`")
    return found


class Server:
    """A broker: how it is started in its folder, and on which port it answers."""

    is_encrypted = False

    def __init__(self, kind: str, folder: Path, port: int, command: list[str], env: dict[str, str], user: str = ""):
        self.kind = kind
        self.folder = folder
        self.port = port
        self._command = command
        self._env = {**os.environ, **env}
        self._as_user = (
            {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user and os.geteuid() == 0 else {}
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
                env=self._env, start_new_session=True, **self._as_user,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text(errors="replace")[-3000:])
            time.sleep(0.05)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End it, with the processes that it started itself."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own session: what it started and left
            process.wait(20)

    def restart(self, by: signal.Signals = signal.SIGTERM, down_s: float = 0.0) -> None:
        """Stop it, leave it down for a while, and start it again on the same port and folder."""
        self.stop(by)
        time.sleep(down_s)
        self.start()

    def _answers(self) -> bool:
        greetings = {"rabbitmq": b"AMQP\0\0\x09\x01", "redis": b"PING\r\n", "nats": b""}
        greeting = None if self.is_encrypted else greetings.get(self.kind)
        with suppress(OSError), socket.create_connection((HERE, self.port), 0.5) as probe:
            if greeting is None:
                return True
            probe.settimeout(2)
            probe.sendall(greeting)
            return bool(probe.recv(1))
        return False


@contextmanager
def _served(prefix: str, user: str, make: Callable[[Path], Server]) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix=f"brownfield-{prefix}-"))
    try:
        if user and os.geteuid() == 0:
            shutil.chown(folder, user)
        server = make(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Server]:
    """A RabbitMQ node with a name, folders and an epmd of its own."""
    user = "rabbitmq"
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
    program = str(scripts[-1]) if scripts else installed("rabbitmq-server")  # the script itself: a wrapper of Debian's
    # would change the user and the folders

    def make(folder: Path) -> Server:
        port = free_port()
        env = {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"bf{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HERE,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": HERE,
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        return Server("rabbitmq", folder, port, [program], env, user)

    with _epmd() as names, _served("rabbitmq", user, make) as server:
        yield server


@contextmanager
def _epmd() -> Iterator[int]:
    """The Erlang nodes' directory as a process of ours: a node that starts one itself leaves it behind."""
    port = free_port()
    process = subprocess.Popen(
        [installed("epmd"), "-port", str(port), "-address", HERE], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[Server]:
    """A Mosquitto that keeps its sessions on disk."""
    program = installed("mosquitto")
    user = "mosquitto"

    def make(folder: Path) -> Server:
        port = free_port()
        (folder / "conf").write_text(
            f"listener {port} {HERE}\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            "autosave_interval 1\nmax_inflight_messages 0\nmax_queued_messages 0\n"
        )
        return Server("mqtt", folder, port, [program, "-c", str(folder / "conf")], {}, user)

    with _served("mosquitto", user, make) as server:
        yield server


@pytest.fixture(scope="session")
def nats() -> Iterator[Server]:
    """A NATS server with JetStream."""
    program = installed("nats-server")

    def make(folder: Path) -> Server:
        port = free_port()
        command = [program, "-a", HERE, "-p", str(port), "-js", "-sd", str(folder)]
        return Server("nats", folder, port, command, {})

    with _served("nats", "", make) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis that writes every change to its file before it answers."""
    program = installed("redis-server")

    def make(folder: Path) -> Server:
        port = free_port()
        command = [
            program, "--bind", HERE, "--port", str(port), "--dir", str(folder), "--appendonly", "yes",
            "--appendfsync", "everysec", "--save", "",
        ]  # fmt: skip
        return Server("redis", folder, port, command, {})

    with _served("redis", "", make) as server:
        yield server


@contextmanager
def encrypted(kind: str, *, guarded: bool = False) -> Iterator[Server]:
    """A broker that answers encrypted alone, for localhost, with ``certificate.pem`` in its folder.

    One that is guarded lets in nobody without a client's certificate (redis), or without an account (the others).
    """
    name, user = {"redis": ("redis-server", ""), "mqtt": ("mosquitto", "mosquitto"), "nats": ("nats-server", "")}[kind]
    program = installed(name)

    def make(folder: Path) -> Server:
        port = free_port()
        certificate = make_certificate(folder)
        key = folder / "key.pem"
        (folder / "conf").write_text(
            f"listener {port} {HERE}\ncertfile {certificate}\nkeyfile {key}\n"
            f"allow_anonymous {'false' if guarded else 'true'}\n"
        )
        if user and os.geteuid() == 0:
            shutil.chown(key, user)
        options = {
            "redis": [
                *("--bind", HERE, "--port", "0", "--tls-port", str(port), "--dir", str(folder), "--save", ""),
                *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
                *("--tls-auth-clients", "yes" if guarded else "no"),
                *("--tls-ca-cert-file", str(certificate)),
            ],
            "mqtt": ["-c", str(folder / "conf")],
            "nats": [
                *("-a", HERE, "-p", str(port), "-js", "-sd", str(folder)),
                *("--tls", "--tlscert", str(certificate), "--tlskey", str(key)),
                *(("--user", "till", "--pass", "geheim") if guarded else ()),
            ],
        }[kind]
        server = Server(kind, folder, port, [program, *options], {}, user)
        server.is_encrypted = True
        return server

    with _served(kind, user, make) as server:
        yield server
