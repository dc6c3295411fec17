"""``sftp``: a folder behind an SSH server, with the calls of a local one, within what the server's owner allows.

A server is known by its key or not spoken to: none is ever learnt on first sight. A file is fetched whole into an
unnamed file of ours before anyone reads it, so a connection that breaks leaves nothing half read. A move fails where
its new name is taken, as the protocol's own rename does.
"""

import logging
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from errno import ELOOP, ENOENT
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from brownfield.data.folders.base import Entry, inside, parent_of
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

__all__ = ["Allowance", "SftpAddress", "SftpFolder"]

_CHUNK_BYTES = 1 << 20
_SSH_PORT = 22


class Allowance(Protocol):
    """What the server's owner allows us; a :class:`Budget` of bytes."""

    @property
    def page_rows(self) -> int:
        """Most bytes to ask for at a time."""
        ...

    def rows(self, rows: int) -> AbstractContextManager[None]:
        """Wait until so many bytes may move."""
        ...

    def connection(self) -> AbstractContextManager[None]:
        """Hold one of the connections."""
        ...

    def attempt(self) -> AbstractContextManager[None]:
        """Try to connect."""
        ...


@dataclass(frozen=True, slots=True)
class SftpAddress:
    """Where a server is, who we are there, and by what it is known.

    Parameters
    ----------
    host, port
        As declared; the name under which its keys are known.
    addresses
        The addresses of the host, tried in order.
    user
        The account.
    host_keys
        Lines of a ``known_hosts`` file, or fingerprints such as ``SHA256:...``, one a line.
    password, private_key, passphrase
        How we prove who we are; the key as text, with the passphrase that opens it.
    timeout_s
        Longest wait for any answer.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    user: str
    host_keys: str = field(repr=False)
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    timeout_s: float = 30.0


class SftpFolder:
    """A folder behind a server.

    Parameters
    ----------
    name
        Its name for people.
    address
        Tells where the server is; asked for every connection.
    root
        The folder there.
    allowance
        What the server can bear from us.
    spool
        Folder of ours for what is being fetched; made when it is not there.
    """

    def __init__(
        self, name: str, address: "Callable[[], SftpAddress]", root: str, allowance: Allowance, spool: Path
    ) -> None:
        self._name = name
        self._address = address
        self._root = root
        self._allowance = allowance
        self._spool = spool

    @property
    def where(self) -> str:
        """Name the folder (:class:`Folder`)."""
        return self._name

    @contextmanager
    def opened(self) -> Iterator["_SftpFiles"]:
        """Connect for a while (:class:`Folder`); errors of the connection become ``OSError``."""
        _paramiko()
        address = self._address()
        with self._allowance.connection():
            with _told(), self._allowance.attempt():
                client = _connect(address)
            try:
                with _told():
                    root = client.normalize(self._root)
                yield _SftpFiles(client, root, self._allowance, self._spool)
            finally:
                _hang_up(client.get_channel().get_transport())  # type: ignore[union-attr]  # it has one


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the connection become those of the system."""
    import paramiko

    try:
        yield
    except TimeoutError as error:
        raise TimeoutError("it did not answer in time") from error
    except paramiko.SFTPError as error:
        raise ConnectionError(
            "the server does not speak SFTP with this account: ask its owner whether it may, or its shell prints"
        ) from error
    except (paramiko.SSHException, EOFError) as error:
        raise ConnectionError(f"the connection broke ({type(error).__name__})") from error


class _SftpFiles:
    """The files of a folder behind a server (:class:`Files`)."""

    def __init__(self, client: "paramiko.SFTPClient", root: str, allowance: Allowance, spool: Path) -> None:
        self._client = client
        self._root = root.rstrip("/")
        self._allowance = allowance
        self._spool = spool
        self._plain = {""}

    @_told()
    def files(self, folder: str) -> list[Entry]:
        """List plain files."""
        above = f"{folder}/" if folder else ""
        return [_entry(above + each.filename, each) for each in self._scan(folder) if stat.S_ISREG(each.st_mode or 0)]

    @_told()
    def folders(self, folder: str) -> list[str]:
        """List folders."""
        return [each.filename for each in self._scan(folder) if stat.S_ISDIR(each.st_mode or 0)]

    @_told()
    def look(self, path: str) -> Entry | None:
        """Look at a name."""
        try:
            return _entry(path, self._client.lstat(self._at(path)))
        except FileNotFoundError:
            return None

    @_told()
    def resolve(self, path: str) -> str:
        """Follow links, as the server does."""
        real = self._client.normalize(f"{self._root}/{inside(path)}")
        if not real.startswith(f"{self._root}/"):
            raise DeclarationError(path=path, expected="a file inside the folder", got="one outside")
        return real.removeprefix(f"{self._root}/")

    @contextmanager
    def read(self, path: str) -> Iterator[BinaryIO]:
        """Fetch a plain file into an unnamed file of ours."""
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=self._spool) as stream:
            self._fetch(path, stream)
            stream.seek(0)
            yield stream

    @_told()
    def _fetch(self, path: str, stream: BinaryIO) -> None:
        at = self._at(path)
        if not stat.S_ISREG(self._client.lstat(at).st_mode or 0):
            raise OSError(ELOOP, "this is not a plain file")
        with self._client.open(at, "rb") as remote:
            _keep_quiet(remote)
            left = remote.stat().st_size or 0
            chunk = min(_CHUNK_BYTES, self._allowance.page_rows)
            while left:
                asked = min(chunk, left)
                with self._allowance.rows(asked):
                    data = b"".join(remote.readv([(stream.tell(), asked)]))
                if not data:
                    break  # it was cut short meanwhile, which its reader sees
                stream.write(data)
                left -= len(data)

    @_told()
    def write(self, path: str, parts: Iterable[bytes]) -> None:
        """Write under ``.part``, make it durable where the server can, and name it; one that fails is abandoned."""
        at = self._at(path)
        part = f"{at}.part"
        with suppress(FileNotFoundError):
            self._client.remove(part)
        size_bytes = 0
        try:
            with self._client.open(part, "wxb") as remote:
                remote.set_pipelined(True)
                for data in self._portions(parts):
                    remote.write(data)
                    size_bytes += len(data)
                remote.set_pipelined(False)
                _make_durable(self._client, remote)
            if self._client.stat(part).st_size != size_bytes:
                raise ConnectionError("the server holds fewer bytes than were sent")  # noqa: TRY301 (cleared away below)
            self._client.rename(part, at)
        except BaseException:
            with suppress(Exception):  # what went wrong first is what is told
                self._client.remove(part)
            raise

    @_told()
    def move(self, old: str, new: str) -> None:
        """Rename a file; the server refuses a name that is taken."""
        source, target = self._at(old), self._at(new)
        try:
            self._client.rename(source, target)
        except FileNotFoundError:
            raise
        except OSError:
            with suppress(FileNotFoundError):
                self._client.lstat(target)
                raise FileExistsError(f"{new} is there already") from None
            raise

    @_told()
    def remove(self, path: str) -> None:
        """Remove a file."""
        self._client.remove(self._at(path))

    @_told()
    def make(self, folder: str) -> None:
        """Make a folder."""
        made = ""
        for part in inside(folder).split("/") if folder else []:
            made = f"{made}/{part}" if made else part
            try:
                status = self._client.lstat(f"{self._root}/{made}")
            except FileNotFoundError:
                self._client.mkdir(f"{self._root}/{made}", 0o700)
            else:
                if not stat.S_ISDIR(status.st_mode or 0):
                    raise OSError(ELOOP, "a link or file stands where a folder should be")

    def sync(self, folder: str) -> None:
        """Do nothing: the protocol has no way to ask for it."""

    def _portions(self, parts: Iterable[bytes]) -> Iterator[memoryview]:
        chunk = min(_CHUNK_BYTES, self._allowance.page_rows)
        for data in parts:
            view = memoryview(data)
            for begin in range(0, len(view), chunk):
                portion = view[begin : begin + chunk]
                with self._allowance.rows(len(portion)):
                    yield portion

    def _scan(self, folder: str) -> "list[paramiko.SFTPAttributes]":
        return self._client.listdir_attr(self._enter(folder))

    def _at(self, path: str) -> str:
        return f"{self._enter(parent_of(inside(path)))}/{path.rpartition('/')[2]}"

    def _enter(self, folder: str) -> str:
        """Give a folder's full path; one that is, or lies behind, a link is refused."""
        if folder not in self._plain:
            made = ""
            for part in inside(folder).split("/"):
                made = f"{made}/{part}" if made else part
                if not stat.S_ISDIR(self._client.lstat(f"{self._root}/{made}").st_mode or 0):
                    raise OSError(ELOOP, "links are not followed")
                self._plain.add(made)
        return f"{self._root}/{folder}" if folder else self._root


def _entry(path: str, status: "paramiko.SFTPAttributes") -> Entry:
    return Entry(path, status.st_size or 0, (status.st_mtime or 0) * 1_000_000_000)


def _make_durable(client: "paramiko.SFTPClient", remote: "paramiko.SFTPFile") -> None:
    """Ask for fsync by OpenSSH's extension; a server that has none keeps files as it will."""
    import paramiko

    with suppress(OSError):
        client._request(paramiko.sftp.CMD_EXTENDED, "fsync@openssh.com", remote.handle)  # type: ignore[attr-defined]  # noqa: SLF001 (paramiko has no name for it)


def _keep_quiet(remote: Any) -> None:
    """Let the thread that asks ahead end silently when the connection breaks: the one that reads is told."""
    asks = remote._prefetch_thread  # noqa: SLF001 (paramiko offers no other way)

    def asks_quietly(*arguments: Any) -> None:
        with suppress(Exception):
            asks(*arguments)

    remote._prefetch_thread = asks_quietly  # noqa: SLF001


def _paramiko() -> Any:
    try:
        import paramiko
    except ImportError as error:
        raise DeclarationError(
            "paramiko is not installed", next_step="Install it: pip install 'brownfield[sftp]'."
        ) from error
    return paramiko


def _connect(address: SftpAddress) -> "paramiko.SFTPClient":
    """Connect, hold the server's key against the declared ones, and only then say who we are."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong is raised; addresses stay out of logs
    transport = _paramiko().Transport(_socket(address))
    try:
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = address.timeout_s
        known = _known_keys(address)
        kinds = [kind for kind in transport.get_security_options().key_types if _kind(kind) in known]
        if kinds:
            transport.get_security_options().key_types = kinds
        transport.start_client(timeout=address.timeout_s)
        _check_key(transport.get_remote_server_key(), known, address)
        _prove(transport, address)
        channel = transport.open_session(timeout=address.timeout_s)
        channel.settimeout(address.timeout_s)
        channel.invoke_subsystem("sftp")
        client = cast("paramiko.SFTPClient", _paramiko().SFTPClient(channel))
    except BaseException:
        _hang_up(transport)
        raise
    return client


def _hang_up(transport: Any) -> None:
    """Close a connection, also one that broke, whose socket paramiko would leave open."""
    with suppress(Exception):  # it may be gone already
        transport.close()
    with suppress(OSError):
        transport.sock.close()


def _socket(address: SftpAddress) -> socket.socket:
    failed: OSError | None = None
    for each in address.addresses:
        try:
            found = socket.create_connection((each, address.port), address.timeout_s)
        except OSError as error:
            failed = error
        else:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return found
    raise failed or OSError(ENOENT, "its host has no address")


def _known_keys(address: SftpAddress) -> "dict[str, paramiko.PKey]":
    """Read the lines of ``known_hosts`` that name the server, by kind of key."""
    import paramiko
    from paramiko.hostkeys import HostKeyEntry

    known = paramiko.HostKeys()
    for number, line in enumerate(address.host_keys.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith(("#", "SHA256:")):
            try:
                entry = HostKeyEntry.from_line(text, number)
            except paramiko.SSHException:
                entry = None
            if entry is None or entry.key is None:
                raise DeclarationError(
                    path="host_keys",
                    expected="lines of known_hosts or SHA256 fingerprints",
                    got=f"another, line {number}",
                )
            for name in entry.hostnames or ():
                known.add(name, entry.key.get_name(), entry.key)
    name = address.host if address.port == _SSH_PORT else f"[{address.host}]:{address.port}"
    found = known.lookup(name)
    return {} if found is None else {kind: found[kind] for kind in found}


def _check_key(key: "paramiko.PKey", known: "dict[str, paramiko.PKey]", address: SftpAddress) -> None:
    if key not in known.values() and key.fingerprint not in address.host_keys.split():
        raise DeclarationError(
            path="host_keys",
            expected="the server's key among the declared ones",
            got="another key",
            next_step="Nothing was sent. Ask the server's owner whether its key was changed.",
        )


def _kind(key_type: str) -> str:
    """Kind of key by which an algorithm signs."""
    return "ssh-rsa" if key_type.startswith("rsa-sha2-") else key_type


def _prove(transport: "paramiko.Transport", address: SftpAddress) -> None:
    import paramiko

    try:
        if address.private_key:
            transport.auth_publickey(address.user, _private_key(address))
        else:
            transport.auth_password(address.user, address.password)
    except paramiko.AuthenticationException as error:
        raise PermissionError(13, "the server does not admit this account") from error


def _private_key(address: SftpAddress) -> "paramiko.PKey":
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with suppress(paramiko.SSHException, ValueError):
            return kind.from_private_key(StringIO(address.private_key + "\n"), address.passphrase or None)
    raise DeclarationError(
        path="private_key",
        expected="a private key of OpenSSH (ed25519, ecdsa or rsa)",
        got="another text",
        next_step="Where a passphrase protects it, declare passphrase beside it.",
    )
