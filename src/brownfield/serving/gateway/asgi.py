"""The handler as an ASGI application: any ASGI server runs it, and it mounts into existing stacks.

The body is read under the handler's cap, so an over-long one is refused before all of it was read. A caller who leaves
while waiting cancels the work; that is watched by one timer for all requests, so quick ones pay nothing for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from brownfield.serving.gateway.calls import Call
from brownfield.serving.gateway.handler import Handler
from brownfield.serving.gateway.http_limits import joined
from brownfield.serving.gateway.messages import Response

__all__ = ["App", "asgi_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WATCH_AFTER_S = 0.05


def asgi_app(handler: Handler) -> App:
    """Wrap ``handler`` for an ASGI server.

    Parameters
    ----------
    handler
        The transport-free handler.

    Returns
    -------
    App
        ``async app(scope, receive, send)``.
    """
    watch = _DisconnectWatch()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is spoken here")
        response = await _respond(handler, watch, scope, receive)
        if response is None:
            return
        body = response.body
        headers = [*response.headers, (b"content-length", b"%d" % len(body))]
        if handler.draining:
            headers.append((b"connection", b"close"))
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": headers,
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


async def _respond(handler: Handler, watch: "_DisconnectWatch", scope: Scope, receive: Receive) -> Response | None:
    """Run one request; None when the caller left."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    root: str = scope.get("root_path", "")
    if root:
        path = path.removeprefix(root.encode())
    client = scope.get("client")
    opened = handler.open(scope["method"], path, _fields(scope["headers"]), peer=client[0] if client else None)
    if isinstance(opened, Response):
        return opened
    body = await _read_body(receive, handler.limits.body_bytes)
    if body is None:
        return None
    if isinstance(body, int):
        return handler.too_large(opened)
    return await watch.run(handler, opened, body, receive)


def _fields(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, given in pairs:
        value = given.rstrip(b" \t")  # which is no part of it, and comes with some servers
        fields[name] = joined(name, fields[name], value) if name in fields else value
    return fields


async def _read_body(receive: Receive, cap_bytes: int) -> bytes | int | None:
    """Read the whole body: the bytes; the number of bytes seen when it passes the cap; None when the caller left."""
    message = await receive()
    chunks: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        size += len(body)
        if size > cap_bytes:
            return size
        if not message.get("more_body"):
            return b"".join([*chunks, body]) if chunks else body
        chunks.append(body)
        message = await receive()
    return None


class _DisconnectWatch:
    """Cancels the work of callers who left, looking only at requests that have waited for a while."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], Receive] = {}
        self._watchers: dict[asyncio.Task[Any], asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._aged: set[asyncio.Task[Any]] = set()

    async def run(self, handler: Handler, call: Call, body: bytes, receive: Receive) -> Response | None:
        """Answer the call; None when the caller left meanwhile."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine that runs has a task)
        self._waiting[task] = receive
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._look)
        try:
            return await handler.answered(call, body)
        except asyncio.CancelledError:
            watcher = self._watchers.get(task)
            if watcher is None or not watcher.done() or task.uncancel():
                raise
            return None
        finally:
            del self._waiting[task]
            watcher = self._watchers.pop(task, None)
            if watcher is not None:
                watcher.cancel()

    def _look(self) -> None:
        """Start watchers for requests that were waiting at the last look already."""
        for task in self._aged:
            if task in self._waiting and task not in self._watchers:
                watcher = asyncio.ensure_future(_until_left(self._waiting[task], task))
                self._watchers[task] = watcher
        self._aged = set(self._waiting)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_WATCH_AFTER_S, self._look) if self._waiting else None


async def _until_left(receive: Receive, task: asyncio.Task[Any]) -> None:
    message = await receive()
    if message["type"] == "http.disconnect":
        task.cancel()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
