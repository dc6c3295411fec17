"""``http`` connections, and what is asked of them: one record by its key, or all records in one document.

A base URL is never written out, and only declared hosts are asked. What the answer may be is declared too: the format,
and where in it the records stand.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from brownfield.integration.databases import QuietHours, TlsSpec
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = ["AuthSpec", "EndpointBudget", "EndpointSpec", "HttpConnection", "SoapSpec"]

_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_Name = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$", extra={"words": "a name of letters, digits, dots, dashes, _"}),
]
_Template = Annotated[str, Meta(max_length=1_000, extra={"words": "a text; {field} stands for a key"})]


class AuthSpec(Spec, frozen=True, kw_only=True):
    """A header that lets us in."""

    header: Annotated[
        str,
        Meta(
            pattern=r"^(?!(?i:host|content-length|transfer-encoding|connection)$)[A-Za-z][A-Za-z0-9-]{0,63}$",
            description="Name of the header.",
            extra={"words": "the name of a header"},
        ),
    ] = "Authorization"
    value: Annotated[Reference, Meta(description="Where its whole value stands, as `Bearer ...`.")]


class EndpointBudget(Spec, frozen=True, kw_only=True):
    """What one service can bear from us; kept in every second, across processes and restarts."""

    max_connections: Annotated[int, Meta(ge=1, le=100, description="Connections at one time.")] = 2
    requests_per_s: Annotated[int, Meta(ge=1, le=100_000, description="Requests in any one second.")] = 20
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000, description="Longest time for one whole request.")] = 10_000
    max_answer_kib: Annotated[int, Meta(ge=1, le=1_048_576, description="Longest answer that is read.")] = 16_384
    quiet_hours: Annotated[QuietHours, Meta(description="When the service is left alone.")] | None = None


class HttpConnection(Spec, frozen=True, kw_only=True):
    """A service that answers over HTTP, asked without redirects, retries or proxies."""

    holds: ClassVar[Literal["endpoint"]] = "endpoint"

    base_url: Annotated[Reference, Meta(description="Where it is, such as https://host:port/api: by reference.")]
    network: Annotated[
        Literal["public", "private", "this_machine"],
        Meta(description="What its host's name may stand for; private networks and this machine are declared."),
    ] = "public"
    auth: Annotated[AuthSpec, Meta(description="What lets us in.")] | None = None
    tls: Annotated[TlsSpec, Meta(description="Encryption; off is for http:// alone.")] = TlsSpec()
    budget: Annotated[EndpointBudget, Meta(description="What the service can bear.")] = EndpointBudget()


class SoapSpec(Spec, frozen=True, kw_only=True):
    """A SOAP operation, document/literal; the envelope is made by us."""

    version: Annotated[Literal["1.1", "1.2"], Meta(description="SOAP version.")] = "1.1"
    namespace: Annotated[str, Meta(min_length=1, max_length=500, description="Namespace of the operation.")]
    operation: Annotated[_Name, Meta(description="Element in the body of the envelope.")]
    action: Annotated[
        str,
        Meta(
            pattern=r'^[^"\x00-\x1f\x7f]{0,500}$', description="SOAPAction, or the action of SOAP 1.2.",
            extra={"words": "one line without quotes"},
        ),
    ] = ""  # fmt: skip
    parameters: Annotated[
        Mapping[_Name, _Template], Meta(max_length=100, description="Elements of the operation; {field} is a key.")
    ] = field(default_factory=dict)
    qualified: Annotated[bool, Meta(description="Whether the parameters are in the namespace too.")] = True


class EndpointSpec(Spec, frozen=True, kw_only=True):
    """One request; with {field} in it the lookup is asked key by key, without it is read whole."""

    method: Annotated[Literal["GET", "POST"], Meta(description="POST sends the body or envelope.")] = "GET"
    path: Annotated[
        str,
        Meta(
            pattern=r"^(?:/[^?#\s\\]*)?$", max_length=1_000,
            description="Behind the base URL; {field} stands for a key, percent-encoded.",
            extra={"words": "a path that begins with / and has no ? or #"},
        ),
    ] = ""  # fmt: skip
    query: Annotated[Mapping[_Name, _Template], Meta(max_length=100, description="Parameters behind the ?.")] = field(
        default_factory=dict
    )
    body: Annotated[Mapping[_Name, _Template], Meta(max_length=100, description="Fields of a JSON body.")] = field(
        default_factory=dict
    )
    record: Annotated[
        str,
        Meta(
            pattern=r"^(?:/[^/]*)*$", max_length=500,
            description="JSON pointer to the record or to the list of records; empty is the whole answer.",
            extra={"words": "a JSON pointer such as /data/0"},
        ),
    ] = ""  # fmt: skip
    soap: Annotated[SoapSpec, Meta(description="The SOAP operation; beside format: xml.")] | None = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a body without POST, and two bodies."""
        if self.body and self.method != "POST":
            yield Contradiction(("body",), "method: POST beside a body", self.method)
        if self.soap is not None and (self.body or self.record):
            yield Contradiction(("soap",), "neither body nor record beside soap", "one of them")
        if ".." in self.path.split("/"):
            yield Contradiction(("path",), "a path without ..", "one with it")

    @property
    def keys(self) -> frozenset[str]:
        """The fields that stand in the request; none where all records are asked for at once."""
        texts = [self.path, *self.query.values(), *self.body.values()]
        if self.soap is not None:
            texts += self.soap.parameters.values()
        return frozenset(name for text in texts for name in _PLACEHOLDER.findall(text))
