"""Every path that is answered, with its method, the permission that it takes, and the function that answers."""

from typing import NamedTuple

__all__ = ["ROUTES", "Route"]


class Route(NamedTuple):
    """One line of the table.

    Parameters
    ----------
    method
        ``GET`` (answers ``HEAD`` as well) or ``POST``.
    path
        Template; ``{integration}`` and ``{version}`` stand for what is served.
    permission
        What a token must grant; None is open to everyone (health alone).
    function
        Name of the method that answers, of the handler, or (without underscore) of its management.
    """

    method: str
    path: str
    permission: str | None
    function: str


ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/{integration}/predict", "predict", "_predict"),
    Route("POST", "/v2/models/{integration}/infer", "predict", "_infer"),
    Route("POST", "/v2/models/{integration}/versions/{version}/infer", "predict", "_infer"),
    Route("GET", "/v1/{integration}/pipeline", "read", "pipeline"),
    Route("GET", "/v2/models/{integration}/ready", "read", "_model_ready"),
    Route("GET", "/v2/models/{integration}/versions/{version}/ready", "read", "_model_ready"),
    Route("GET", "/v2/models/{integration}", "read", "_model_metadata"),
    Route("GET", "/v2/models/{integration}/versions/{version}", "read", "_model_metadata"),
    Route("GET", "/v2/models/{integration}/stats", "read", "model_statistics"),
    Route("GET", "/v2/models/{integration}/versions/{version}/stats", "read", "model_statistics"),
    Route("GET", "/v2/models/stats", "read", "statistics"),
    Route("POST", "/v2/repository/index", "read", "index"),
    Route("POST", "/v2/repository/models/{integration}/load", "operate", "load"),
    Route("POST", "/v2/repository/models/{integration}/unload", "operate", "unload"),
    Route("GET", "/v2", "read", "_server_metadata"),
    Route("GET", "/v2/health/live", None, "_live"),
    Route("GET", "/v2/health/ready", None, "_ready"),
    Route("GET", "/openapi.json", "read", "_openapi"),
    Route("GET", "/docs", "read", "_docs"),
    Route("GET", "/metrics", "read", "metrics"),
    Route("GET", "/", "read", "_home"),
)
