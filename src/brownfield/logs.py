"""The log: one JSON object a line on stderr, in UTC, with an event code and no values of records.

A record of the standard library's logging comes in; a line goes out that no field value can break, colour or reorder.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import IO, Any

__all__ = ["JsonFormatter", "configure_logs"]

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


def configure_logs(level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send every logger's records to stderr as JSON lines; called once by a program, never by a library.

    Parameters
    ----------
    level
        Lowest level that is written.
    stream
        Somewhere else than stderr.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
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
