"""What ``brownfield check`` does: everything that can be said about a workspace without touching the legacy system.

In: the folder. Out: findings; an *error* stops the workspace from being served, a *warning* will hurt someone,
a *notice* says what this release does not act on yet. Mistakes in a declaration are findings, never exceptions.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from brownfield.clock import SystemClock
from brownfield.data.features import parse_features
from brownfield.errors import BrownfieldError, DeclarationError
from brownfield.host import read_host
from brownfield.integration import (
    DEFAULT,
    INTEGRATION_FILE,
    Delivery,
    IntegrationSpec,
    Registry,
    ServingTlsSpec,
    WorkspaceSpec,
    deliveries,
    each_error,
    load_workspace,
)
from brownfield.model import Environments, open_bundle
from brownfield.security import check_private, resolve_secret, why_refused
from brownfield.serving.budget import check_budgets
from brownfield.serving.declared import check_folder
from brownfield.serving.fallback.table import Table
from brownfield.serving.tls import certificate_worry, check_certificate, key_path
from brownfield.workspace.check_servers import secret_findings, server_findings
from brownfield.workspace.findings import At, Finding, Level, from_error

if TYPE_CHECKING:
    from brownfield.integration import KeyPath
    from brownfield.security import Secret

__all__ = ["CheckReport", "Finding", "Level", "check"]

_LEVELS: tuple[Level, ...] = ("error", "warning", "notice")


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, errors first.

    Parameters
    ----------
    folder
        The workspace, as it was given.
    integrations
        Names of the integrations; those of their folders while a declaration has errors.
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
        findings = tuple(from_error(each) for each in each_error(error))
        return CheckReport(folder=_shown(folder), integrations=_folders(folder), findings=findings)
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


def _folders(folder: Path) -> tuple[str, ...]:
    """Name the folders that hold a declaration of an integration, whatever it says."""
    return tuple(_shown(each.parent.name) for each in sorted(folder.glob(f"integrations/*/{INTEGRATION_FILE}")))


def _shown(path: Path | str) -> str:
    """Write a path, which may be no text: that is a finding too."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _workspace_findings(workspace: WorkspaceSpec) -> Iterator[Finding]:
    at = At(workspace.document)
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
    if workspace.serving.tls is not None:
        yield from _tls_findings(workspace.serving.tls, workspace, at)
    yield from _key_findings(workspace, at)
    yield from _token_findings(workspace, at)
    for name, connection in workspace.connections.items():
        path = ("connections", name)
        if not hasattr(connection.options, "path"):
            yield from server_findings(connection.options, path, workspace.folder, at)
            continue
        try:
            if not connection.location(workspace.folder).exists():
                yield at("warning", (*path, "path"), "there is nothing at this place", "Reading from it will fail.")
        except DeclarationError as error:
            yield at.error("warning", (*path, "path"), error)


def _tls_findings(spec: ServingTlsSpec, workspace: WorkspaceSpec, at: At) -> Iterator[Finding]:
    """Report a certificate that serving refuses or that callers refuse by now, and a key that others can read."""
    try:
        check_certificate(spec, workspace.folder)
    except DeclarationError as error:
        if error.path is None:  # a reference without a value: this machine may not be the one that serves
            yield at.error("warning", ("serving", "tls"), error)
        else:
            where = workspace.document.where(tuple(error.path.split(".")))
            yield msgspec.structs.replace(from_error(error), where=where)
        return
    worry = certificate_worry(spec, workspace.folder, SystemClock().now_utc())
    if worry is not None:
        step = "Renew it, and reload with SIGHUP."
        yield at("warning", ("serving", "tls", "certificate_file"), worry, step)
    try:
        check_private(key_path(spec, workspace.folder))
    except DeclarationError as error:
        yield at.error("warning", ("serving", "tls", "key_file"), error)


def _budget_findings(workspace: WorkspaceSpec) -> Iterator[Finding]:
    """Report models that together can never fit this machine."""
    try:
        check_budgets(workspace, read_host())
    except DeclarationError as error:
        yield from_error(error)


def _key_findings(workspace: WorkspaceSpec, at: At) -> Iterator[Finding]:
    """Report encryption keys that cannot be read here, or that others can read too."""
    declared = workspace.security
    if declared.encryption_key is not None:
        yield from secret_findings(declared.encryption_key, ("security", "encryption_key"), workspace.folder, at)
    for index, reference in enumerate(declared.old_encryption_keys):
        yield from secret_findings(reference, ("security", "old_encryption_keys", index), workspace.folder, at)


def _token_findings(workspace: WorkspaceSpec, at: At) -> Iterator[Finding]:
    """Report tokens that cannot be read here, that others can read too, or that a listener refuses."""
    known: list[Secret] = []
    for index, each in enumerate(workspace.access.tokens):
        path = ("access", "tokens", index, "token")
        unreadable = [*secret_findings(each.token, path, workspace.folder, at)]
        yield from unreadable
        if unreadable:
            continue
        try:
            token = resolve_secret(each.token, workspace.folder)
        except DeclarationError as error:
            yield at.error("error", path, error)
            continue
        refused = why_refused(token, known)
        if refused is not None:
            yield at.error("error", path, refused)
        known.append(token)


def _integration_findings(spec: IntegrationSpec) -> Iterator[Finding]:
    at = At(spec.document)
    if spec.folder.name != spec.name:
        yield at(
            "warning",
            ("integration",),
            f"{spec.name} lies in the folder integrations/{spec.folder.name}",
            f"Callers and all verbs know it as {spec.name}: give the folder the same name, or correct this one.",
        )
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
    yield from _feed_findings(spec, at)
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
    at = At(spec.document)
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

    at = At(spec.document)
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


def _feed_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
    """Report feeds whose records are checked and then kept nowhere."""
    made_from = {table.from_ for table in spec.unified.values()}
    for name, source in spec.sources.items():
        if source.feed and name not in made_from:
            yield at(
                "warning",
                ("sources", name),
                "no unified table is made from this feed: its records are checked, counted and kept nowhere",
                "Declare one under unified before the first run.",
            )


def _format_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
    """Open each format as it is opened to read: character set, copybook, layout."""
    for name, source in spec.sources.items():
        for index, place in enumerate(source.chain):
            if place.format is None:
                continue
            from brownfield.data.pipeline import form_of  # brings Arrow with it

            try:
                form_of(spec, place)
            except BrownfieldError as error:
                yield at.error("error", ("sources", name, "chain", index), error)


def _mapping_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
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


def _table_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
    """Read the fallback's tables as they are read to serve: every cell, every answer."""
    request, response = spec.contract.schema("request"), spec.contract.schema("response")
    for index, step in enumerate(spec.fallback.chain):
        if step.table is None:
            continue
        try:
            Table.from_csv(spec.file(step.table), request, response)
        except BrownfieldError as error:
            yield at.error("error", ("fallback", "chain", index, "table"), error)


def _features_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
    if spec.features is None:
        return
    request, response = spec.features_request, spec.contract.schema("response")
    try:
        parse_features(spec.features.data, request, response, spec.features.where)
    except BrownfieldError as error:
        yield at.error("error", ("features",), error)


def _model_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
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

    at = At(spec.document)
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


def _later_findings(spec: IntegrationSpec, at: At) -> Iterator[Finding]:
    """Name the declared parts that are read and checked, and not acted on by this release."""
    model: KeyPath = ("model", "uri") if isinstance(spec.document.data.get("model"), dict) else ("model",)
    declared: tuple[tuple[KeyPath, bool], ...] = (
        (("rollout",), spec.rollout is not None),
        (("monitors",), spec.monitors is not None),
        (model, spec.model is not None and spec.model.uri is not None),
    )
    for path in (path for path, is_declared in declared if is_declared):
        yield at("notice", path, "declared, and not acted on by this release", "It stays where it is until it is.")
