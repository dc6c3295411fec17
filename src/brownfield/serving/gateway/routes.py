"""Every path that is answered, with its method, the permission that it takes, and the function that answers."""

from typing import TYPE_CHECKING, NamedTuple

from brownfield.errors import NotFound

if TYPE_CHECKING:
    from brownfield.serving.gateway.served import Served, Snapshot

__all__ = ["HEALTH", "ROUTES", "Route", "not_found", "paths_of"]


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


HEALTH = tuple(route for route in ROUTES if route.permission is None)
"""What a listener for health alone answers."""

_NAMING = (b"/v1/", b"/v2/models/", b"/v2/repository/models/")


def paths_of(template: str, snapshot: "Snapshot") -> "list[tuple[str, Served | None]]":
    """Every concrete path of a template: exact paths leave nothing to be tricked by."""
    if "{integration}" not in template:
        return [(template, None)]
    paths: list[tuple[str, Served | None]] = []
    for served in snapshot.integrations.values():
        path = template.replace("{integration}", served.name)
        versions = served.versions if "{version}" in path else [""]
        paths += [(path.replace("{version}", version), served) for version in versions]
    return paths


def not_found(path: bytes, snapshot: "Snapshot") -> NotFound:
    """Say what of a path there is not: the integration, the version of one, or the path itself."""
    kind, name, rest = _named(path)
    served = snapshot.integrations.get(name)
    if name and served is None:
        return NotFound("there is no integration of that name", next_step="The page /docs lists what is served.")
    asked = rest[1] if kind == b"/v2/models/" and rest[:1] == ["versions"] and rest[1:] else ""
    if served is not None and asked and asked not in served.versions:
        return NotFound("this version is not served", next_step=f"Served now: {', '.join(served.versions) or 'none'}.")
    return NotFound("there is nothing at this path", next_step="The page /docs lists what is served.")


def _named(path: bytes) -> tuple[bytes, str, list[str]]:
    """Give the kind of a path that names an integration, its name, and what comes behind; in others nothing."""
    for kind in _NAMING:
        if path.startswith(kind):
            name, *rest = path[len(kind) :].decode("latin-1").split("/")
            return kind, name, rest
    return b"", "", []
