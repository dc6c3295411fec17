"""The log: one JSON object a line on stderr, in UTC, with an event code and no values of records.

A record of the standard library's logging comes in; a line goes out that no field value can break, colour or reorder.
A server's log never waits for its reader: what a full pipe does not take is dropped, counted and told.
"""

import contextlib
import json
import logging
import os
import socket
import stat
import sys
import traceback
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["JsonFormatter", "Unwaiting", "configure_logs"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_TEXT_CAP = 2000


class JsonFormatter(logging.Formatter):
    r"""Formats a log record as one line of JSON.

    Keys: ``at`` (RFC 3339, UTC), ``level``, ``event`` (the ``event`` of ``extra``, else the logger's name),
    ``message``, then whatever else ``extra`` brings. An error adds ``error``: its class and the place, without its text
    or the values in its frames.

    Examples
    --------
    >>> record = logging.makeLogRecord({"name": "brownfield.serving", "levelname": "INFO", "created": 0.0,
    ...                                 "msg": "up\nfake line", "event": "BF-LOG-UP", "port": 8080})
    >>> print(JsonFormatter().format(record))
    {"at":"1970-01-01T00:00:00.000000Z","level":"info","event":"BF-LOG-UP","message":"up\nfake line","port":8080}
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        extra = {name: value for name, value in vars(record).items() if name not in _OWN}
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "event": extra.pop("event", record.name),
            "message": record.getMessage(),
            **extra,
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = _where_raised(record.exc_info[0], record.exc_info[2])
        return _dump({str(name): _plain(value) for name, value in line.items()})


class Unwaiting(logging.Handler):
    """Writes lines to a descriptor whose reader may be slow, stuck or gone: nobody waits for it.

    What its pipe or socket does not take is dropped and counted; the next line that it takes is preceded by one that
    tells how many were (``BF-LOG-DROPPED``). Files, terminals and whatever cannot be told apart are written as ever.
    One that was made before a fork serves in every process; each counts for itself.

    Parameters
    ----------
    descriptor
        Stays the caller's; 2 is stderr.
    """

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self.dropped = 0
        self._unsent = b""  # the end of a line longer than what was left of the pipe
        self._write, self._end = _unwaiting_writer(descriptor)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line, unless that would take waiting."""
        line = self.format(record)
        if self.dropped:
            told = {"event": "BF-LOG-DROPPED", "dropped": self.dropped}
            line = f"{self.format(logging.makeLogRecord(_DROPPED | told))}\n{line}"
        try:
            self._send(line.encode() + b"\n")
            self.dropped = 0
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        """Close what was opened."""
        super().close()
        with contextlib.suppress(OSError):
            self._end()

    def _send(self, data: bytes) -> None:
        """Write it all, or nothing; the rest of what was begun goes first. Raises OSError where nothing was taken."""
        self._unsent = self._unsent[self._write(self._unsent) :] if self._unsent else b""
        if self._unsent:
            raise BlockingIOError
        self._unsent = data[self._write(data) :]


_DROPPED = {"name": "brownfield.logs", "levelname": "WARNING", "msg": "log lines were dropped: nobody read them"}


def _unwaiting_writer(descriptor: int) -> "tuple[Callable[[bytes], int], Callable[[], None]]":
    """Give a way to write to a descriptor that raises BlockingIOError instead of waiting, and one to be done with it.

    The flag that would do it belongs to all who hold the descriptor, such as the shell: a pipe is opened anew, a socket
    is told with each message.
    """
    mode = os.fstat(descriptor).st_mode
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(mode):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return lambda data: os.write(own, data), lambda: os.close(own)
        if stat.S_ISSOCK(mode):
            connection = socket.socket(fileno=os.dup(descriptor))
            return lambda data: connection.send(data, socket.MSG_DONTWAIT), connection.close
    return lambda data: os.write(descriptor, data), lambda: None


def configure_logs(level: str = "INFO", stream: IO[str] | None = None, *, waits: bool = True) -> None:
    """Send every logger's records to stderr as JSON lines; called once by a program, never by a library.

    Parameters
    ----------
    level
        Lowest level that is written.
    stream
        Somewhere else than stderr.
    waits
        Whether to wait for a reader of stderr that is slow; a server must not (:class:`Unwaiting`).
    """
    handler = logging.StreamHandler(stream or sys.stderr) if waits or stream else Unwaiting()
    handler.setFormatter(JsonFormatter())
    logging.raiseExceptions = False  # a log that cannot be written is lost, not answered with a traceback
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # the decision journal is the access log
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every store that is opened
    logging.captureWarnings(capture=True)


def _where_raised(kind: type[BaseException], trace: Any) -> str:
    frames = traceback.extract_tb(trace)
    if not frames:
        return kind.__name__
    last = frames[-1]
    return f"{kind.__name__} in {last.name}, {last.filename.rpartition('/')[2]}:{last.lineno}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    text = str(value)
    return text if len(text) <= _TEXT_CAP else f"{text[:_TEXT_CAP]}..."


def _dump(line: dict[str, Any]) -> str:
    """JSON in plain ASCII: line ends, terminal escapes and characters that reorder text are all written as escapes."""
    return json.dumps(line, separators=(",", ":")).replace("\x7f", "\\u007f")
