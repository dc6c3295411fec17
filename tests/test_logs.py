"""The log: one JSON object a line, whatever stands in it."""

import io
import json
import logging
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.logs import JsonFormatter, Unwaiting
from harness.pipes import emptied, filled

HOSTILE = [
    'a\r\n{"level":"error"}',
    "\x1b[2J\x1b]0;title\x07",
    "\u202ereversed\u2066",
    "\u2028\u2029\x85",
    "=HYPERLINK(1)\x00",
    "\x7f\x9b31m",
    "\ud800",
]


def line(message="up", *, args=(), exc_info=None, **extra):
    """Format one record."""
    record = logging.makeLogRecord(
        {"name": "brownfield.x", "levelname": "INFO", "created": 1.5, "msg": message, "args": args, **extra}
    )
    record.exc_info = exc_info
    return JsonFormatter().format(record)


@pytest.mark.parametrize("text", HOSTILE)
def test_s20_hostile_text_stays_inside_its_line(text):
    """S-20: line ends, terminal escapes, direction marks and quotes arrive as escapes, in message and fields alike."""
    printed = line(text, field=text, **{text: 1})
    assert printed.isascii()
    assert printed.isprintable()
    assert json.loads(printed)["field"] == text


@given(text=st.text(), value=st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.text()))
def test_s20_every_record_is_one_json_object(text, value):
    """S-20: any message and any field make one parseable line of plain ASCII."""
    printed = line(text, field=value)
    assert printed.isascii()
    assert printed.isprintable()
    assert set(json.loads(printed)) == {"at", "level", "event", "message", "field"}


def test_time_level_and_event_stand_first():
    """Times are RFC 3339 in UTC; the event is the code given, else the logger's name."""
    assert json.loads(line(event="BF-LOG-UP")) == {
        "at": "1970-01-01T00:00:01.500000Z",
        "level": "info",
        "event": "BF-LOG-UP",
        "message": "up",
    }
    assert json.loads(line())["event"] == "brownfield.x"


def test_i11_an_error_shows_its_place_and_none_of_its_text():
    """I11: exception texts and frames may hold values of records, so the log names class, function, file and line."""
    try:
        customer = "CANARY-4711"
        int(customer)
    except ValueError:
        printed = line(exc_info=sys.exc_info())
    assert "CANARY" not in printed
    assert json.loads(printed)["error"].startswith("ValueError in test_i11_an_error_shows")
    assert "/" not in json.loads(printed)["error"]


def test_long_texts_are_cut():
    """One record cannot fill the disk."""
    assert len(line(field="x" * 100_000)) < 3000


PROGRAM = """
import logging, warnings
from brownfield.logs import configure_logs
configure_logs()
logging.getLogger("brownfield.serving").info("up", extra={"port": 8080})
logging.getLogger("brownfield.serving").debug("hidden")
logging.getLogger("uvicorn.error").warning("from uvicorn")
logging.getLogger("uvicorn.access").info("GET /?token=1")
warnings.warn("old call", stacklevel=1)
"""


def test_a_program_logs_json_to_stderr_alone():
    """Own, foreign and warning records become lines on stderr; the access log is off."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = [json.loads(each) for each in done.stderr.splitlines()]
    assert [each["event"] for each in lines] == ["brownfield.serving", "uvicorn.error", "py.warnings"]
    assert lines[0]["port"] == 8080


def test_the_formatter_serves_any_handler():
    """Whoever has logging of their own can use the formatter alone."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.handle(logging.makeLogRecord({"name": "x", "levelname": "ERROR", "msg": "%d rows", "args": (3,)}))
    assert json.loads(stream.getvalue())["message"] == "3 rows"


def socket_pair():
    """Two ends of a stream socket."""
    left, right = socket.socketpair()
    return left.detach(), right.detach()


@pytest.mark.parametrize("make", [os.pipe, socket_pair], ids=["F-70 pipe", "F-70 socket"])
def test_f70_nobody_waits_for_a_reader_of_the_log(make):
    """F-70: lines that nobody reads are dropped and counted; when there is a reader again it is told how many."""
    ends = make()
    handler = Unwaiting(ends[1])
    try:
        handler.setFormatter(JsonFormatter())
        held = filled(ends[1])
        for number in range(100):
            handler.emit(logging.makeLogRecord({"msg": f"lost {number}"}))
        assert handler.dropped == 100
        assert len(emptied(ends[0])) == held
        handler.emit(logging.makeLogRecord({"msg": "seen"}))
        dropped, seen = map(json.loads, emptied(ends[0]).splitlines())
        assert (dropped["event"], dropped["dropped"], seen["message"]) == ("BF-LOG-DROPPED", 100, "seen")
        assert os.get_blocking(ends[1])
    finally:
        handler.close()
        for each in ends:
            os.close(each)


def test_f70_a_line_is_written_whole_or_not_at_all():
    """F-70: one that is longer than what is left of the pipe is ended before another begins."""
    ends = os.pipe()
    handler = Unwaiting(ends[1])
    try:
        handler.setFormatter(JsonFormatter())
        filled(ends[1])
        os.read(ends[0], 8192)
        long = logging.makeLogRecord({"msg": "long", "a": "y" * 1900, "b": "y" * 1900, "c": ["y" * 1900] * 9})
        handler.emit(long)
        handler.emit(logging.makeLogRecord({"msg": "lost"}))
        read = emptied(ends[0])
        handler.emit(logging.makeLogRecord({"msg": "after"}))
        read += emptied(ends[0])
        events = [json.loads(line) for line in read.lstrip(b" ").splitlines()]
        assert [each["message"] for each in events] == ["long", "log lines were dropped: nobody read them", "after"]
    finally:
        handler.close()
        for each in ends:
            os.close(each)
