"""Lookups over HTTP and SOAP: the declared request, made of keys, and its answer as records.

Values stand percent-encoded in paths, quoted in JSON and escaped in XML: a key never becomes part of the request's
form. Answers are read by the same strict readers as files: capped, without DOCTYPE, each record checked on its own.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape, quoteattr

import msgspec
import pyarrow as pa

from brownfield.contract import parse_json
from brownfield.data.formats import Format, Json, Xml
from brownfield.data.pipeline.servers import ca_file_of
from brownfield.data.sources import Ask, Budget, HttpClient, Position, Probe, Pulled, Quiet, Reply, Site
from brownfield.errors import FormatError, InputRefused, SourceUnavailable
from brownfield.integration import read_reference
from brownfield.security import resolve_secret

if TYPE_CHECKING:
    from brownfield.data.decoded import Decoded
    from brownfield.integration import EndpointSpec, HttpConnection, SoapSpec

__all__ = ["Endpoint", "NoSuchKey", "bind_endpoint", "compose", "open_client"]

_ENVELOPES = {
    "1.1": ("http://schemas.xmlsoap.org/soap/envelope/", "text/xml"),
    "1.2": ("http://www.w3.org/2003/05/soap-envelope", "application/soap+xml"),
}
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_NO_RECORD = (204, 404, 410)
_OK = 200
_FAULT = 500
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class NoSuchKey(Exception):
    """The service has no record of this key, or the key cannot be asked for."""


def open_client(name: str, options: "HttpConnection", workspace: Path) -> HttpClient:
    """Make a client of a declared connection; its references are read anew for every connection that it opens."""

    def resolve() -> Site:
        headers = {}
        if options.auth is not None:
            headers[options.auth.header] = resolve_secret(options.auth.value, workspace).reveal()
        base_url = read_reference(options.base_url, workspace)
        return Site(base_url, options.network, headers, options.tls.mode, ca_file_of(options.tls, workspace))

    declared = options.budget
    quiet = declared.quiet_hours
    budget = Budget(
        workspace / "var" / "budgets",
        f"http-{name}",
        declared.max_connections,
        declared.requests_per_s,
        None if quiet is None else Quiet.parse(quiet.zone, quiet.windows),
    )
    return HttpClient(resolve, budget, declared.timeout_ms / 1_000, declared.max_answer_kib * 1_024, name)


def bind_endpoint(
    name: str, options: "HttpConnection", workspace: Path, spec: "EndpointSpec", form: Format
) -> "Endpoint":
    """Make a source of an endpoint of a declared connection."""
    return Endpoint(open_client(name, options, workspace), spec, form)


@dataclass(frozen=True)
class Endpoint:
    """One request to a service: a source where it asks for all records, and a question where it asks for one.

    Parameters
    ----------
    client
        Asks the service.
    spec
        The declared request.
    form
        Reads the answer: JSON or XML.
    """

    client: HttpClient
    spec: "EndpointSpec"
    form: Format

    def probe(self) -> Probe:
        """Look whether the service takes a connection (:class:`Source`)."""
        self.client.reach()
        return Probe(None, None)

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:  # noqa: ARG002 (Source)
        """Read all records of one answer (:class:`Source`)."""
        reply = self.client.ask(compose(self.spec, {}))
        digest = hashlib.sha256(reply.body).hexdigest()
        try:
            for decoded in self._decoded(reply, wanted):
                yield Pulled(f"{self.client.name}{self.spec.path}#{digest}", decoded, {"sha256": digest})
        except NoSuchKey:
            raise self._unavailable(f"it answers that there is nothing ({reply.status})") from None

    def ack(self, position: Position) -> None:
        """Do nothing: a service is not told (:class:`Source`)."""

    def ask(self, key: Mapping[str, Any], wanted: pa.Schema, timeout_s: float | None = None) -> "list[Decoded]":
        """Ask for the record of one key; nothing where there is none.

        Parameters
        ----------
        key
            Values by field.
        wanted
            The fields that are read.
        timeout_s
            What is left of the caller's time.

        Raises
        ------
        SourceUnavailable
            As :meth:`HttpClient.ask`, or when the answer is not of the declared form.
        """
        try:
            reply = self.client.ask(compose(self.spec, key), timeout_s)
            return list(self._decoded(reply, wanted))
        except NoSuchKey:
            return []

    def _decoded(self, reply: Reply, wanted: pa.Schema) -> "Iterator[Decoded]":
        """Read an answer; what is not of the declared form is an answer of something else than the service."""
        soap = self.spec.soap
        if reply.status in _NO_RECORD and soap is None:
            raise NoSuchKey
        if reply.status != _OK and not (soap is not None and reply.status == _FAULT):
            raise self._unavailable(f"it refused the request ({reply.status})")
        is_json = isinstance(self.form, Json)
        kind = "json" if is_json else "xml"
        if reply.media_type not in {f"application/{kind}", f"text/{kind}"} and not reply.media_type.endswith(
            f"+{kind}"
        ):
            raise self._unavailable(f"its answer is no {kind} by its Content-Type")
        try:
            body = self._records(reply.body) if is_json else reply.body
            if soap is not None:
                self._check_fault(soap, reply)
            yield from self.form.decode(io.BytesIO(body), wanted)
        except (FormatError, InputRefused) as error:
            wanted_form = error.expected if isinstance(error, FormatError) and error.expected else "a sound document"
            raise self._unavailable(f"its answer is not as declared (expected {wanted_form})") from error

    def _records(self, body: bytes) -> bytes:
        """Find the records behind the declared pointer, one a line."""
        value: Any = parse_json(body)
        for step in self.spec.record.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            try:
                value = value[int(name)] if isinstance(value, list) else value[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise NoSuchKey from None
        if value is None:
            raise NoSuchKey
        records = value if isinstance(value, list) else [value]
        return b"".join(msgspec.json.encode(record) + b"\n" for record in records)

    def _check_fault(self, soap: "SoapSpec", reply: Reply) -> None:
        """Find a fault in the envelope: the caller's is as good as no record, the server's is an outage."""
        code = fault_code(reply.body, soap.version)
        if code in {"Client", "Sender"}:
            raise NoSuchKey
        if code is not None or reply.status != _OK:
            raise self._unavailable(f"it answers with a fault ({code or reply.status})")

    def _unavailable(self, why: str) -> SourceUnavailable:
        return SourceUnavailable(why, where=f"connection {self.client.name}")


def fault_code(body: bytes, version: str) -> str | None:
    """Name the fault in an envelope: ``Client`` or ``Server``, ``Sender`` or ``Receiver``, or ``other``.

    Raises
    ------
    FormatError
        When the answer is no sound XML without a DOCTYPE.

    Examples
    --------
    >>> soap = 'xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
    >>> fault = f"<s:Envelope {soap}><s:Body><s:Fault><faultcode>s:Client</faultcode></s:Fault></s:Body></s:Envelope>"
    >>> fault_code(fault.encode(), "1.1"), fault_code(fault.replace("Fault>", "Found>").encode(), "1.1")
    ('Client', None)
    """
    namespace = _ENVELOPES[version][0]
    path = "faultcode" if version == "1.1" else "s:Code/s:Value"
    faults = Xml("/s:Envelope/s:Body/s:Fault", {"code": path}, {"s": namespace})
    for decoded in faults.decode(io.BytesIO(body), pa.schema([("code", pa.string())])):
        values = decoded.batch.column("code").to_pylist()
        told = str(values[0] or "").rpartition(":")[2].partition(".")[0] if values else ""
        return told if told in {"Client", "Server", "Sender", "Receiver"} else "other"
    return None


def compose(spec: "EndpointSpec", key: Mapping[str, Any]) -> Ask:
    """Make the request of one key.

    Raises
    ------
    NoSuchKey
        When a value cannot stand in a request: none at all, dots that mean a folder, characters that XML lacks.

    Examples
    --------
    >>> from brownfield.integration import EndpointSpec
    >>> spec = EndpointSpec(path="/products/{id}", query={"site": "{site}"})
    >>> ask = compose(spec, {"id": "a/b?c", "site": "x&y=1"})
    >>> ask.path, ask.query
    ('/products/a%2Fb%3Fc', 'site=x%26y%3D1')
    """
    texts = {name: _text(value) for name, value in key.items()}
    path = _PLACEHOLDER.sub(lambda found: _in_path(texts[found[1]]), spec.path)
    query = urlencode({name: _filled(text, texts) for name, text in spec.query.items()}, quote_via=quote)
    if spec.soap is not None:
        body, headers = _envelope(spec.soap, texts)
        return Ask("POST", path, query, body, headers)
    wanted = {"Accept": "application/json, application/xml;q=0.9, text/xml;q=0.8"}
    if spec.body:
        body = msgspec.json.encode({name: _filled(text, texts) for name, text in spec.body.items()})
        return Ask("POST", path, query, body, {**wanted, "Content-Type": "application/json"})
    return Ask(spec.method, path, query, b"" if spec.method == "POST" else None, wanted)


def _text(value: Any) -> str:
    if value is None:
        raise NoSuchKey
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _in_path(text: str) -> str:
    if text in {"", ".", ".."}:
        raise NoSuchKey
    return quote(text, safe="")


def _filled(template: str, texts: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: texts[found[1]], template)


def _envelope(soap: "SoapSpec", texts: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """Write the envelope; values are escaped, and what XML cannot carry is no key."""
    namespace, media_type = _ENVELOPES[soap.version]
    prefix = "o:" if soap.qualified else ""
    inner = []
    for name, template in soap.parameters.items():
        value = _filled(template, texts)
        if _UNWRITABLE.search(value):
            raise NoSuchKey
        inner.append(f"<{prefix}{name}>{escape(value, {chr(13): '&#13;'})}</{prefix}{name}>")
    operation = f"<o:{soap.operation} xmlns:o={quoteattr(soap.namespace)}>{''.join(inner)}</o:{soap.operation}>"
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>'
        f'<s:Envelope xmlns:s="{namespace}"><s:Body>{operation}</s:Body></s:Envelope>'
    )
    content_type = f"{media_type}; charset=utf-8"
    if soap.version == "1.1":
        return body.encode(), {"Content-Type": content_type, "SOAPAction": f'"{soap.action}"', "Accept": media_type}
    action = f'; action="{soap.action}"' if soap.action else ""
    return body.encode(), {"Content-Type": content_type + action, "Accept": media_type}
