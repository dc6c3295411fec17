"""What ``brownfield check`` does: everything that can be said about a workspace without touching the legacy system.

In: the folder. Out: findings; an *error* stops the workspace from being served, a *warning* will hurt someone,
a *notice* says what this release does not act on yet. Mistakes in a declaration are findings, never exceptions.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from brownfield.data.features import parse_features
from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.host import read_host
from brownfield.integration import (
    DEFAULT,
    INTEGRATION_FILE,
    DatabaseConnection,
    Delivery,
    Document,
    HttpConnection,
    IntegrationSpec,
    KeyPath,
    OdbcConnection,
    Reference,
    Registry,
    TlsSpec,
    WorkspaceSpec,
    check_host,
    deliveries,
    dotted,
    each_error,
    key_names,
    load_workspace,
    read_reference,
)
from brownfield.model import Environments, open_bundle
from brownfield.serving.budget import check_budgets
from brownfield.serving.declared import check_folder
from brownfield.serving.fallback.table import Table

__all__ = ["CheckReport", "Finding", "Level", "check"]

Level: TypeAlias = Literal["error", "warning", "notice"]

_LEVELS: tuple[Level, ...] = ("error", "warning", "notice")
_OTHERS = 0o077
_SECRETS = frozenset({"password", "private_key", "passphrase"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to know about a workspace.

    Parameters
    ----------
    level
        ``error``, ``warning`` or ``notice``.
    where
        ``file:line``.
    path
        Of the key, such as ``fallback.chain[0].table``; empty for a file as a whole.
    message
        What is the case.
    next_step
        What to do about it; may be empty.
    """

    level: Level
    where: str
    path: str
    message: str
    next_step: str

    def __str__(self) -> str:
        parts = ": ".join(part for part in (self.where, self.level, self.path, self.message) if part)
        return f"{parts.rstrip('.')}. {self.next_step}".rstrip() if self.next_step else parts


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, errors first.

    Parameters
    ----------
    folder
        The workspace, as it was given.
    integrations
        Names of the integrations that were read; empty when the declaration has errors.
    findings
        In the order of level and file.
    deliveries
        What is promised between each feed and each sink that it is written back to.
    """

    folder: str
    integrations: tuple[str, ...]
    findings: tuple[Finding, ...]
    deliveries: tuple[Delivery, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was found that stops the workspace from being served."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> bytes:
        """Return the report as one JSON object, with the key ``passed``."""
        return msgspec.json.encode({"passed": self.passed, **msgspec.structs.asdict(self)})


def check(folder: Path, registry: Registry = DEFAULT) -> CheckReport:
    """Check a workspace: its declaration, its contracts, its files, and what a careful reader would ask.

    Parameters
    ----------
    folder
        The workspace.
    registry
        The plug-ins that are installed.

    Examples
    --------
    >>> report = check(Path("no-such-workspace"))
    >>> report.passed, str(report.findings[0])  # doctest: +ELLIPSIS
    (False, 'no-such-workspace/brownfield.yaml: error: expected a file, got no such file. Begin ...')
    """
    try:
        check_folder(folder)
        workspace = load_workspace(folder, registry)
    except DeclarationError as error:
        findings = tuple(_from_error(each) for each in each_error(error))
        shown = os.fsencode(folder).decode(errors="backslashreplace")  # the path may be no text: that is a finding too
        return CheckReport(folder=shown, integrations=(), findings=findings)
    found = [*_workspace_findings(workspace), *_budget_findings(workspace)]
    for integration in workspace.integrations.values():
        found.extend(_integration_findings(integration))
        found.extend(_custody_findings(integration, has_key=workspace.security.encryption_key is not None))
        found.extend(_write_back_findings(integration, workspace))
        found.extend(_lookup_findings(integration, workspace))
    return CheckReport(
        folder=str(folder),
        integrations=tuple(workspace.integrations),
        findings=tuple(sorted(found, key=lambda finding: _LEVELS.index(finding.level))),
        deliveries=tuple(
            each for spec in workspace.integrations.values() for each in deliveries(spec, workspace.connections)
        ),
    )


def _from_error(error: BrownfieldError, level: Level = "error") -> Finding:
    """Turn an error into a finding, keeping its parts."""
    return Finding(
        level=level,
        where=error.where or "",
        path=error.path or "",
        message=str(DeclarationError(error.what, expected=error.expected, got=error.got)),
        next_step=error.next_step or "",
    )


class _At:
    """Makes findings about the keys of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def __call__(self, level: Level, path: KeyPath, message: str, next_step: str = "") -> Finding:
        return Finding(
            level=level, where=self._document.where(path), path=dotted(path), message=message, next_step=next_step
        )

    def error(self, level: Level, path: KeyPath, error: BrownfieldError) -> Finding:
        """Report an error about what a key names; an error that knows its own place keeps it."""
        found = _from_error(error, level)
        if error.where is not None:
            return msgspec.structs.replace(found, path=error.path or dotted(path))
        inner = path if error.path is None else (*path, error.path)
        return msgspec.structs.replace(found, where=self._document.where(inner), path=dotted(inner))


def _workspace_findings(workspace: WorkspaceSpec) -> Iterator[Finding]:
    at = _At(workspace.document)
    if not workspace.integrations:
        yield at("warning", (), "no integration is declared", "Add integrations/NAME/integration.yaml.")
    for home in sorted((workspace.folder / "integrations").glob("*/")):
        if not (home / INTEGRATION_FILE).is_file():
            yield at("warning", (), f"integrations/{home.name} has no {INTEGRATION_FILE} and is passed over")
    if not workspace.serving.is_loopback and not workspace.access.tokens:
        yield at(
            "error",
            ("serving", "host"),
            f"the listener {workspace.serving.host} is open to other machines, and no token is declared",
            "Declare access.tokens, or listen on 127.0.0.1.",
        )
    yield from _key_findings(workspace, at)
    for index, token in enumerate(workspace.access.tokens):
        yield from _secret_findings(token.token, ("access", "tokens", index, "token"), workspace.folder, at)
    for name, connection in workspace.connections.items():
        path = ("connections", name)
        if not hasattr(connection.options, "path"):
            yield from _server_findings(connection.options, path, workspace.folder, at)
            continue
        try:
            if not connection.location(workspace.folder).exists():
                yield at("warning", (*path, "path"), "there is nothing at this place", "Reading from it will fail.")
        except DeclarationError as error:
            yield at.error("warning", (*path, "path"), error)


def _budget_findings(workspace: WorkspaceSpec) -> Iterator[Finding]:
    """Report models that together can never fit this machine."""
    try:
        check_budgets(workspace, read_host())
    except DeclarationError as error:
        yield _from_error(error)


def _key_findings(workspace: WorkspaceSpec, at: _At) -> Iterator[Finding]:
    """Report encryption keys that cannot be read here, or that others can read too."""
    declared = workspace.security
    if declared.encryption_key is not None:
        yield from _secret_findings(declared.encryption_key, ("security", "encryption_key"), workspace.folder, at)
    for index, reference in enumerate(declared.old_encryption_keys):
        yield from _secret_findings(reference, ("security", "old_encryption_keys", index), workspace.folder, at)


def _server_findings(options: Any, path: KeyPath, folder: Path, at: _At) -> Iterator[Finding]:
    """Report what will keep us from a server, or should: references without a value, secrets for all."""
    if isinstance(options, OdbcConnection):
        yield from _odbc_findings(options, path, folder, at)
        return
    for key in key_names(type(options)):
        reference = getattr(options, key)
        if isinstance(reference, Reference) and key in _SECRETS:
            yield from _secret_findings(reference, (*path, key), folder, at)
        elif isinstance(reference, Reference):
            yield from _reference_findings(reference, (*path, key), folder, at)
    tls = getattr(options, "tls", None)
    if isinstance(tls, TlsSpec) and isinstance(tls.ca_file, Reference):
        yield from _reference_findings(tls.ca_file, (*path, "tls", "ca_file"), folder, at)
    if isinstance(options, HttpConnection):
        yield from _http_findings(options, path, folder, at)
    at_home = isinstance(options, HttpConnection) and options.network == "this_machine"
    if isinstance(options, DatabaseConnection | HttpConnection) and options.tls.mode != "verify" and not at_home:
        risk = "the server's certificate is not checked" if options.tls.mode == "encrypt" else "nothing is encrypted"
        yield at("warning", (*path, "tls", "mode"), f"{risk} on the way to it", "Declare tls: {mode: verify}.")


def _http_findings(options: HttpConnection, path: KeyPath, folder: Path, at: _At) -> Iterator[Finding]:
    """Report a base URL that would be refused when it is asked, and a credential that cannot be used."""
    from brownfield.data.sources import Site  # brings Arrow with it

    with suppress(DeclarationError):  # one that cannot be read is reported as every reference is
        base_url = read_reference(options.base_url, folder)
        try:
            Site(base_url, options.network, tls=options.tls.mode).check()
        except DeclarationError as error:
            yield at.error("warning", (*path, "base_url"), error)
    if options.auth is not None:
        yield from _secret_findings(options.auth.value, (*path, "auth", "value"), folder, at)


def _reference_findings(reference: Reference, path: KeyPath, folder: Path, at: _At) -> Iterator[Finding]:
    """Report a reference without a value, and a host that is refused."""
    try:
        value = read_reference(reference, folder)
        if path[-1] == "host":
            check_host(value)
    except DeclarationError as error:
        yield at.error("warning", path, error)


def _odbc_findings(options: OdbcConnection, path: KeyPath, folder: Path, at: _At) -> Iterator[Finding]:
    """Report a connection string that cannot be read or is none, and secrets for all."""
    from brownfield.data.sources import connection_parts  # brings Arrow with it

    try:
        connection_parts(read_reference(options.connection_string, folder))
    except DeclarationError as error:
        yield at.error("warning", (*path, "connection_string"), error)
    if options.password is not None:
        yield from _secret_findings(options.password, (*path, "password"), folder, at)


def _secret_findings(reference: Reference, path: KeyPath, folder: Path, at: _At) -> Iterator[Finding]:
    """Report a secret that cannot be read here, or that others can read too."""
    try:
        read_reference(reference, folder)
    except DeclarationError as error:
        yield at.error("warning", path, error)
        return
    if reference.file and (folder / reference.file).stat().st_mode & _OTHERS:
        yield at("warning", path, "other users of this machine can read the file", f"chmod 600 {reference.file}")


def _integration_findings(spec: IntegrationSpec) -> Iterator[Finding]:
    at = _At(spec.document)
    if spec.owner is None:
        yield at("warning", (), "no owner is declared", "Say who is asked when it fails.")
    if spec.purpose is None:
        yield at("warning", (), "no purpose is declared", "Say in one sentence what it is for.")
    if not any(step.kind != "previous_version" for step in spec.fallback.chain):
        yield at(
            "warning",
            ("fallback",),
            "nobody answers when the model must not",
            "End fallback.chain with a constant: without it callers get a refusal.",
        )
    yield from _format_findings(spec, at)
    yield from _mapping_findings(spec, at)
    yield from _table_findings(spec, at)
    yield from _features_findings(spec, at)
    yield from _model_findings(spec, at)
    yield from _later_findings(spec, at)
    for check_path in spec.contract.unchecked:
        yield at("notice", ("contract",), f"{check_path} in {spec.contract_path.name} belongs to another tool: not run")


def _write_back_findings(spec: IntegrationSpec, workspace: WorkspaceSpec) -> Iterator[Finding]:
    """Report connections that are written here and read by another integration (S-17)."""
    at = _At(spec.document)
    for name, written in spec.write_back.items():
        for other in workspace.integrations.values():
            places = [place for source in other.sources.values() for place in source.chain]
            if other.name != spec.name and any(place.connection == written.to.connection for place in places):
                yield at(
                    "error",
                    ("write_back", name, "connection"),
                    f"{written.to.connection} is read by the integration {other.name}",
                    "Writing takes a connection and a user of its own.",
                )


def _lookup_findings(spec: IntegrationSpec, workspace: WorkspaceSpec) -> Iterator[Finding]:
    """Report copies that are never made, tables that may not be written, and requests that would wait too long."""
    from brownfield.data.pipeline import is_classified  # brings Arrow with it
    from brownfield.data.served_status import hides_values

    at = _At(spec.document)
    has_key = workspace.security.encryption_key is not None
    for name, source in spec.sources.items():
        copies = [index for index, place in enumerate(source.chain) if place.snapshot is not None]
        if copies and not has_key and is_classified([spec.contract.schema(name)]):
            yield at(
                "warning",
                ("sources", name, "chain", copies[0]),
                "it has classified fields, and copies of them are kept encrypted only: without a key there is none",
                "Declare security.encryption_key in brownfield.yaml, or leave the snapshot out.",
            )
    waits_ms = 0
    for index, each in enumerate(spec.enrich):
        source = spec.sources[each.source]
        if not source.is_asked_by_key:
            if not has_key and hides_values(spec, each.source):
                yield at(
                    "error",
                    ("enrich", index, "take"),
                    "the table for requests would hold classified fields, and there is no key to encrypt it",
                    "Declare security.encryption_key in brownfield.yaml, or do not take these fields.",
                )
            continue
        for place in source.chain:
            if place.connection is not None:
                limit_ms = workspace.connections[place.connection].options.budget.timeout_ms
                waits_ms += place.deadline_ms or limit_ms
        if waits_ms > spec.fallback.deadline_ms:
            yield at(
                "warning",
                ("enrich", index),
                f"its places, and those of lookups before it, may take {waits_ms:,} ms, and a request has "
                f"{spec.fallback.deadline_ms:,} ms (fallback.deadline_ms)",
                "Lower deadline_ms in the chain: what is late is missing, and the model gets no time.",
            )


def _format_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    """Open each format as it is opened to read: character set, copybook, layout."""
    for name, source in spec.sources.items():
        for index, place in enumerate(source.chain):
            if place.format is None:
                continue
            from brownfield.data.pipeline import open_format  # brings Arrow with it

            layout = getattr(place.options, "layout", None)
            try:
                text = None if layout is None else spec.file(layout).read_text(encoding="utf-8")
                open_format(place.format, place.options, text)
            except BrownfieldError as error:
                yield at.error("error", ("sources", name, "chain", index), error)
            except UnicodeDecodeError:
                path: KeyPath = ("sources", name, "chain", index, "layout")
                yield at("error", path, "the layout is not UTF-8", "Save the file as UTF-8.")


def _mapping_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    """Prepare each mapping file as it is prepared to read: what each column of the silo is read as."""
    for name, source in spec.sources.items():
        for index, place in enumerate(source.chain):
            if place.mapping is None:
                continue
            from brownfield.data.pipeline import mapper_of  # brings Arrow with it

            try:
                mapper_of(spec, name, place)
            except BrownfieldError as error:
                yield at.error("error", ("sources", name, "chain", index, "mapping"), error)


def _table_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    """Read the fallback's tables as they are read to serve: every cell, every answer."""
    request, response = spec.contract.schema("request"), spec.contract.schema("response")
    for index, step in enumerate(spec.fallback.chain):
        if step.table is None:
            continue
        try:
            Table.from_csv(spec.file(step.table), request, response)
        except BrownfieldError as error:
            yield at.error("error", ("fallback", "chain", index, "table"), error)


def _features_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    if spec.features is None:
        return
    request, response = spec.features_request, spec.contract.schema("response")
    try:
        parse_features(spec.features.data, request, response, spec.features.where)
    except BrownfieldError as error:
        yield at.error("error", ("features",), error)


def _model_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    if spec.model is None:
        yield at("notice", (), "no model is declared: the fallback gives every answer")
        return
    if spec.model.path is None:
        return
    path = ("model", "path") if isinstance(spec.document.data["model"], dict) else ("model",)
    folder = spec.file(spec.model.path)
    if not folder.is_dir():
        yield at("warning", path, "there is no bundle yet: the fallback gives every answer", "Put one there.")
        return
    try:
        bundle = open_bundle(folder)
    except BrownfieldError as error:
        yield at.error("error", path, error)
        return
    if bundle.manifest.contract != spec.contract.reference:
        yield at(
            "error",
            path,
            f"the bundle was made for the contract {bundle.manifest.contract}, not {spec.contract.reference}",
            "Make the bundle again under this contract.",
        )
    elif bundle.contract_digest != spec.contract.digest:
        yield at("warning", path, "the contract's text changed since the bundle was made", "Make the bundle again.")
    try:
        bundle.program(Environments(spec.folder.parents[1] / "var" / "environments"))
    except BrownfieldError as error:
        yield at("warning", path, f"{error.what}: the fallback gives every answer", error.next_step or "")


def _custody_findings(spec: IntegrationSpec, *, has_key: bool) -> Iterator[Finding]:
    """Report classified fields whose values would be lost with refused records, or would be kept in clear."""
    if not spec.sources:
        return
    from brownfield.data.pipeline import clear_positions, is_classified  # brings Arrow with it

    at = _At(spec.document)
    for name in spec.sources:
        for field in clear_positions(spec, name):
            yield at(
                "error",
                ("sources", name, "cursor"),
                f"{field} is classified, and the position of a feed is kept in clear",
                "Read the feed by columns without a classification.",
            )
        if not has_key and is_classified([spec.contract.schema(name)]):
            yield at(
                "warning",
                ("sources", name),
                "it has classified fields: without an encryption key refused records lose their bytes, and no replay "
                "can bring them in",
                "Declare security.encryption_key in brownfield.yaml.",
            )


def _later_findings(spec: IntegrationSpec, at: _At) -> Iterator[Finding]:
    """Name the declared parts that are read and checked, and not acted on by this release."""
    model: KeyPath = ("model", "uri") if isinstance(spec.document.data.get("model"), dict) else ("model",)
    declared: tuple[tuple[KeyPath, bool], ...] = (
        (("rollout",), spec.rollout is not None),
        (("monitors",), spec.monitors is not None),
        (model, spec.model is not None and spec.model.uri is not None),
    )
    for path in (path for path, is_declared in declared if is_declared):
        yield at("notice", path, "declared, and not acted on by this release", "It stays where it is until it is.")
