"""The prediction path and its HTTP face, both without a transport, and the ASGI front."""

from brownfield.serving.gateway.answer import Answer
from brownfield.serving.gateway.asgi import asgi_app
from brownfield.serving.gateway.causes import Unanswered
from brownfield.serving.gateway.dataplane import Dataplane
from brownfield.serving.gateway.handler import Handler
from brownfield.serving.gateway.http import Door
from brownfield.serving.gateway.http_limits import HttpLimits
from brownfield.serving.gateway.latency import Split, Stage
from brownfield.serving.gateway.messages import Limits, Response
from brownfield.serving.gateway.origins import Origins
from brownfield.serving.gateway.pipeline import PipelineStatus
from brownfield.serving.gateway.routes import ROUTES, Route
from brownfield.serving.gateway.served import Served, Snapshot, Version

__all__ = [
    "ROUTES",
    "Answer",
    "Dataplane",
    "Door",
    "Handler",
    "HttpLimits",
    "Limits",
    "Origins",
    "PipelineStatus",
    "Response",
    "Route",
    "Served",
    "Snapshot",
    "Split",
    "Stage",
    "Unanswered",
    "Version",
    "asgi_app",
]
