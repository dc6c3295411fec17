"""A lookup that requests ask by key, over HTTP or SOAP: with a deadline, a memory, and the way out of its chain.

A request never waits for a service longer than the place's deadline and its own; what was not asked by then is not
asked any more. While the service is out of use, nothing is asked, and one probe at a time looks whether it is back.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline import Endpoint, Failover, Policy, Standing, State, bind_endpoint, form_of, of_key
from brownfield.data.sources import BudgetSpent
from brownfield.errors import BrownfieldError, SourceUnavailable
from brownfield.integration import HttpConnection
from brownfield.serving.gateway.enrich import Found

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from brownfield.data.sources import HttpClient
    from brownfield.integration import EnrichSpec, IntegrationSpec, WorkspaceSpec
    from brownfield.types import Columns

__all__ = ["PointLookup"]

_log = logging.getLogger(__name__)

_MOST_KEYS = 10_000
"""Answers that are remembered."""
_MOST_ASKED = 64
"""Keys of one request that are asked for; the others are missing."""
_IDLE_S = 15.0
"""Time for which connections are kept that nobody uses: runs and other gateways have the same budget."""
_RENEW_S = 60.0
"""Time after which connections are made anew."""
_NOTHING: Mapping[str, Any] = {}


class _Known(NamedTuple):
    """What was answered for a key, and when it was asked."""

    values: Mapping[str, Any] | None
    asked_utc: datetime


class _Service:
    """One service as this process asks it: one set of connections and threads for every lookup that does.

    A lookup that was declared anew takes over from the one before, whose connections would keep it out. Of several
    gateways each has its share of the connections; where there is not one for each, none is kept between requests.
    """

    def __init__(self, client: "HttpClient", options: HttpConnection, gateways: int) -> None:
        share = options.budget.max_connections // gateways
        self.client = client
        self.client.keep_open = share > 0
        self.options = options
        self.threads = ThreadPoolExecutor(max(share, 1), thread_name_prefix=f"lookup-{client.name}")
        self.begun_s: dict[int, float] = {}
        self.users = 0
        self._rest: asyncio.TimerHandle | None = None
        self._renew_at_s = 0.0

    def close(self) -> None:
        """End what is kept open, with the last who uses it."""
        with _sharing:
            self.users -= 1
            if self.users:
                return
        self.client.keep_open = False
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    def rest(self) -> None:
        """Give connections back that nobody uses, and now and then all: where a service is may have changed."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._rest is not None:
            self._rest.cancel()
        self._rest = loop.call_later(_IDLE_S, self.client.close)
        self._renew_at_s = self._renew_at_s or now_s + _RENEW_S
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + _RENEW_S
            self.client.close()

    def reach(self, timeout_s: float) -> None:
        """Look whether it can be reached; what was kept open must not use up the connections for that."""
        self.client.close()
        self.client.reach(timeout_s)


_services: dict[tuple["Path", str], _Service] = {}
_sharing = threading.Lock()


def _shared(client: "HttpClient", options: HttpConnection, folder: "Path", gateways: int) -> _Service:
    """Give the service that is asked already under this declaration, else one of this client; each use is closed."""
    with _sharing:
        service = _services.get((folder, client.name))
        if service is None or not service.users or service.options != options:
            service = _services[folder, client.name] = _Service(client, options, gateways)
        elif service.options is not options:
            service.client.close()  # after a reload it may be elsewhere
        service.users += 1
        return service


class PointLookup:
    """One lookup of one integration.

    Parameters
    ----------
    integration, declared
        Whose, and the declared join.
    workspace
        With its connections, and as many gateways as ask.
    keep_s
        How long an answer is as good as a new one.
    old_s
        How long it is good enough while the service is gone.
    clock
        The system's unless given.
    """

    def __init__(
        self,
        integration: "IntegrationSpec",
        declared: "EnrichSpec",
        workspace: "WorkspaceSpec",
        keep_s: float,
        old_s: float,
        clock: Clock | None = None,
    ) -> None:
        self.name = declared.source
        source = integration.sources[declared.source]
        self._where = f"{integration.name}.{declared.source}"
        self._keys = source.keys
        self._take = declared.take
        self._schema = integration.contract.schema(declared.source)
        nothing = pa.RecordBatch.from_pylist([], self._schema.arrow)
        self._schema.batches.check(nothing, {})  # compiled now, so that no request waits for it
        self._keep = timedelta(seconds=keep_s)
        self._old = timedelta(seconds=old_s)
        self._clock = clock or SystemClock()
        self._known: dict[tuple[Any, ...], _Known] = {}
        self._places: list[tuple[Endpoint, float, _Service]] = []
        for place in source.chain:
            if place.endpoint is None:
                continue
            options = workspace.connections[place.connection or ""].options
            assert isinstance(options, HttpConnection)  # noqa: S101 (the loader saw that they fit)
            form = form_of(integration, place)
            folder = integration.folder.parents[1]
            endpoint = bind_endpoint(place.connection or "", options, folder, place.endpoint, form)
            service = _shared(endpoint.client, options, folder, workspace.serving.gateways)
            deadline_s = (place.deadline_ms or options.budget.timeout_ms) / 1_000
            self._places.append((replace(endpoint, client=service.client), deadline_s, service))
        states = [State.REPLICA if index else State.PRIMARY for index in range(len(self._places))]
        if source.chain[-1].is_last_resort:
            states.append(State.FALLBACK)
        self._failover = Failover(states, Policy(**msgspec.structs.asdict(source.failover)))
        self._standing = Standing()
        self._probing: asyncio.Task[None] | None = None
        self._fair_s = integration.fallback.deadline_ms / 1_000
        self._closed = False

    async def find(self, keys: "Columns", rows: int, timeout_s: float) -> Found:  # noqa: ARG002 (one signature)
        """Look keys up: remembered answers first, then the service (:class:`ServedLookup`)."""
        wanted = list(zip(*(keys[name] for name in self._keys), strict=True))
        now_utc = self._clock.now_utc()
        self._look_for_better()
        remembered = {key: self._known.get(key) for key in wanted}  # what is forgotten meanwhile is known here
        missing = [
            key for key, known in remembered.items() if None not in key and not _is_good(known, now_utc, self._keep)
        ]
        if missing and timeout_s > 0 and self._standing.place < len(self._places):
            await self._ask_all(missing[:_MOST_ASKED], timeout_s)
        columns: dict[str, list[Any]] = {name: [] for name in self._take}
        moments: list[datetime | None] = []
        reasons = []
        now_utc = self._clock.now_utc()
        for key in wanted:
            known = self._known.get(key) or remembered[key]
            known = known if _is_good(known, now_utc, self._old) else None
            for name in self._take:
                columns[name].append((_NOTHING if known is None else known.values or _NOTHING).get(name))
            moments.append(None if known is None else known.asked_utc)
            gone = None in key or (known is not None and known.values is None)
            reasons.append("no_match" if gone else "unavailable" if known is None else "")
        return Found(str(self._failover.state(self._standing)), moments, columns, reasons)

    def close(self) -> None:
        """End what is kept open; from any thread."""
        if self._closed:
            return
        self._closed = True
        if self._probing is not None:
            with suppress(RuntimeError):  # the loop of its requests has ended, and the probes with it
                self._probing.get_loop().call_soon_threadsafe(self._probing.cancel)
        for *_, service in self._places:
            service.close()

    async def _ask_all(self, keys: "list[tuple[Any, ...]]", timeout_s: float) -> None:
        """Ask for keys at one time, each before the deadline of the place and of the request.

        What has not begun by then is not asked. What has begun is given the time that a request has which comes for it
        alone, and is judged then: a place is to blame neither for the keys before, nor for who has little time.
        """
        number = self._standing.place
        _, deadline_s, service = self._places[number]
        ask_s = min(deadline_s, max(timeout_s, self._fair_s))
        asked: list[Future[None]] = []
        with suppress(RuntimeError):  # it is closed, and nothing is asked any more
            asked.extend(service.threads.submit(self._ask, number, key, ask_s) for key in keys)
        ended = asyncio.gather(*map(asyncio.wrap_future, asked), return_exceptions=True)
        ended.add_done_callback(partial(self._judge, number))
        try:
            await asyncio.wait([ended], timeout=min(deadline_s, timeout_s))
        finally:
            for each in asked:
                each.cancel()
        service.rest()
        if not ended.done() and self._hangs(service, ask_s):
            self._failed(number, "it is late")

    def _judge(self, number: int, ended: "asyncio.Future[list[BaseException | None]]") -> None:
        """Count a failure when a place failed for a request; keys that it was not asked for say nothing.

        Nor does a budget of ours that is spent: then it was not asked either.
        """
        failures = [
            each for each in ended.result() if isinstance(each, Exception) and not isinstance(each, BudgetSpent)
        ]
        if failures:
            self._failed(number, str(failures[0]))

    def _hangs(self, service: _Service, ask_s: float) -> bool:
        """Whether an ask takes far longer than it may: so does a name that nobody resolves."""
        return self._now_s() - min([*service.begun_s.values()], default=self._now_s()) > 2 * ask_s

    def _failed(self, number: int, reason: str) -> None:
        if number == self._standing.place:
            self._move(self._failover.failed(self._standing, self._now_s()), reason)

    def _ask(self, number: int, key: tuple[Any, ...], timeout_s: float) -> None:
        """Ask for one key, in a thread of its own, and remember the answer; not what others have asked meanwhile."""
        asked_utc = self._clock.now_utc()
        if number != self._standing.place or _is_good(self._known.get(key), asked_utc, self._keep):
            return
        endpoint, _, service = self._places[number]
        service.begun_s[threading.get_ident()] = self._now_s()
        try:
            values = self._answer(endpoint, key, timeout_s)
        except BrownfieldError:
            raise
        except Exception as error:
            raise SourceUnavailable(f"it cannot be asked ({type(error).__name__})", where=self._where) from error
        finally:
            del service.begun_s[threading.get_ident()]
        if len(self._known) >= _MOST_KEYS:
            for old in list(self._known)[: _MOST_KEYS // 10]:
                self._known.pop(old, None)
        self._known.pop(key, None)  # the oldest answers stand first
        self._known[key] = _Known(values, asked_utc)

    def _answer(self, endpoint: Endpoint, key: tuple[Any, ...], timeout_s: float) -> Mapping[str, Any] | None:
        """Give what is taken of the record of a key; None where there is no record."""
        named = dict(zip(self._keys, key, strict=True))
        values: Mapping[str, Any] | None = None
        for decoded in endpoint.ask(named, self._schema.arrow, timeout_s):
            accepted = self._schema.batches.check(of_key(decoded, named, self._where).batch, {}).accepted
            if decoded.rejects or accepted.num_rows != 1:
                raise SourceUnavailable("its record breaks the contract", where=self._where)
            values = accepted.select(list(self._take)).to_pylist()[0]
        return values

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _move(self, standing: Standing, reason: str) -> None:
        was, now = self._failover.state(self._standing), self._failover.state(standing)
        self._standing = standing
        if was != now:
            _log.log(
                logging.INFO if now == State.PRIMARY else logging.WARNING,
                "a lookup changed its state",
                extra={"event": "BF-LKP-STATE", "source": self._where, "was": was, "now": now, "reason": reason},
            )

    def _look_for_better(self) -> None:
        """Begin to probe the better places when it is time, one at a time."""
        if self._closed or (self._probing is not None and not self._probing.done()):
            return
        if self._failover.may_return(self._standing, self._now_s()):
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        policy = self._failover.policy
        while self._standing.place > 0:
            answered = None
            for number, (_, deadline_s, service) in enumerate(self._places[: self._standing.place]):
                try:
                    await asyncio.to_thread(service.reach, deadline_s)
                except Exception:  # noqa: BLE001, S112 (any failure means: not yet)
                    continue
                answered = number
                break
            self._move(self._failover.probed(self._standing, answered, self._now_s()), "it answers again")
            spacing_s = max(policy.cool_down_s / policy.good_probes, 0.05)
            await asyncio.sleep(spacing_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)


def _is_good(known: _Known | None, now_utc: datetime, longest: timedelta) -> bool:
    """Whether an answer is there, neither too old, nor of a time that has not come."""
    return known is not None and timedelta() <= now_utc - known.asked_utc <= longest
