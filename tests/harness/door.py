"""A door on a loop of its own, and what is said to it byte by byte."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from types import SimpleNamespace

import uvloop

from brownfield.serving.gateway import Door

__all__ = ["BODY", "LIVE", "Answer", "Running", "chunked", "post", "read_answer"]

BODY = json.dumps({"store_id": 1, "items": ["MILK"]}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: till\r\n\r\n"


def post(body=BODY, *fields, path=b"/v1/till/predict", version=b"1.1", length=True):
    """A POST with these header lines."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"Host: till", *fields]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces):
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Answer(SimpleNamespace):
    """Status, header fields by lower-case name, body."""


def read_answer(reader, *, head=False):
    """One answer; None at the end of the connection."""
    line = reader.readline()
    if not line:
        return None
    fields = {}
    while (field := reader.readline().strip()) != b"":
        name, _, value = field.partition(b": ")
        fields[name.lower()] = value
    status = int(line.split()[1])
    body = b"" if head or status == 100 else reader.read(int(fields[b"content-length"]))
    return Answer(status=status, fields=fields, body=body)


class Running:
    """A door on a loop of its own in a thread."""

    def __init__(self, handler, **options):
        self.door = Door(handler, **options)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._ready, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.problems = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        await self.door.start(self._listener)
        self._ready.set()
        await self._end.wait()
        await self.door.drain(5)
        self.left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    def call(self, function, *arguments):
        """Run a function in the door's loop."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(*arguments), done.set()))
        assert done.wait(10)

    def close(self):
        """Drain and end."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.problems == []
        assert self.left == []

    def connect(self):
        """A connected socket."""
        return socket.create_connection(self.address, timeout=10)

    def exchange(self, *parts, head=False, pause_s=0.0):
        """Send the parts, close the sending side, and read every answer until the end of the connection."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            return self.read(connection, head=head)

    @staticmethod
    def read(connection, *, head=False):
        """Every answer until the end."""
        answers = []
        with connection.makefile("rb") as reader:
            while (answer := read_answer(reader, head=head)) is not None:
                answers.append(answer)
        return answers
