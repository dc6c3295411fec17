"""The ASGI front, driven by hand."""

import asyncio
import json

import pytest

from brownfield.serving.gateway import Limits, asgi_app


def scope(path="/v1/till/predict", method="POST", **headers):
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": fields}


async def call(app, scope, messages):
    """Run one request with the messages of the server; what was sent, and how many messages were taken."""
    taken, sent = [], []

    async def receive():
        if len(taken) < len(messages):
            taken.append(messages[len(taken)])
            return taken[-1]
        await asyncio.Event().wait()
        return None

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent, len(taken)


def body(*parts):
    last = len(parts) - 1
    return [{"type": "http.request", "body": part, "more_body": at < last} for at, part in enumerate(parts)]


def test_a_body_in_pieces_is_one_body(handler):
    """However the server cuts it."""
    content = json.dumps({"store_id": 1, "items": ["MILK"]}).encode()
    parts = [content[at : at + 1] for at in range(len(content))]
    sent, _ = asyncio.run(call(asgi_app(handler), scope(), body(*parts)))
    assert sent[0]["status"] == 200
    assert int(dict(sent[0]["headers"])[b"content-length"]) == len(sent[1]["body"])


def test_an_over_long_body_is_refused_before_all_of_it_was_read(make_handler, served):
    """B-02: without a declared length, at the first piece beyond the cap."""
    app = asgi_app(make_handler(served, limits=Limits(body_bytes=100)))
    sent, taken = asyncio.run(call(app, scope(), body(*[b" " * 60] * 50)))
    assert sent[0]["status"] == 413
    assert taken == 2


def test_a_declared_over_long_body_is_refused_unread(make_handler, served):
    """B-02: by its header field alone."""
    app = asgi_app(make_handler(served, limits=Limits(body_bytes=100)))
    sent, taken = asyncio.run(call(app, scope(content_length="101"), body(b" " * 101)))
    assert (sent[0]["status"], taken) == (413, 0)


def test_a_stranger_is_refused_before_the_body_is_read(make_handler, served):
    """What a stranger sends costs nothing."""
    from brownfield.errors import Unauthenticated

    def nobody(header, permission, peer):
        raise Unauthenticated("no token")

    sent, taken = asyncio.run(call(asgi_app(make_handler(served, authorize=nobody)), scope(), body(b"{}")))
    assert (sent[0]["status"], taken) == (401, 0)


def test_head_has_the_length_and_no_body(handler):
    """As HTTP wants it."""
    sent, _ = asyncio.run(call(asgi_app(handler), scope("/v2", "HEAD"), body(b"")))
    assert int(dict(sent[0]["headers"])[b"content-length"]) > 10
    assert sent[1]["body"] == b""


def test_a_caller_who_leaves_while_sending_gets_no_work_done(handler, pool):
    """F-19: nothing is sent and the model is not asked."""
    messages = [*body(b"{", b"")[:1], {"type": "http.disconnect"}]
    sent, _ = asyncio.run(call(asgi_app(handler), scope(), messages))
    assert (sent, pool.calls) == ([], 0)


def test_a_caller_who_leaves_while_waiting_cancels_the_work(handler, served, pool):
    """F-19: the wait ends long before the deadline."""
    pool.delay_s = 60
    served.deadline_ns = 60_000_000_000
    content = json.dumps({"store_id": 1, "items": []}).encode()

    async def run():
        loop = asyncio.get_running_loop()
        began = loop.time()
        sent, _ = await call(asgi_app(handler), scope(), [*body(content), {"type": "http.disconnect"}])
        return sent, loop.time() - began

    sent, took_s = asyncio.run(run())
    assert sent == []
    assert took_s < 30
    assert handler.in_flight == 0
    assert served.champion.admission.waiting_rows == 0


def test_a_cancelled_server_task_stays_cancelled(handler, served, pool):
    """The watch swallows its own cancellations only."""
    pool.delay_s = 60
    served.deadline_ns = 60_000_000_000
    content = json.dumps({"store_id": 1, "items": []}).encode()

    async def run():
        task = asyncio.create_task(call(asgi_app(handler), scope(), body(content)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_while_draining_answers_ask_callers_to_go(handler):
    """They reconnect elsewhere instead of being cut off."""
    handler.draining = True
    sent, _ = asyncio.run(call(asgi_app(handler), scope("/v2", "GET"), body(b"")))
    assert dict(sent[0]["headers"])[b"connection"] == b"close"


def test_it_mounts_below_a_path(handler):
    """Starlette and others put their own prefix before ours."""
    mounted = {**scope("/models/v2", "GET"), "root_path": "/models"}
    sent, _ = asyncio.run(call(asgi_app(handler), mounted, body(b"")))
    assert sent[0]["status"] == 200


def test_lifespan_is_answered(handler):
    """Servers that ask for it start and stop."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent, _ = asyncio.run(call(asgi_app(handler), {"type": "lifespan"}, messages))
    assert [one["type"] for one in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
