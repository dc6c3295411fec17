"""Messages between processes: told in order, asked and answered, refused when the other side has gone or is silent."""

import asyncio
import socket

import pytest

from brownfield.errors import NotFound, Unavailable
from brownfield.serving import fleet as fleets
from brownfield.serving.fleet import Fleet, Gateway
from brownfield.serving.link import Link


async def linked(on_asked=None, told=None):
    """Two ends of a link, both running; the second answers."""

    async def nothing(_subject, _content):
        return None

    ends = []
    for each, answer in zip(socket.socketpair(), (nothing, on_asked or nothing), strict=True):
        reader, writer = await asyncio.open_unix_connection(sock=each)
        on_told = (told if told is not None else []).append
        link = Link(reader, writer, on_told=lambda *what, on_told=on_told: on_told(what), on_asked=answer)
        ends.append((link, asyncio.create_task(link.run())))
    return ends


async def closed(ends):
    """End both."""
    for link, task in ends:
        link.close()
        await task


def test_what_is_told_arrives_in_order_and_what_is_asked_is_answered():
    """Content is whatever msgpack can say; answers find whoever asked."""

    async def run():
        async def double(_subject, content):
            await asyncio.sleep(0.01 * (3 - content))  # the last asked is the first answered
            return 2 * content

        told = []
        ends = await linked(double, told)
        one = ends[0][0]
        for n in range(3):
            one.tell("n", {"n": n})
        answers = await asyncio.gather(*(one.ask("double", n) for n in range(3)))
        await closed(ends)
        return told, answers

    told, answers = asyncio.run(run())
    assert told == [("n", {"n": n}) for n in range(3)]
    assert answers == [0, 2, 4]


@pytest.mark.parametrize("error", [NotFound("no such model"), ValueError("no such model")])
def test_a_refusal_comes_back_in_words(error, caplog):
    """One of ours with its text; another as its class alone, and logged."""

    async def run():
        async def refuse(_subject, _content):
            raise error

        ends = await linked(refuse)
        with pytest.raises(Unavailable, match="no such model" if isinstance(error, NotFound) else "ValueError"):
            await ends[0][0].ask("x")
        await closed(ends)

    asyncio.run(run())
    assert len(caplog.records) == (0 if isinstance(error, NotFound) else 1)


def test_who_asks_one_that_goes_is_refused():
    """At once, and from then on."""

    async def run():
        never = asyncio.Event()

        async def wait(_subject, _content):
            await never.wait()

        ends = await linked(wait)
        asked = asyncio.create_task(ends[0][0].ask("x"))
        await asyncio.sleep(0.01)
        ends[1][0].close()
        with pytest.raises(Unavailable, match="gone"):
            await asked
        with pytest.raises(Unavailable, match="gone"):
            await ends[0][0].ask("x")
        ends[0][0].tell("x")  # lost, and no error
        await closed(ends)

    asyncio.run(run())


def test_what_was_asked_is_done_though_who_asked_has_gone():
    """A gateway that is killed leaves no model half loaded or half unloaded."""

    async def run():
        begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def move(_subject, _content):
            begun.set()
            await go_on.wait()
            done.set()

        ends = await linked(move)
        asked = asyncio.create_task(ends[0][0].ask("unload"))
        await begun.wait()
        await closed(ends)
        with pytest.raises(Unavailable, match="gone"):
            await asked
        go_on.set()
        async with asyncio.timeout(1):
            await done.wait()

    asyncio.run(run())


def test_a_gateway_may_take_long_to_prepare_a_reload(monkeypatch):
    """A fallback table of half a million rows takes longer to read than anything else a gateway is told to do."""
    monkeypatch.setattr(fleets, "_ACKNOWLEDGED_WITHIN_S", 0.05)

    async def run():
        async def prepare(_subject, _content):
            await asyncio.sleep(0.3)

        ends = await linked(prepare)
        fleet = Fleet(on_here=lambda _: None, on_told=lambda *_: None, on_asked=prepare)
        fleet.gateways.append(Gateway(ends[0][0], 0, 1, "d"))
        await fleet.require_all("prepare")
        assert not await fleet.tell(fleet.gateways[0], "plan")
        await closed(ends)

    asyncio.run(run())


@pytest.mark.full
def test_a_gateway_that_answers_nothing_is_silent():
    """One that only takes its time is not, and one that has gone is not among them."""

    async def run():
        never = asyncio.Event()

        async def nothing(_subject, _content):
            await never.wait()

        async def answer(_subject, _content):
            await asyncio.sleep(0.05)

        here, both = [], asyncio.Event()

        def welcome(gateway):
            here.append(gateway)
            if len(here) == 2:
                both.set()

        fleet = Fleet(on_here=welcome, on_told=lambda *_: None, on_asked=answer)
        ends, serving = [], []
        for index, mine in enumerate((answer, nothing)):
            ours, theirs = socket.socketpair()
            serving.append(asyncio.create_task(fleet.connected(*await asyncio.open_unix_connection(sock=ours))))
            reader, writer = await asyncio.open_unix_connection(sock=theirs)
            link = Link(reader, writer, on_told=lambda *_: None, on_asked=mine)
            ends.append((link, asyncio.create_task(link.run())))
            link.tell("here", {"gateway": index, "pid": 1, "declaration": "d"})
        await both.wait()
        silent = [each.index for each in await fleet.silent(4.0)]
        await closed(ends)
        await asyncio.gather(*serving)
        return silent, fleet.gateways

    silent, left = asyncio.run(run())
    assert silent == [1]
    assert left == []
