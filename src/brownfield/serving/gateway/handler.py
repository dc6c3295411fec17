"""Requests to answers without a transport: one table says which path, method and permission leads to which function.

A front calls :meth:`Handler.open` when it has the header fields and :meth:`Handler.answer` when it has the body.
Everything is denied that the table does not name: first who asks, then what for.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from brownfield import __version__
from brownfield.clock import Clock, SystemClock
from brownfield.errors import BrownfieldError, InputRefused, NotFound
from brownfield.serving.gateway import enrich, named, pages, v2, v2_answers, wishes
from brownfield.serving.gateway.answer import Answer
from brownfield.serving.gateway.asks import Ask
from brownfield.serving.gateway.calls import Call, Reply
from brownfield.serving.gateway.dataplane import Dataplane
from brownfield.serving.gateway.latency import Split, Stage
from brownfield.serving.gateway.management import Management
from brownfield.serving.gateway.messages import Headers, Limits, Response
from brownfield.serving.gateway.metrics import HttpMeter, exposition
from brownfield.serving.gateway.openings import JSON_LENGTH_HEADER, Bound, Opening, check_head, too_large, too_many_rows
from brownfield.serving.gateway.origins import Origins
from brownfield.serving.gateway.pressure import Pressure
from brownfield.serving.gateway.problem import MethodNotAllowed, problem, v2_error
from brownfield.serving.gateway.rounds import Verdict
from brownfield.serving.gateway.routes import ROUTES, Route, not_found, paths_of
from brownfield.serving.gateway.shedding import refuse_unread
from brownfield.serving.gateway.statistics import begin_statistics, model_statistics

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from brownfield.contract import Checked
    from brownfield.serving.gateway.backstage import Backstage
    from brownfield.serving.gateway.served import Served, Snapshot
    from brownfield.serving.gateway.wishes import Caller

__all__ = ["Authorize", "Handler"]

_log = logging.getLogger(__name__)


class Authorize(Protocol):
    """Lets a request in, or raises Unauthenticated or Forbidden."""

    def __call__(self, authorization: bytes | None, permission: str, *, peer: str | None) -> "Caller | None":
        """Check an Authorization header for a permission; ``peer`` is the caller's address."""
        ...


_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_V2: Final = b"/v2"
_ASK: Final = Verdict.ASK
_REFUSE: Final = Verdict.REFUSE
_MOST_OPENINGS: Final = 1024
_LOOK_EVERY_NS: Final = 500_000  # in a long turn: for answers of the model
_NETWORK_IN: Final = int(Stage.NETWORK_IN)
_VALIDATE: Final = int(Stage.VALIDATE)
_SERIALIZE: Final = int(Stage.SERIALIZE)


class Handler:
    """The HTTP face of a data plane, without HTTP.

    Parameters
    ----------
    dataplane
        Answers predictions; its snapshot says what is served.
    authorize
        Checks the Authorization header for a permission; None lets everyone in (loopback only).
    origins
        Refuses what foreign pages make a browser send; None where every request needs a token.
    limits
        Longest body and most records.
    title
        Name of the workspace, for people.
    backstage
        The process behind the gateways; without one a gateway tells of itself alone, and loads and unloads nothing.
    routes
        What it answers; all by default.

    Attributes
    ----------
    starting
        Whether models are still being loaded for the first time: not ready, though answered for by fallbacks.
    encrypted
        Whether its door speaks TLS, for the calls that people copy.
    """

    def __init__(  # noqa: PLR0913 (what a face is made of)
        self,
        dataplane: Dataplane,
        *,
        authorize: Authorize | None = None,
        origins: Origins | None = None,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        title: str = "brownfield",
        clock: Clock | None = None,
        backstage: "Backstage | None" = None,
        routes: Sequence[Route] = ROUTES,
    ) -> None:
        self.dataplane = dataplane
        self._routes = routes
        self.backstage = backstage
        self.starting = self.encrypted = False
        self.limits = limits
        self.title = title
        self.http = HttpMeter()
        self.draining = False
        self.in_flight = 0
        self.authorize = authorize
        self.origins = origins
        self.now_ns = (clock or SystemClock()).monotonic_ns
        self.pressure = Pressure(self.now_ns)
        self._index: dict[bytes, dict[str, Bound]] = {}
        self._openings: dict[object, Opening] = {}
        self._management = Management(self)
        self._late: set[asyncio.Task[None]] = set()
        self._looked_ns = 0
        self.publish(dataplane.snapshot)

    def publish(self, snapshot: "Snapshot") -> None:
        """Serve another snapshot from the next request on; running ones end on the one they began with."""
        index: dict[bytes, dict[str, Bound]] = {}
        for route in self._routes:
            function = getattr(self if route.function.startswith("_") else self._management, route.function)
            for path, served in paths_of(route.path, snapshot):
                index.setdefault(path.encode(), {})[route.method] = Bound(route.permission, function, served)
        self.dataplane.telling.settle()
        for served in snapshot.integrations.values():
            begin_statistics(served)
        self.dataplane.snapshot = snapshot
        self._index = index
        self._openings = {}

    def open(
        self,
        method: str,
        path: bytes,
        headers: Headers,
        *,
        peer: str | None = None,
        started_ns: int = 0,
        head: object = None,
    ) -> Call | Response:
        """Admit a request by its header fields alone.

        Parameters
        ----------
        method
            As it came.
        path
            Raw path without the query, exactly as it came (percent signs and all).
        headers
            Fields by lower-case name.
        peer
            Address of the caller, where it is known: guessing tokens is bounded by it.
        started_ns
            Monotonic time of the first byte, where the head did not come at once; now by default.
        head
            Stands for method, path and headers, where they are those of an earlier request: the same object for each.

        Returns
        -------
        Call or Response
            A call to be answered with the body, or the refusal.
        """
        now_ns = self.now_ns()
        split = Split(started_ns or now_ns)
        opening = self._openings.get(head)
        caller = None
        try:
            if opening is None:
                opening, caller = self._opening(method, path, headers, peer)
                if head is not None:
                    self._keep(head, opening)
            elif opening.bound.permission is not None and self.authorize is not None:
                caller = self.authorize(opening.authorization, opening.bound.permission, peer=peer)
        except BrownfieldError as error:
            return self._refusal(error, path, split)
        bound = opening.bound
        served = bound.served
        if served is not None and bound.permission == "predict":
            priority = opening.priority(served, caller)
            name = caller.name if caller is not None else ""
            verdict = self.pressure.judge(now_ns, served.deadline_ns, priority, name, self.in_flight)
            if verdict is not _ASK:
                served.meter.shed(priority)
                if verdict is _REFUSE or not served.fallbacks:
                    return self._refuse_unread(served, split, path)
                call = Call(opening, split, caller)
                call.shed = True
                return call
        return Call(opening, split, caller)

    def _refuse_unread(self, served: "Served", split: Split, path: bytes) -> Response:
        split.mark(Stage.ADMISSION, self.now_ns())
        decision, response = refuse_unread(served, split, v2=path.startswith(_V2))
        self.dataplane.telling.keep(served, (decision, split, 0, None))
        look = split.last_ns - self._looked_ns > _LOOK_EVERY_NS
        if look:
            self._looked_ns = split.last_ns
        self.dataplane.hurry(served, look=look)
        self.http.observe(response.status)
        return response

    def answer(self, call: Call, body: bytes, reply: Reply) -> None:
        """Answer an admitted request with its body: ``reply`` is told once, now or later, unless it is cancelled."""
        call.reply = reply
        split, now_ns = call.split, self.now_ns()
        split.parts_ns[_NETWORK_IN] = now_ns - split.last_ns
        split.last_ns = now_ns
        self.in_flight += 1
        try:
            response = call.opening.bound.function(call, body)
        except Exception as error:  # noqa: BLE001 (the last barrier)
            self._fail(call, error)
        else:
            if response is not None:
                self._reply(call, response)
        long = now_ns - self.pressure.began_ns > _LOOK_EVERY_NS and now_ns - self._looked_ns > _LOOK_EVERY_NS
        if long and call.served is not None:  # a long turn of the loop: give what the models have answered meanwhile
            self._looked_ns = now_ns
            self.dataplane.hurry(call.served, look=True)

    def cancel(self, call: Call) -> None:
        """Forget a call that was not answered yet: its caller has left; what a coroutine does for it goes on."""
        if call.cancel():
            self.in_flight -= 1

    async def answered(self, call: Call, body: bytes) -> Response:
        """Answer an admitted request, for fronts that are coroutines."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.answer(call, body, lambda response: None if future.done() else future.set_result(response))
        try:
            return await future
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():
                self.cancel(call)
            raise

    async def handle(self, method: str, path: bytes, headers: Headers, body: bytes) -> Response:
        """Open and answer in one: for fronts that have the whole request at hand."""
        opened = self.open(method, path, headers)
        if isinstance(opened, Response):
            return opened
        if len(body) > self.limits.body_bytes:
            return self.too_large(opened)
        return await self.answered(opened, body)

    def refuse(self, error: BrownfieldError, path: bytes = b"", started_ns: int = 0) -> Response:
        """Refuse for a front what it refuses itself, in the words of the path (V2 or problem), and count it."""
        return self._refusal(error, path, Split(started_ns or self.now_ns()))

    def too_large(self, call: Call) -> Response:
        """Refuse a call whose body turned out longer than the cap."""
        error = too_large(self.limits.body_bytes)
        _count_refusal(call.served, error)
        return self._refusal(error, call.opening.path, call.split)

    def _opening(self, method: str, path: bytes, headers: Headers, peer: str | None) -> "tuple[Opening, Caller | None]":
        """Who answers, and who asks; authentication comes before everything that a stranger could learn from."""
        if self.origins is not None:
            self.origins.check(headers)
        methods = self._index.get(path)
        bound = methods.get("GET" if method == "HEAD" else method) if methods else None
        permission = bound.permission if bound else "read"
        caller = None
        if permission is not None and self.authorize is not None:
            caller = self.authorize(headers.get(b"authorization"), permission, peer=peer)
        if bound is not None:
            try:
                check_head(headers, self.limits.body_bytes, is_v2=permission == "predict" and path.startswith(_V2))
            except InputRefused as error:
                _count_refusal(bound.served, error)
                raise
            return Opening(bound, path, headers), caller
        if methods:
            raise MethodNotAllowed(", ".join(_allowed(methods)))
        raise not_found(path, self.dataplane.snapshot)

    def _keep(self, head: object, opening: Opening) -> None:
        if len(self._openings) >= _MOST_OPENINGS:
            self._openings.clear()
        self._openings[head] = opening

    def _refusal(self, error: BrownfieldError, path: bytes, split: Split) -> Response:
        response = v2_error(error) if path.startswith(_V2) else problem(error)
        split.mark(_VALIDATE, self.now_ns())
        self._finish(response, split)
        return response

    def _reply(self, call: Call, response: Response) -> None:
        split, now_ns = call.split, self.now_ns()
        split.parts_ns[_SERIALIZE] += now_ns - split.last_ns
        split.last_ns = now_ns
        self._finish(response, split)
        self.in_flight -= 1
        call.reply(response)

    def _fail(self, call: Call, error: Exception) -> None:
        """Refuse in the caller's protocol; a failure of ours becomes one logged 500."""
        if isinstance(error, InputRefused):
            _count_refusal(call.served, error)
        elif not isinstance(error, BrownfieldError):
            _log.error("a request failed", exc_info=error, extra={"event": "BF-GTW-REQUEST-FAILED"})
            error = BrownfieldError(type(error).__name__)
        if call.ask is not None:  # it failed on its way to the model: nobody is to answer it any more
            call.ask.cancel()
            call.ask = None
        self.in_flight -= 1
        call.reply(self._refusal(error, call.opening.path, call.split))

    def later(self, call: Call, answer: "Coroutine[Any, Any, Response]") -> None:
        """Reply when a coroutine has the answer; callers of the prediction path do not wait for it."""
        task = asyncio.get_running_loop().create_task(self._reply_later(call, answer))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _reply_later(self, call: Call, answer: "Coroutine[Any, Any, Response]") -> None:
        try:
            response = await answer
        except Exception as error:  # noqa: BLE001 (the last barrier)
            self._fail(call, error)
        else:
            self._reply(call, response)

    def _finish(self, response: Response, split: Split) -> None:
        response.headers.append((b"server-timing", split.header()))
        self.http.observe(response.status)

    # --- predictions ---

    def _predict(self, call: Call, body: bytes) -> None:
        served = _served(call)
        checked = named.decode(served, call.opening.headers, body, self.limits.rows)
        self._ask(call, served, checked)

    def _infer(self, call: Call, body: bytes) -> None:
        served = _served(call)
        request, checked = v2.decode(served, call.opening.json_length, body, self.limits.rows)
        call.request = request
        if request.parameters:
            self._ask(call, served, checked, request.timeout_us * 1000, request.priority)
        else:
            self._ask(call, served, checked)

    def _ask(self, call: Call, served: "Served", checked: "Checked", timeout_ns: int = 0, priority: int = 0) -> None:
        if checked.rows > self.limits.rows:
            raise too_many_rows(self.limits.rows)
        split, now_ns = call.split, self.now_ns()
        split.parts_ns[_VALIDATE] = now_ns - split.last_ns
        split.last_ns = now_ns
        opening, caller = call.opening, call.caller
        call.ask = ask = Ask(served, checked, split, 0, self._answered, call)
        ask.fresh = opening.fresh
        ask.priority = opening.priority(served, caller)
        if caller is not None:
            ask.caller = caller.name
        if opening.has_wishes or timeout_ns or priority:
            wishes.apply(ask, opening.headers, timeout_ns, priority)
        if call.shed:
            self.dataplane.fall_back(ask, "overload")  # the model is not asked: there is too much to do
        else:
            self.dataplane.ask(ask)

    def _answered(self, ask: Ask, result: Answer | BrownfieldError) -> None:
        call: Call = ask.context
        call.ask = None
        if isinstance(result, BrownfieldError):
            self._fail(call, result)
            return
        try:
            response = _rendered(call, ask, result)
        except Exception as error:  # noqa: BLE001 (the last barrier)
            self._fail(call, error)
        else:
            self._reply(call, response)

    # --- V2 metadata and health ---

    def _server_metadata(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        return _json({"name": "brownfield", "version": __version__, "extensions": v2.EXTENSIONS})

    def _model_metadata(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        return _json(v2_answers.model_metadata(_served(call)))

    def _live(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        return _json({"live": True})

    def _ready(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        ready = not self.draining and not self.starting and self.dataplane.snapshot.ready
        return _json({"live": ready, "ready": ready}, 200 if ready else 503)

    def _model_ready(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        served = _served(call)
        ready = not self.draining and served.ready
        document = {"name": served.name, "ready": ready, "model_ready": served.model_ready}
        if served.reason:
            document["reason"] = served.reason
        return _json(document, 200 if ready else 503)

    # --- for people and monitors ---

    def _openapi(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        return _json(pages.openapi_document(self.title, self.dataplane.snapshot))

    def _docs(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        page = pages.docs_page(
            self.title,
            self.dataplane.snapshot,
            call.opening.headers.get(b"host", b""),
            encrypted=self.encrypted,
        )
        return Response(200, list(pages.PAGE_HEADERS), page.encode())

    def _home(self, call: Call, body: bytes) -> Response:  # noqa: ARG002
        return Response(307, [(b"location", b"docs")], b"")

    def own_metrics(self, further: "Iterable[str]" = ()) -> str:
        """Give the metrics of this gateway alone, and further lines, as Prometheus text."""
        self.dataplane.telling.settle()
        return exposition(self.dataplane.snapshot.integrations, self.http, further)

    def own_statistics(self) -> list[dict[str, Any]]:
        """Give the statistics of this gateway alone, an entry for each model."""
        self.dataplane.telling.settle()
        return model_statistics(self.dataplane.snapshot.integrations.values())


def _rendered(call: Call, ask: Ask, answer: Answer) -> Response:
    """Give the answer in the protocol of the call."""
    headers = [_JSON, (b"brownfield-decision", answer.decision.id.encode())]
    if answer.age_s is not None:
        headers.append((b"age", b"%d" % answer.age_s))
    if answer.lookups:
        headers.append((b"brownfield-lookups", enrich.header(answer.lookups)))
    if call.request is None:
        return Response(200, headers, named.encode(ask.checked, answer))
    payload, json_length = v2_answers.encode(ask.served, call.request, answer)
    if json_length != len(payload):
        headers[0] = _BINARY
        headers.append((JSON_LENGTH_HEADER, b"%d" % json_length))
    return Response(200, headers, payload)


def _served(call: Call) -> "Served":
    if call.served is None:
        raise NotFound("there is no integration of that name")
    return call.served


def _count_refusal(served: "Served | None", error: InputRefused) -> None:
    if served is not None:
        served.meter.refuse(violation.code for violation in error.violations)


def _json(value: object, status: int = 200) -> Response:
    return Response(status, [_JSON], msgspec.json.encode(value))


def _allowed(methods: dict[str, Bound]) -> list[str]:
    return sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
