"""What the workspace says about itself: the page for people under ``/docs`` and the OpenAPI document for programs.

The page is made on the server from the contracts alone, without scripts and without anything from elsewhere.
"""

import base64
import hashlib
import re
import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from brownfield import __version__
from brownfield.contract import openapi, value_expectations
from brownfield.report import STYLE, environment

if TYPE_CHECKING:
    from brownfield.contract import Field, Schema
    from brownfield.serving.gateway.served import Served, Snapshot

__all__ = ["PAGE_HEADERS", "docs_page", "example_record", "openapi_document"]

_STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::[0-9]{1,5})?")

PAGE_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Header fields of the page: nothing but its own style sheet may be applied."""


def docs_page(title: str, snapshot: "Snapshot", host: bytes, *, encrypted: bool = False) -> str:
    """Render the page of the workspace.

    Parameters
    ----------
    title
        Name of the workspace.
    snapshot
        What is served.
    host
        Host as the reader's browser names it, for the calls to copy.
    encrypted
        Whether these go over TLS.
    """
    shown = host.decode("ascii", "replace")
    address = shown if _HOST.fullmatch(shown) else "127.0.0.1:8080"
    url = f"{'https' if encrypted else 'http'}://{address}"
    integrations = [_described(served, url) for served in snapshot.integrations.values()]
    return environment().get_template("api.html").render(title=title, integrations=integrations)


def openapi_document(title: str, snapshot: "Snapshot") -> dict[str, Any]:
    """OpenAPI 3.1 document of every integration's named-fields call."""
    contracts = {name: served.contract for name, served in snapshot.integrations.items()}
    return openapi(contracts, title=title, version=__version__)


def _described(served: "Served", url: str) -> dict[str, Any]:
    body = msgspec.json.encode(example_record(served.request)).decode()
    return {
        "name": served.name,
        "purpose": served.purpose,
        "contract": served.contract.reference,
        "deadline_ms": f"{served.deadline_ms:g}",
        "state": _state(served),
        "tables": [
            _table("It takes", served.request),
            _table("It gives", served.response),
        ],
        "curl": f"curl -s {url}/v1/{served.name}/predict \\\n"
        f"  -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    }


def _state(served: "Served") -> str:
    if served.model_ready and served.champion is not None:
        return f"Model version {served.champion.name} answers."
    answering = [each.source for each in served.fallbacks if each.ready]
    if answering:
        return f"The fallback answers ({', '.join(answering)})."
    return "Nothing can answer just now."


def _table(title: str, schema: "Schema") -> dict[str, Any]:
    """Lay out one schema; a column in which nothing stands is left out."""
    rows = [_row(field) for field in schema.fields]
    return {"title": title, "rows": rows, "columns": [name for name in rows[0] if any(row[name] for row in rows)]}


def _row(field: "Field") -> dict[str, str]:
    return {
        "Field": field.name,
        "Type": _type(field),
        "Unit": field.unit,
        "Rules": "; ".join([*(["required"] if field.required else []), *value_expectations(field)]),
        "Example": msgspec.json.encode(_example(field)).decode(),
        "Meaning": field.description,
    }


def _type(field: "Field") -> str:
    if field.kind == "tensor":
        return f"{field.dtype} array [{', '.join('any' if size is None else str(size) for size in field.shape)}]"
    if field.item is not None:
        return f"list of {field.item.kind}"
    return field.kind


def example_record(schema: "Schema") -> dict[str, Any]:
    """One record to copy and paste: declared examples where there are some, else a plain value of the type."""
    return {field.name: _example(field) for field in schema.fields}


def _example(field: "Field") -> Any:
    if field.examples:
        return field.examples[0]
    if field.enum:
        return field.enum[0]
    if field.kind == "tensor":
        value: Any = {"b": False, "s": "text"}.get(field.dtype[0], 0)
        for size in reversed(field.shape):
            value = [value] * (size or 1)
        return value
    if field.kind == "list":
        assert field.item is not None  # noqa: S101 (a list has items)
        return [_example(field.item)] * max(1, field.min_items or 0)
    if field.kind in {"integer", "number"}:
        return _between(field)
    plain = {"boolean": False, "date": "2026-01-31", "timestamp": "2026-01-31T12:00:00Z"}
    return plain.get(field.kind, "text")


def _between(field: "Field") -> float:
    if field.minimum is not None:
        return field.minimum + (1 if field.exclusive_minimum else 0)  # type: ignore[no-any-return]  # a number's bound
    if field.maximum is not None and field.maximum < 1:
        return field.maximum - (1 if field.exclusive_maximum else 0)  # type: ignore[no-any-return]  # likewise
    return 1
