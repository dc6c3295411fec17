"""Answers requests from several connections, in batches of whatever has arrived while the last batch ran.

No timer and no thread: the loop drains every socket, takes the oldest requests that may share a batch, up to the row
cap, runs them, and writes the answers of a batch in one call per connection. A request that fails answers an error; its
batch-mates are run again one by one, and others are heard and answered in between. A connection that sends something
malformed, or more than there is memory for, is closed; one whose caller does not read is neither heard nor computed for
until it does. While many requests wait, or large ones, nobody is heard: a gateway that cannot write says that it is
overloaded. The process lives on.
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
    FrameTooLarge,
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
_MAX_WAITING_BYTES = 64 * 2**20  # and what each connection brings at once
_PAUSE_BYTES = 16 * 2**20  # unsent to a caller, before its next request is run
_LAST_WORDS_S = 2.0
_NO_MEMORY = "no memory left within the process's limit"


@dataclass(eq=False, slots=True)
class _Connection:
    socket: socket.socket
    decoder: Decoder
    buffers: list[Buffer] = field(default_factory=list)
    unsent: deque[Buffer] = field(default_factory=deque)
    unsent_bytes: int = 0
    events: int = select.EPOLLIN
    paused: bool = False
    parked: "list[_Request]" = field(default_factory=list)
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
        self._waiting_bytes = 0
        self._buffer = memoryview(bytearray(_RECEIVE_BYTES))  # recv() would map and unmap 256 KiB per call: 20 us
        self._stopping = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        # At its edges: who cannot be accepted, for want of descriptors, is left alone until the next one comes.
        self._epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLET)
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
        hears = not self._is_full  # all or nobody, or the first would always be heard and the last never
        for descriptor, events in ready:
            connection = self._connections.get(descriptor)
            if connection is None:
                self._accept(descriptor)
                continue
            if events & ~select.EPOLLIN:
                self._send(connection)
            if events & ~select.EPOLLOUT and hears:
                self._receive(connection)
        return bool(ready)

    @property
    def _is_full(self) -> bool:
        return self._waiting_count >= _MAX_WAITING or self._waiting_bytes >= _MAX_WAITING_BYTES

    def _accept(self, descriptor: int) -> None:
        if descriptor != self._listener.fileno():
            self._wake_reader.recv(4096)
            return
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return  # there is nobody more, or no descriptor is left
            accepted.setblocking(False)
            connection = _Connection(accepted, Decoder())
            self._connections[accepted.fileno()] = connection
            self._epoll.register(accepted.fileno(), connection.events)
            connection.buffers.append(self._hello)
            self._send(connection)

    def _receive(self, connection: _Connection) -> None:
        if connection.paused:
            return
        try:
            data = bytes(self._buffer[: connection.socket.recv_into(self._buffer)])
        except BlockingIOError:
            return
        except (OSError, MemoryError):
            data = b""
        try:
            frames = connection.decoder.feed(data)
        except (FrameError, MemoryError):
            frames, data = [], b""
        for frame in frames:
            if frame.kind != REQUEST:
                data = b""
        if not data:
            self._close(connection)
            return
        now_ns = time.monotonic_ns()
        for frame in frames:
            key = frame.layout.key
            waiting = self._waiting.get(key)
            if waiting is None:
                waiting = self._waiting[key] = deque()
            waiting.append(_Request(connection, frame, now_ns))
            self._waiting_bytes += frame.layout.frame_bytes
        self._waiting_count += len(frames)

    def _take(self) -> list[_Request]:
        """Oldest requests of one kind, up to the row cap (a larger one goes alone); kinds take turns."""
        key = next(iter(self._waiting))
        waiting = self._waiting.pop(key)
        batch = [waiting.popleft()]
        layout = batch[0].frame.layout
        rows, taken_bytes = layout.rows, layout.frame_bytes
        while waiting and rows >= 0 and self._max_batch_rows > 1:
            layout = waiting[0].frame.layout
            rows += layout.rows
            if rows > self._max_batch_rows:
                break
            taken_bytes += layout.frame_bytes
            batch.append(waiting.popleft())
        if waiting:
            self._waiting[key] = waiting
        self._waiting_count -= len(batch)
        self._waiting_bytes -= taken_bytes
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        now_ns = time.monotonic_ns()
        live: list[_Request] = []
        for request in batch:
            connection = request.connection
            if connection.paused:
                if not connection.closed:
                    connection.parked.append(request)
            elif 0 < request.frame.stamp < now_ns:
                self._refuse(request, "deadline", "the deadline passed before the model was free")
            else:
                live.append(request)
        if len(live) == 1:
            self._run_alone(live[0], now_ns)
        elif live and not self._run_together(live, now_ns):
            for request in live:
                self._waiting[id(request)] = deque([request])  # a kind of its own: each takes its turn
                self._waiting_bytes += request.frame.layout.frame_bytes
            self._waiting_count += len(live)
        if len(batch) == 1:
            self._send(batch[0].connection)
            return
        for connection in {id(request.connection): request.connection for request in batch}.values():
            self._send(connection)

    def _run_together(self, batch: list[_Request], start_ns: int) -> bool:
        """Answer all from one call; False when that call failed, so that each must be run alone."""
        layouts = [request.frame.layout for request in batch]
        rows = sum(layout.rows for layout in layouts)
        try:
            outputs = self._engine.run(_join(batch, rows))
        except (EngineError, FrameError, MemoryError):
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

    def _run_alone(self, request: _Request, start_ns: int) -> None:
        try:
            outputs = self._engine.run(request.frame.tensors())
            run_us = (time.monotonic_ns() - start_ns) // 1000
            self._respond(request, outputs, start_ns, run_us, request.frame.layout.rows if self._engine.batched else 0)
        except EngineError as error:
            self._refuse(request, error.code, str(error))
        except FrameError as error:
            self._refuse(request, "frame", str(error))
        except MemoryError:
            self._refuse(request, "memory", _NO_MEMORY)

    def _respond(self, request: _Request, outputs: list[Tensor], start_ns: int, run_us: int, call_rows: int) -> None:
        waited_us = (start_ns - request.arrived_ns) // 1000
        stamp = min(waited_us, 0xFFFFFFFF) << 32 | min(run_us, 0xFFFFFFFF)
        try:
            request.connection.buffers += encode_tensors(RESPONSE, request.frame.request_id, stamp, outputs, call_rows)
        except FrameTooLarge as error:
            self._refuse(request, "memory", str(error))
        except FrameError as error:
            self._refuse(request, "output", str(error))
        except MemoryError:
            self._refuse(request, "memory", _NO_MEMORY)

    def _refuse(self, request: _Request, code: str, message: str) -> None:
        answer = encode_message(ERROR, request.frame.request_id, {"code": code, "message": message})
        request.connection.buffers.append(answer)

    def _send(self, connection: _Connection) -> None:
        if connection.closed:
            return
        try:
            data: Buffer = b"".join(connection.buffers)
        except MemoryError:  # for a copy: they go from where they lie
            self._send_slowly(connection, [*connection.buffers])
            return
        if not connection.unsent:
            try:
                sent = connection.socket.send(data) if data else 0
            except OSError:
                sent = 0
            if sent == len(data):
                connection.buffers.clear()
                return
            data = memoryview(data)[sent:]
        self._send_slowly(connection, [data] if data else [])

    def _send_slowly(self, connection: _Connection, pieces: list[Buffer]) -> None:
        """Send as much as the caller takes now and keep the rest; a caller with much to read is not heard meanwhile.

        It does not wait for us to hear it before it reads: a gateway reads at any time, a ``Caller`` asks one by one.
        """
        connection.buffers.clear()
        unsent = connection.unsent
        unsent.extend(pieces)
        connection.unsent_bytes += sum(map(len, pieces))
        try:
            while unsent:
                sent = connection.socket.send(unsent[0])
                connection.unsent_bytes -= sent
                if sent < len(unsent[0]):
                    unsent[0] = memoryview(unsent[0])[sent:]
                else:
                    unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        connection.paused = connection.unsent_bytes > _PAUSE_BYTES
        events = (0 if connection.paused else select.EPOLLIN) | (select.EPOLLOUT if unsent else 0)
        if events != connection.events:
            connection.events = events
            self._epoll.modify(connection.socket.fileno(), events)
        if connection.parked and not connection.paused:
            parked, connection.parked = connection.parked, []
            self._waiting_count += len(parked)
            for request in reversed(parked):  # they came before what waits
                self._waiting.setdefault(request.frame.layout.key, deque()).appendleft(request)
                self._waiting_bytes += request.frame.layout.frame_bytes

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        connection.closed = connection.paused = True
        connection.decoder = Decoder()
        for kept in (connection.buffers, connection.unsent, connection.parked):
            kept.clear()

    def _hear_the_rest(self) -> None:
        """Read all that was sent already, and wait a little for the rest of a frame that has begun."""
        until = time.monotonic() + _LAST_WORDS_S
        left_s = _LAST_WORDS_S
        while left_s > 0:
            begun = any(each.decoder.begun and not each.paused for each in self._connections.values())
            if self._is_full:
                self._answer(self._take())
            elif not self._poll(left_s if begun else 0):
                return
            left_s = until - time.monotonic()

    def _say_the_rest(self) -> None:
        """Wait a little for callers who are slow to read their last answers."""
        until = time.monotonic() + _LAST_WORDS_S
        for connection in list(self._connections.values()):
            left_s = _LAST_WORDS_S
            while connection.unsent and left_s > 0:
                left_s = until - time.monotonic()
                connection.socket.settimeout(max(0.01, left_s))
                self._send(connection)
                while self._waiting:  # what was parked for it
                    self._answer(self._take())


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
