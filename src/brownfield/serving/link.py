"""Messages between the processes of one served workspace: told, or asked and answered, over a private Unix socket.

A frame is four bytes of length and a msgpack array: kind, number, subject, content. What comes in goes to two
functions; what
is asked comes back as an answer, or as :class:`~brownfield.errors.Unavailable` with the other side's words.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any

import msgspec

from brownfield.errors import BrownfieldError, Unavailable

__all__ = ["Link"]

_log = logging.getLogger(__name__)

_HEAD = struct.Struct("<I")
_LONGEST_BYTES = 64 * 2**20
_encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, str, Any]).decode


class _Kind(IntEnum):
    TOLD = 0
    ASKED = 1
    ANSWERED = 2
    REFUSED = 3


class Link:
    """One end of a connection between two of our processes.

    Parameters
    ----------
    reader, writer
        The connected socket.
    on_told
        Called with subject and content of what the other side tells; at once and in order.
    on_asked
        Awaited with subject and content of what it asks; gives the answer.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_told: Callable[[str, Any], None],
        on_asked: Callable[[str, Any], Awaitable[Any]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_told = on_told
        self._on_asked = on_asked
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._open = True

    async def run(self) -> None:
        """Take in what comes until the other side has gone; what was asked of it is then refused."""
        try:
            while True:
                (length,) = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                if length > _LONGEST_BYTES:
                    break
                self._take(*_decode(await self._reader.readexactly(length)))
        except (OSError, EOFError, msgspec.DecodeError):
            pass
        finally:
            self.close()

    def tell(self, subject: str, content: Any = None) -> None:
        """Say something that needs no answer; lost when the other side has gone."""
        self._send(_Kind.TOLD, 0, subject, content)

    async def ask(self, subject: str, content: Any = None, *, timeout_s: float = 10.0) -> Any:
        """Ask, and wait for the answer.

        Raises
        ------
        Unavailable
            The other side refused, has gone, or did not answer in time.
        """
        if not self._open:
            raise Unavailable("the other process has gone")
        self._last = number = self._last + 1
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send(_Kind.ASKED, number, subject, content)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise Unavailable(f"no answer from the other process within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """End it; what waits for an answer is refused, and what was asked here is done all the same."""
        self._open = False
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the other process has gone"))

    def _take(self, kind: int, number: int, subject: str, content: Any) -> None:
        if kind == _Kind.TOLD:
            self._on_told(subject, content)
        elif kind == _Kind.ASKED:
            task = asyncio.get_running_loop().create_task(self._answer(number, subject, content))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        else:
            future = self._waiting.get(number)
            if future is None or future.done():
                return
            if kind == _Kind.ANSWERED:
                future.set_result(content)
            else:
                future.set_exception(Unavailable(str(content)))

    async def _answer(self, number: int, subject: str, content: Any) -> None:
        try:
            answer = await self._on_asked(subject, content)
        except BrownfieldError as error:
            self._send(_Kind.REFUSED, number, "", str(error))
        except Exception as error:  # noqa: BLE001 (the other side must not wait in vain)
            _log.exception("a process of ours could not answer another", extra={"event": "BF-SRV-LINK-FAILED"})
            self._send(_Kind.REFUSED, number, "", type(error).__name__)
        else:
            self._send(_Kind.ANSWERED, number, "", answer)

    def _send(self, kind: _Kind, number: int, subject: str, content: Any) -> None:
        if not self._open:
            return
        frame = _encode((int(kind), number, subject, content))
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(_HEAD.pack(len(frame)) + frame)
