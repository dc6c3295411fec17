"""What operators and their dashboards ask of a gateway: figures, states, and models loaded and unloaded.

All of it is answered by the manager behind the gateways, who knows of all of them; a gateway without one tells of
itself. The V2 repository and statistics extensions are spelled as Triton spells them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield.errors import InputRefused, NotFound, RejectionCode, Unavailable, Violation
from brownfield.serving.gateway.messages import Response
from brownfield.serving.gateway.metrics import CONTENT_TYPE
from brownfield.serving.gateway.pipeline import PipelineStatus
from brownfield.serving.gateway.summing import states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.serving.gateway.calls import Call
    from brownfield.serving.gateway.handler import Handler
    from brownfield.serving.gateway.served import Served

__all__ = ["Management"]

_JSON = (b"content-type", b"application/json")
_DOCUMENT = "a JSON object, or an empty body"


class Management:
    """The routes beside the prediction path.

    Parameters
    ----------
    handler
        Whose routes they are.
    """

    def __init__(self, handler: "Handler") -> None:
        self._handler = handler

    def metrics(self, call: "Call", body: bytes) -> None:  # noqa: ARG002
        """Every metric, of all gateways together."""
        self._handler.later(call, self._metrics())

    def statistics(self, call: "Call", body: bytes) -> None:  # noqa: ARG002
        """Statistics of every model."""
        self._handler.later(call, self._statistics(lambda _: True))

    def model_statistics(self, call: "Call", body: bytes) -> None:  # noqa: ARG002
        """Statistics of one model."""
        name = _name(call)
        self._handler.later(call, self._statistics(lambda each: each["name"] == name))

    def index(self, call: "Call", body: bytes) -> None:
        """Every model with its state."""
        ready = _document(body).get("ready", False)
        if not isinstance(ready, bool):
            raise InputRefused(
                [Violation("ready", "v2.parameter", RejectionCode.REQUEST_PARAMETER, 0, "true or false")],
                next_step="Send true for the models that are ready alone, or false.",
            )
        self._handler.later(call, self._index(only_ready=ready))

    def load(self, call: "Call", body: bytes) -> None:
        """Load a model by hand."""
        self._move(call, body, load=True)

    def unload(self, call: "Call", body: bytes) -> None:
        """Unload a model by hand; what is asked of it is answered by the fallback."""
        self._move(call, body, load=False)

    def pipeline(self, call: "Call", body: bytes) -> Response | None:  # noqa: ARG002
        """State of the pipeline of an integration."""
        if self._handler.backstage is None:
            return _json(PipelineStatus(state="none"))
        self._handler.later(call, _told(self._handler.backstage.pipeline(_name(call))))
        return None

    async def _metrics(self) -> Response:
        backstage = self._handler.backstage
        try:
            text = await backstage.metrics() if backstage is not None else self._handler.own_metrics()
        except Unavailable:  # the manager is being replaced
            text = self._handler.own_metrics()
            if backstage is not None and backstage.gateways > 1:
                text = states(text)  # one gateway's counts among the sums of all would be a counter that fell
        return Response(200, [(b"content-type", CONTENT_TYPE.encode())], text.encode())

    async def _statistics(self, wanted: Callable[[Mapping[str, Any]], bool]) -> Response:
        backstage = self._handler.backstage
        if backstage is not None:
            told: Sequence[Mapping[str, Any]] = await backstage.statistics()
        else:
            told = self._handler.own_statistics()
        return _json({"model_stats": [each for each in told if wanted(each)]})

    async def _index(self, *, only_ready: bool) -> Response:
        backstage = self._handler.backstage
        if backstage is not None:
            told: Sequence[Mapping[str, str]] = await backstage.index()
        else:
            told = [_row(each) for each in self._handler.dataplane.snapshot.integrations.values()]
        return _json([each for each in told if each["state"] == "READY" or not only_ready])

    def _move(self, call: "Call", body: bytes, *, load: bool) -> None:
        handler = self._handler
        parameters = _document(body).get("parameters")
        if not load and isinstance(parameters, dict):  # no model depends on another, so either choice is met
            parameters.pop("unload_dependents", None)
        if parameters:
            raise InputRefused(
                [Violation("parameters", "load", RejectionCode.REQUEST_PARAMETER, 0, "no parameters")],
                next_step="A model is loaded as it is declared; a request cannot say otherwise.",
            )
        if handler.backstage is None:
            raise Unavailable("nothing can be loaded or unloaded here", next_step="Serve the workspace.")
        move = handler.backstage.load if load else handler.backstage.unload
        handler.later(call, _told(move(_name(call), call.caller.name if call.caller is not None else "")))


async def _told(what: Awaitable[object]) -> Response:
    return _json(await what or {})


def _name(call: "Call") -> str:
    if call.served is None:
        raise NotFound("there is no integration of that name")
    return call.served.name


def _document(body: bytes) -> dict[str, Any]:
    """Read the body of a repository call: a JSON object, or nothing."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except RecursionError:
        raise InputRefused([Violation("", "json.depth", RejectionCode.JSON_DEPTH, 0, _DOCUMENT)]) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InputRefused([Violation("", "json", RejectionCode.JSON_SYNTAX, 0, _DOCUMENT)]) from None


def _row(served: "Served") -> dict[str, str]:
    version = served.champion.name if served.champion is not None else ""
    state = "READY" if served.model_ready else "UNAVAILABLE"
    return {"name": served.name, "version": version, "state": state, "reason": served.reason}


def _json(value: object) -> Response:
    return Response(200, [_JSON], msgspec.json.encode(value))
