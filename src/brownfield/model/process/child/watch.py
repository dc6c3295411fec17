"""Tells what Python code of a model tries that its process may not do.

The kernel refuses it in any case; this makes it seen. Native code that asks the kernel directly is refused unseen.
Out goes one word of a closed list for each kind, once: never a path, an address or a value.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Iterable

from ..frames import HELLO, encode_message  # noqa: TID252 (this package also runs under another name)

__all__ = ["install", "tell_through"]

_BY_EVENT = {
    **dict.fromkeys(("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname"), "network"),
    **dict.fromkeys(("socket.sendto", "socket.sendmsg"), "network"),
    **dict.fromkeys(("os.kill", "os.killpg"), "signal"),
    **dict.fromkeys(("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"), "process"),
    **dict.fromkeys(("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink"), "write"),
    **dict.fromkeys(("os.chmod", "os.chown", "os.truncate", "os.utime", "os.setxattr"), "write"),
}
_BY_SYMBOL = {
    **dict.fromkeys(("socket", "connect", "bind", "sendto", "sendmsg"), "network"),
    **dict.fromkeys(("kill", "tgkill", "pidfd_open", "pidfd_send_signal"), "signal"),
    **dict.fromkeys(("fork", "vfork", "clone", "execve", "posix_spawn", "system"), "process"),
    **dict.fromkeys(("ptrace", "process_vm_readv", "process_vm_writev"), "trace"),
    **dict.fromkeys(("truncate", "unlink", "rename"), "write"),
    **dict.fromkeys(("inotify_init", "inotify_init1", "inotify_add_watch"), "read"),
    "syscall": "trace",
}
_FOR_READING = ("open", "os.listdir", "os.scandir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_seen: set[str] = set()
_descriptor = -1


def install(readable: Iterable[str]) -> None:
    """Watch this process from now on; reading below ``readable`` is its right."""
    sys.dont_write_bytecode = True  # the interpreter's own attempts are no news
    roots = tuple(os.path.realpath(path) for path in readable)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        kind = _BY_EVENT.get(event)
        if kind is None:
            if event in _FOR_READING:
                kind = _of_file(event, arguments, roots)
            elif event == "ctypes.dlsym":
                kind = _BY_SYMBOL.get(str(arguments[1]))
            elif event == "socket.__new__" and arguments[1] != socket.AF_UNIX:  # the server's own are Unix sockets
                kind = "network"
        elif _is_within(event, arguments):
            kind = None
        if kind is not None and kind not in _seen:
            _seen.add(kind)
            if _descriptor >= 0:
                _tell(kind, loading=False)

    sys.addaudithook(hook)


def tell_through(descriptor: int) -> None:
    """Tell it through a pipe: what was seen while the model was loaded, and what will be seen."""
    global _descriptor  # noqa: PLW0603 (an audit hook has no other place to look)
    os.set_blocking(descriptor, False)
    _descriptor = descriptor
    loading = sorted(_seen)
    _seen.clear()
    for kind in loading:
        _tell(kind, loading=True)


def _tell(kind: str, *, loading: bool) -> None:
    with contextlib.suppress(OSError):  # nobody listens
        os.write(_descriptor, encode_message(HELLO, 0, {"attempt": kind, "loading": loading}))


def _is_within(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether a signal goes to this process."""
    return event == "os.kill" and arguments[0] == os.getpid()


def _of_file(event: str, arguments: tuple[object, ...], roots: tuple[str, ...]) -> str | None:
    path = arguments[0]
    if not isinstance(path, str | bytes):
        return None  # a descriptor that is open already
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        return "write"
    whole = os.path.realpath(os.fsdecode(path))
    return None if any(whole == root or whole.startswith(root + os.sep) for root in roots) else "read"
