"""Answers requests from several connections, in batches of whatever has arrived while the last batch ran.

No timer and no thread: the loop drains every socket, takes the oldest requests that may share a batch, up to the row
cap, runs them, and writes the answers of a batch in one call per connection. A request that fails answers an error; its
batch-mates are run again one by one. A connection that sends something malformed is closed; the process lives on.
"""

import select
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

# Relative, because this package also runs under another name where no brownfield is installed.
from ..frames import (  # noqa: TID252
    ERROR,
    REQUEST,
    RESPONSE,
    Buffer,
    Decoder,
    Frame,
    FrameError,
    Tensor,
    encode_message,
    encode_tensors,
)
from .engine import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Server"]

_RECEIVE_BYTES = 256 * 1024
_MAX_WAITING = 4096
_MAX_UNSENT_BYTES = 512 * 2**20
_LAST_WORDS_S = 2.0


@dataclass(eq=False, slots=True)
class _Connection:
    socket: socket.socket
    decoder: Decoder
    buffers: list[Buffer] = field(default_factory=list)
    unsent: bytes | memoryview = b""
    closed: bool = False


@dataclass(slots=True)
class _Request:
    connection: _Connection
    frame: Frame
    arrived_ns: int


class Server:
    """One loaded model behind one listening socket.

    Parameters
    ----------
    listener
        Bound, listening, not blocking.
    engine
        What computes.
    hello
        Frame that greets every connection.
    max_batch_rows
        Most rows of one call that several requests share; 1 runs every request alone.
    """

    def __init__(self, listener: socket.socket, engine: Engine, hello: bytes, max_batch_rows: int) -> None:
        self._listener = listener
        self._engine = engine
        self._hello = hello
        self._max_batch_rows = max_batch_rows if engine.batched else 1
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._waiting: dict[Hashable, deque[_Request]] = {}
        self._waiting_count = 0
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))  # recv() would map and unmap 256 KiB per call: 20 us
        self._stopping = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._listen_for_signals()

    def run(self) -> None:
        """Serve until SIGTERM, then finish what has arrived."""
        while not self._stopping:
            self._poll(0 if self._waiting else -1)
            if self._waiting:
                self._answer(self._take())
        self._hear_the_rest()
        while self._waiting:
            self._answer(self._take())
        self._say_the_rest()

    def _listen_for_signals(self) -> None:
        def stop(_signal: int, _frame: object) -> None:
            self._stopping = True

        self._wake_writer.setblocking(False)
        self._wake_reader.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, stop)
        self._epoll.register(self._wake_reader.fileno(), select.EPOLLIN)

    def _poll(self, timeout_s: float) -> bool:
        """Take in and send what can be; whether there was anything."""
        ready = self._epoll.poll(timeout_s)
        for descriptor, events in ready:
            connection = self._connections.get(descriptor)
            if connection is None:
                self._accept(descriptor)
                continue
            if events & select.EPOLLOUT:
                self._send(connection)
            if events & ~select.EPOLLOUT and not connection.closed and self._waiting_count < _MAX_WAITING:
                self._receive(connection)
        return bool(ready)

    def _accept(self, descriptor: int) -> None:
        if descriptor != self._listener.fileno():
            self._wake_reader.recv(4096)
            return
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return  # the caller has gone again
        accepted.setblocking(False)
        connection = _Connection(accepted, Decoder())
        self._connections[accepted.fileno()] = connection
        self._epoll.register(accepted.fileno(), select.EPOLLIN)
        connection.buffers.append(self._hello)
        self._send(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = bytes(self._buffer[: connection.socket.recv_into(self._buffer)])
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            frames = connection.decoder.feed(data)
        except FrameError:
            frames, data = [], b""
        if not data or any(frame.kind != REQUEST for frame in frames):
            self._close(connection)
            return
        now_ns = time.monotonic_ns()
        for frame in frames:
            key = frame.layout.key
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = deque()
            waiting.append(_Request(connection, frame, now_ns))
        self._waiting_count += len(frames)

    def _take(self) -> list[_Request]:
        """Oldest requests of one kind, up to the row cap (a larger one goes alone); kinds take turns."""
        key = next(iter(self._waiting))
        waiting = self._waiting.pop(key)
        batch = [waiting.popleft()]
        rows = batch[0].frame.layout.rows
        while waiting and rows >= 0 and self._max_batch_rows > 1:
            rows += waiting[0].frame.layout.rows
            if rows > self._max_batch_rows:
                break
            batch.append(waiting.popleft())
        if waiting:
            self._waiting[key] = waiting
        self._waiting_count -= len(batch)
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        now_ns = time.monotonic_ns()
        live: list[_Request] = []
        for request in batch:
            if request.connection.closed:
                continue
            if 0 < request.frame.stamp < now_ns:
                self._refuse(request, "deadline", "the deadline passed before the model was free")
            else:
                live.append(request)
        if live and not (len(live) > 1 and self._run_together(live, now_ns)):
            for request in live:
                self._run_alone(request, now_ns)
        for connection in {id(request.connection): request.connection for request in batch}.values():
            self._send(connection)

    def _run_together(self, batch: list[_Request], start_ns: int) -> bool:
        """Answer all from one call; False when that call failed, so that each must be run alone."""
        layouts = [request.frame.layout for request in batch]
        rows = sum(layout.rows for layout in layouts)
        try:
            outputs = self._engine.run(_join(batch, rows))
        except (EngineError, FrameError):
            return False
        if any(output.ndim == 0 or len(output) != rows for output in outputs):
            return False
        run_us = (time.monotonic_ns() - start_ns) // 1000
        at = 0
        for request, layout in zip(batch, layouts, strict=True):
            end = at + layout.rows
            self._respond(request, [output[at:end] for output in outputs], start_ns, run_us, rows)
            at = end
        return True

    def _run_alone(self, request: _Request, batch_start_ns: int) -> None:
        start_ns = time.monotonic_ns()
        try:
            outputs = self._engine.run(request.frame.tensors())
            run_us = (time.monotonic_ns() - start_ns) // 1000
            self._respond(
                request, outputs, batch_start_ns, run_us, request.frame.layout.rows if self._engine.batched else 0
            )
        except EngineError as error:
            self._refuse(request, error.code, str(error))
        except FrameError as error:
            self._refuse(request, "frame", str(error))

    def _respond(self, request: _Request, outputs: list[Tensor], start_ns: int, run_us: int, call_rows: int) -> None:
        waited_us = (start_ns - request.arrived_ns) // 1000
        stamp = min(waited_us, 0xFFFFFFFF) << 32 | min(run_us, 0xFFFFFFFF)
        try:
            request.connection.buffers += encode_tensors(RESPONSE, request.frame.request_id, stamp, outputs, call_rows)
        except FrameError as error:
            self._refuse(request, "output", str(error))

    def _refuse(self, request: _Request, code: str, message: str) -> None:
        answer = encode_message(ERROR, request.frame.request_id, {"code": code, "message": message})
        request.connection.buffers.append(answer)

    def _send(self, connection: _Connection) -> None:
        if connection.closed:
            return
        was_blocked = len(connection.unsent) > 0
        data: Buffer = b"".join([connection.unsent, *connection.buffers])
        connection.buffers.clear()
        try:
            sent = connection.socket.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        connection.unsent = memoryview(data)[sent:]
        blocked = len(connection.unsent) > 0
        if len(connection.unsent) > _MAX_UNSENT_BYTES:
            self._close(connection)
        elif blocked != was_blocked:
            wanted = select.EPOLLIN | (select.EPOLLOUT if blocked else 0)
            self._epoll.modify(connection.socket.fileno(), wanted)

    def _close(self, connection: _Connection) -> None:
        connection.closed = True
        connection.buffers.clear()
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _hear_the_rest(self) -> None:
        """Read all that was sent already, and wait a little for the rest of a frame that has begun."""
        until = time.monotonic() + _LAST_WORDS_S
        left_s = _LAST_WORDS_S
        while left_s > 0 and self._waiting_count < _MAX_WAITING:
            begun = any(connection.decoder.begun for connection in self._connections.values())
            if not self._poll(left_s if begun else 0):
                return
            left_s = until - time.monotonic()

    def _say_the_rest(self) -> None:
        """Wait a little for callers who are slow to read their last answers."""
        until = time.monotonic() + _LAST_WORDS_S
        for connection in list(self._connections.values()):
            connection.socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection.socket.sendall(connection.unsent)
            except OSError:
                continue


def _join(batch: list[_Request], rows: int) -> list[Tensor]:
    """Tensors of all requests, one after another along the first dimension."""
    joined: list[Tensor] = []
    for index, (dtype, shape, _, _) in enumerate(batch[0].frame.layout.tensors):
        if dtype is None:
            joined.append(np.concatenate([request.frame.tensors()[index] for request in batch]))
        else:
            data = b"".join([request.frame.data(index) for request in batch])
            joined.append(np.frombuffer(data, dtype).reshape(rows, *shape[1:]))
    return joined
