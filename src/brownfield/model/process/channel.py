"""A gateway's side of the socket: many requests in flight on one connection, all of one loop turn in one write.

Comes in: tensors by input name and a deadline. Goes out: tensors by output name, or exactly one typed error:
:class:`~brownfield.errors.WorkerUnavailable` as soon as the process ends (the kernel closes the socket),
:class:`~brownfield.errors.DeadlineExceeded`, :class:`~brownfield.errors.Overloaded` when the process does not read,
:class:`~brownfield.errors.ModelFailed` when it answers with an error.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from numpy.typing import NDArray

from brownfield.errors import BrownfieldError, DeadlineExceeded, ModelFailed, Overloaded, WorkerUnavailable
from brownfield.model.process.address import local_address
from brownfield.model.process.frames import REQUEST, Decoder, Frame, FrameError, FrameTooLarge, encode_tensors
from brownfield.model.process.replies import Reply, RunFailed, Types, announced, reply_of, times_of
from brownfield.model.process.spawn import parse_hello

if TYPE_CHECKING:
    from brownfield.model.process.spawn import Hello

__all__ = ["AnswerLate", "ModelChannel", "WorkerDied"]

Tensors: TypeAlias = Mapping[str, NDArray[Any]]
_HIGH_WATER_BYTES = 16 * 2**20
_LOOK_BYTES = 256 * 1024


class WorkerDied(WorkerUnavailable):
    """The model's process ended while it held the request: the request may be why."""


class AnswerLate(DeadlineExceeded):
    """The deadline passed while the model's process held the request.

    Parameters
    ----------
    later
        Tells how long it took, without the tensors, when the answer comes after all (0 when it was refused); None when
        there is none.
    """

    def __init__(self, later: "asyncio.Future[Reply | None]") -> None:
        super().__init__("the model did not answer before the deadline")
        self.later = later


class ModelChannel(asyncio.Protocol):
    """One connection to a model's process; made by :meth:`connect`, used from one event loop.

    Attributes
    ----------
    hello
        What the process said of itself.
    in_flight
        Requests sent whose answers have not come yet, those past their deadline excepted.
    """

    def __init__(self, on_lost: Callable[[], None] | None = None) -> None:
        self.hello: Hello
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._greeting: asyncio.Future[Hello] = self._loop.create_future()
        self._waiting: dict[int, tuple[asyncio.Future[Reply], int]] = {}
        self._following: list[bytes] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._last_id = 0
        self._late: dict[int, asyncio.Future[Reply | None]] = {}  # that may still come, after their deadlines
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._lost = "it has not been connected"

    @classmethod
    async def connect(
        cls, socket_path: Path, *, timeout_s: float = 5.0, on_lost: Callable[[], None] | None = None
    ) -> Self:
        """Connect and wait for the greeting.

        Parameters
        ----------
        socket_path
            Of a :class:`~brownfield.model.process.ModelProcess`.
        timeout_s
            For both.
        on_lost
            Called once, in the loop, when the process ends or the connection is closed.

        Raises
        ------
        WorkerUnavailable
            When there is nobody, or no greeting in time.
        """
        loop = asyncio.get_running_loop()
        channel = cls(on_lost)
        try:
            async with asyncio.timeout(timeout_s):
                with local_address(socket_path) as address:
                    await loop.create_unix_connection(lambda: channel, address)
                channel.hello = await channel._greeting
        except BaseException as error:
            channel._greeting.cancel()
            channel.close()
            if isinstance(error, OSError):  # TimeoutError is one
                what = "no model process answers on its socket"
                raise WorkerUnavailable(what, got=type(error).__name__) from error
            raise
        channel._input_names = tuple(tensor.name for tensor in channel.hello.inputs)
        channel._output_names, channel._output_types = announced(channel.hello)
        channel._decoder.max_tensors = len(channel._output_names)
        return channel

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return len(self._waiting)

    @property
    def connected(self) -> bool:
        """Whether requests can be sent."""
        return not self._lost

    def infer(self, tensors: Tensors, deadline_ns: int | None = None) -> asyncio.Future[Reply]:
        """Send one request; await the returned future.

        Parameters
        ----------
        tensors
            Every input of the graph by name, with the dtype that the greeting names.
        deadline_ns
            On the clock of :func:`time.monotonic_ns`; None to wait for as long as the process lives.

        Returns
        -------
        asyncio.Future
            Resolves to a :class:`Reply`. Cancelling it costs nothing; the answer is dropped.

        Raises
        ------
        WorkerUnavailable, Overloaded, ModelFailed
            At once, when it cannot be sent. Later, from the future, also DeadlineExceeded: as :class:`AnswerLate`,
            or because the process did not come to it in time.
        """
        if self._lost:
            raise WorkerUnavailable(f"the model process is gone: {self._lost}")
        if self._paused:
            raise Overloaded("the model process does not read its requests")
        self._last_id = request_id = self._last_id + 1
        try:
            arrays = [tensors[name] for name in self._input_names]
            frame = b"".join(encode_tensors(REQUEST, request_id, deadline_ns or 0, arrays))
        except KeyError as error:
            raise ModelFailed("a tensor is missing", path=str(error.args[0])) from error
        except FrameTooLarge as error:
            raise RunFailed(str(error), cause="memory") from error
        except FrameError as error:
            raise ModelFailed(str(error)) from error
        self._send(frame)
        future = self._loop.create_future()
        self._waiting[request_id] = (future, deadline_ns or 0)
        if deadline_ns and (self._sweep is None or self._sweep_ns > deadline_ns):
            self._sweep_at(deadline_ns)
        return future

    def look(self) -> None:
        """Write what waits for the end of a turn of the loop, and take what has come; the loop tells of an end."""
        if not self._waiting or self._transport is None or self._transport.is_closing():
            return
        if self._following:
            self._transport.write(b"".join(self._following))
            self._following = []
        try:
            data = os.read(self._descriptor, _LOOK_BYTES)
        except OSError:  # nothing has come
            return
        if data:
            self.data_received(data)

    def close(self) -> None:
        """Close the connection; what waits fails with WorkerUnavailable."""
        if self._transport is not None:
            self._transport.abort()
        self._lose("the connection was closed", kind=WorkerUnavailable)

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from asyncio's
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._lost = ""

    def data_received(self, data: bytes) -> None:
        """Resolve the futures of the answers that have arrived."""
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except FrameError as error:
            self._lose(f"it sent {error}")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whatever still waits."""
        self._lose("it ended" if exc is None else type(exc).__name__)

    def pause_writing(self) -> None:
        """Refuse further requests: the process does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Accept requests again."""
        self._paused = False

    def _send(self, frame: bytes) -> None:
        """Write the first frame of a loop turn at once, and those that follow it together."""
        if self._following is not None:
            self._following.append(frame)
        elif self._transport is not None:
            self._transport.write(frame)
            self._following = []
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        following, self._following = self._following, None
        if following and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(following))

    def _take(self, frame: Frame) -> None:
        entry = self._waiting.pop(frame.request_id, None)
        if entry is not None:
            if not entry[0].done():
                _resolve(entry[0], frame, self._output_names, self._output_types)
        elif not self._greeting.done():
            self._greeting.set_result(parse_hello(frame))
        elif frame.request_id in self._late:
            later = self._late.pop(frame.request_id)
            if not later.done():
                later.set_result(times_of(frame))
        else:
            raise FrameError("an answer that nobody asked for")

    def _sweep_at(self, deadline_ns: int) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_ns = deadline_ns
        delay_s = max(0, deadline_ns - time.monotonic_ns()) / 1e9
        self._sweep = self._loop.call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """Fail the requests whose deadline has passed, and look again at the next deadline."""
        self._sweep = None
        now_ns = time.monotonic_ns()
        late = [key for key, (_, deadline_ns) in self._waiting.items() if 0 < deadline_ns <= now_ns]
        for key in late:
            future, _ = self._waiting.pop(key)
            later = self._late[key] = self._loop.create_future()
            if not future.done():
                future.set_exception(AnswerLate(later))
        following = min((deadline_ns for _, deadline_ns in self._waiting.values() if deadline_ns), default=0)
        if following:
            self._sweep_at(following)

    def _lose(self, reason: str, kind: type[WorkerUnavailable] = WorkerDied) -> None:
        first = not self._lost
        self._lost = self._lost or reason
        waiting, self._waiting = self._waiting, {}
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if not self._greeting.done():
            self._greeting.set_exception(ConnectionError(reason))
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(kind(f"the model process is gone: {reason}"))
        late, self._late = self._late, {}
        for later in late.values():
            if not later.done():
                later.set_result(None)
        if first and self._on_lost is not None:
            self._on_lost()

    _input_names: tuple[str, ...] = ()
    _output_names: tuple[str, ...] = ()
    _output_types: Types = ()
    _sweep_ns: int = 0


def _resolve(future: asyncio.Future[Reply], frame: Frame, names: tuple[str, ...], types: Types) -> None:
    try:
        future.set_result(reply_of(frame, names, types))
    except (BrownfieldError, FrameError) as error:
        refused = error if isinstance(error, BrownfieldError) else ModelFailed(str(error))
        future.set_exception(refused)
