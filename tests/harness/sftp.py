"""An OpenSSH server of our own on a free port, with keys of its own, and a folder that is served."""

import base64
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brownfield.data.folders import SftpAddress, SftpFolder
from brownfield.data.sources import Budget
from harness.ports import free_port

HERE = "127.0.0.1"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


class SftpServer:
    """A server that serves this machine's files to this user, by key; ``drop`` is the folder that is meant."""

    def __init__(self, home: Path, subsystem: str | None = None) -> None:
        self.home = home
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.sshd = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
        shutil.copy(home / "client.pub", home / "authorized_keys")
        self.port = free_port()
        subsystem = subsystem or next((path for path in SFTP_SERVERS if Path(path).exists()), "internal-sftp")
        settings = {
            "ListenAddress": f"{HERE}:{self.port}",
            "HostKey": home / "host",
            "AuthorizedKeysFile": home / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "MaxStartups": "100",
            "Subsystem": f"sftp {subsystem}",
        }
        (home / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.process: subprocess.Popen | None = None
        self.start()

    @property
    def host_keys(self) -> str:
        """The server's key, as a fingerprint."""
        blob = base64.b64decode((self.home / "host.pub").read_text().split()[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    def known_hosts(self, port: int | None = None) -> str:
        """The server's key, as a line of ``known_hosts``."""
        kind, key = (self.home / "host.pub").read_text().split()[:2]
        return f"[{HERE}]:{port or self.port} {kind} {key}\n"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.home / "log").open("ab") as log:
            command = [self.sshd, "-D", "-e", "-f", self.home / "sshd_config"]
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        for _ in range(200):
            try:
                with socket.create_connection((HERE, self.port), 1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                assert self.process.poll() is None, (self.home / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def stop(self) -> None:
        """End it, with what it does for its clients."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
            self.process = None

    def address(self, port: int | None = None, **changed) -> SftpAddress:
        """Where it is, or where a proxy before it is."""
        options = {
            "host": HERE,
            "port": port or self.port,
            "addresses": (HERE,),
            "user": self.user,
            "host_keys": self.host_keys,
            "private_key": (self.home / "client").read_text(),
            "timeout_s": 10.0,
        }
        return SftpAddress(**{**options, **changed})

    def folder(self, root: Path, var: Path, port: int | None = None, bytes_per_s: int = 10**9, **changed) -> SftpFolder:
        """A folder of this machine, seen through the server."""
        budget = Budget(var / "budgets", f"sftp-{port or self.port}", 2, bytes_per_s)
        return SftpFolder("drop", lambda: self.address(port, **changed), str(root), budget, var / "spool")


@pytest.fixture(scope="session")
def sftp_server(tmp_path_factory) -> Iterator[SftpServer]:
    """A server for all tests of a worker."""
    if shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"])) is None:
        pytest.skip("OpenSSH's server is not installed")
    server = SftpServer(tmp_path_factory.mktemp("sftp"))
    yield server
    server.stop()
