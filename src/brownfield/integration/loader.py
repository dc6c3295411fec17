"""A folder into a :class:`WorkspaceSpec`: all or nothing, and nothing but reading.

Every declared file must lie below the folder of its declaration, links included. There are no includes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from brownfield.contract import Contract, compile_contract
from brownfield.errors import DeclarationError
from brownfield.integration.agreement import check_agreement, check_table
from brownfield.integration.connections import ConnectionSpec
from brownfield.integration.integration import IntegrationDeclaration, IntegrationSpec
from brownfield.integration.mapping import MappingFile, MappingSpec
from brownfield.integration.mapping_agreement import check_mapping
from brownfield.integration.reader import Reader, each_error, raise_all
from brownfield.integration.registry import DEFAULT, Registry
from brownfield.integration.strict_yaml import MAX_BYTES, Document, load_document
from brownfield.integration.words import KeyPath, nearest, show
from brownfield.integration.workspace import WorkspaceDeclaration, WorkspaceSpec
from brownfield.integration.write_back import check_write_back

__all__ = [
    "INTEGRATION_FILE",
    "MAX_INTEGRATIONS",
    "WORKSPACE_FILE",
    "load_connections",
    "load_integration",
    "load_workspace",
]

MAX_INTEGRATIONS = 1_000
"""Most integrations in one workspace: what one machine serves, and what loads in seconds."""
WORKSPACE_FILE = "brownfield.yaml"
INTEGRATION_FILE = "integration.yaml"


def load_workspace(folder: Path, registry: Registry = DEFAULT) -> WorkspaceSpec:
    """Read ``brownfield.yaml`` and every ``integrations/*/integration.yaml``.

    Parameters
    ----------
    folder
        The workspace.
    registry
        The plug-ins that are installed.

    Returns
    -------
    WorkspaceSpec
        Complete and checked; nothing was opened but the declared files.

    Raises
    ------
    DeclarationError
        With everything that is wrong in all files; see :func:`each_error`.
    """
    declared, reader, content = _load_declaration(folder, registry)
    integrations, problems = _load_integrations(folder, declared, registry)
    raise_all(problems)
    return WorkspaceSpec(
        name=declared.workspace,
        folder=folder,
        connections=declared.connections,
        serving=declared.serving,
        access=declared.access,
        security=declared.security,
        quarantine=declared.quarantine,
        integrations=integrations,
        document=reader.document,
        digest=hashlib.sha256(content).hexdigest(),
    )


def load_connections(folder: Path, registry: Registry = DEFAULT) -> Mapping[str, ConnectionSpec]:
    """Read the connections of a workspace alone, whatever the state of its integrations.

    Raises
    ------
    DeclarationError
        With everything that is wrong in ``brownfield.yaml``.
    """
    return _load_declaration(folder, registry)[0].connections


def _load_declaration(folder: Path, registry: Registry) -> tuple[WorkspaceDeclaration, Reader, bytes]:
    file = folder / WORKSPACE_FILE
    if not file.exists():
        begin = "Begin a workspace with brownfield init."
        if folder.is_file():
            raise DeclarationError(where=str(folder), expected="the folder of a workspace", got="a file")
        raise DeclarationError(where=str(file), expected="a file", got="no such file", next_step=begin)
    content = _read(file, file.name)
    reader = Reader(load_document(content, file.name), registry)
    declared = reader.read(WorkspaceDeclaration)
    _check_places(declared, folder, reader)
    return declared, reader, content


def _load_integrations(
    folder: Path, declared: WorkspaceDeclaration, registry: Registry
) -> tuple[dict[str, IntegrationSpec], list[DeclarationError]]:
    found: dict[str, IntegrationSpec] = {}
    problems: list[DeclarationError] = []
    inside = folder.resolve()
    files = sorted(folder.glob(f"integrations/*/{INTEGRATION_FILE}"))
    if len(files) > MAX_INTEGRATIONS:
        many = f"at most {MAX_INTEGRATIONS} integrations"
        split = "Split the workspace."
        raise DeclarationError(where="integrations", expected=many, got=str(len(files)), next_step=split)
    for file in files:
        if not file.resolve().is_relative_to(inside):
            outside = "a link that leads out of it"
            where = file.relative_to(folder).as_posix()
            problems.append(DeclarationError(where=where, expected="a file inside the workspace", got=outside))
            continue
        try:
            spec = load_integration(file, registry=registry, workspace=declared, root=folder)
        except DeclarationError as error:
            problems.extend(each_error(error))
            continue
        if spec.name in found:
            problems.append(
                DeclarationError(
                    where=spec.document.where(["integration"]),
                    path="integration",
                    expected="a name that no other integration has",
                    got=f"{spec.name}, as in {found[spec.name].document.file}",
                    next_step="Rename one of the two.",
                )
            )
        found[spec.name] = spec
    return found, problems


def load_integration(
    file: Path, *, registry: Registry = DEFAULT, workspace: WorkspaceDeclaration | None = None, root: Path | None = None
) -> IntegrationSpec:
    """Read one ``integration.yaml`` with its contract and features.

    Parameters
    ----------
    file
        The declaration.
    registry
        The plug-ins that are installed.
    workspace
        Whose connections the sources may name; without it names of connections are not checked.
    root
        Folder from which files are named in messages; the file's own by default.

    Raises
    ------
    DeclarationError
        With everything that is wrong; see :func:`each_error`.
    """
    root = file.parent if root is None else root
    content = _read(file, _named(file, root))
    reader = Reader(load_document(content, _named(file, root)), registry)
    declared = reader.read(IntegrationDeclaration)
    files = _Files(file.parent, root, reader)
    contract = files.contract(declared)
    features = files.document(declared.features, ("features",))
    if contract is not None:
        check_agreement(declared, contract, reader)
    if workspace is not None:
        _check_connections(declared, workspace, reader)
    check_write_back(declared, contract, None if workspace is None else workspace.connections, reader)
    for relative, path in _further_files(declared):
        files.content(relative, path)
    files.tables(declared, contract)
    mappings = files.mappings(declared, contract)
    if declared.model is not None and declared.model.path is not None:
        files.below(declared.model.path, ("model", "path"))
    for relative, path in declared.fit.files():  # read by fit alone: what it lacks never stops serving
        files.below(relative, ("fit", *path))
    reader.raise_problems()
    assert contract is not None  # noqa: S101 (a contract that is missing was raised as a problem)
    return IntegrationSpec(
        name=declared.integration,
        folder=file.parent,
        purpose=declared.purpose,
        owner=declared.owner,
        contract=contract,
        contract_path=file.parent / declared.contract,
        sources=declared.sources,
        unified=declared.unified,
        mappings=mappings,
        write_back=declared.write_back,
        pipeline=declared.pipeline,
        enrich=declared.enrich,
        constraints=declared.constraints,
        features=features,
        features_path=None if declared.features is None else file.parent / declared.features,
        model=declared.model,
        fit=declared.fit,
        fallback=declared.fallback,
        doors=declared.doors,
        rollout=declared.rollout,
        monitors=declared.monitors,
        document=reader.document,
        digest=files.digest(content),
    )


class _Files:
    """Reads the files that one declaration names: below its folder, each once, and into one digest."""

    def __init__(self, folder: Path, root: Path, reader: Reader) -> None:
        self._folder = folder.resolve()
        self._root = root
        self._reader = reader
        self._digests: dict[str, str] = {}

    def below(self, relative: str, path: KeyPath) -> Path | None:
        """Return where a declared file really lies, or note that a link leads outside."""
        where = (self._folder / relative).resolve()
        if where.is_relative_to(self._folder):
            return where
        self._reader.note(path, "a file inside the integration's folder", "a link that leads out of it")
        return None

    def content(self, relative: str, path: KeyPath) -> bytes | None:
        """Return the bytes of a declared file, or note why there are none."""
        where = self.below(relative, path)
        if where is None:
            return None
        try:
            content = _read(where, _named(where, self._root.resolve()))
        except DeclarationError as error:
            self._reader.note(path, f"{error.expected} at {show(relative)}", f"{error.got}", error.next_step)
            return None
        self._digests[relative] = hashlib.sha256(content).hexdigest()
        return content

    def document(self, relative: str | None, path: KeyPath) -> Document | None:
        """Read a declared file as strict YAML."""
        content = None if relative is None else self.content(relative, path)
        if relative is None or content is None:
            return None
        try:
            return load_document(content, _named(self._folder / relative, self._root.resolve()))
        except DeclarationError as error:
            self._reader.problems.append(error)
            return None

    def contract(self, declared: IntegrationDeclaration) -> Contract | None:
        """Read and compile the contract."""
        document = self.document(declared.contract, ("contract",))
        if document is None:
            return None
        try:
            return compile_contract(document.data, document.where)
        except DeclarationError as error:
            self._reader.problems.extend(each_error(error))
            return None

    def tables(self, declared: IntegrationDeclaration, contract: Contract | None) -> None:
        """Read the fallback's tables and check their columns."""
        for index, step in enumerate(declared.fallback.chain):
            content = None if step.table is None else self.content(step.table, ("fallback", "chain", index, "table"))
            if step.table is None or content is None or contract is None:
                continue
            try:
                check_table(content, contract, _named(self._folder / step.table, self._root.resolve()))
            except DeclarationError as error:
                self._reader.problems.append(error)

    def mappings(self, declared: IntegrationDeclaration, contract: Contract | None) -> dict[str, MappingSpec]:
        """Read the mapping files and check them against the contract; by the path under which they are declared."""
        found: dict[str, MappingSpec] = {}
        for name, source in declared.sources.items():
            for index, place in enumerate(source.chain):
                schema = None if contract is None else contract.schemas.get(name)
                document = self.document(place.mapping, ("sources", name, "chain", index, "mapping"))
                if place.mapping is None or document is None or schema is None:
                    continue
                reader = Reader(document, self._reader.registry)
                try:
                    file = reader.read(MappingFile)
                    check_mapping(file, schema, source.read_by, reader)
                    reader.raise_problems()
                except DeclarationError as error:
                    self._reader.problems.extend(each_error(error))
                    continue
                digest = self._digests[place.mapping]
                found[place.mapping] = MappingSpec(fields=file.fields, digest=digest, document=document)
        return found

    def digest(self, declaration: bytes) -> str:
        """Digest of the declaration and of all files that were read."""
        whole = hashlib.sha256(hashlib.sha256(declaration).digest())
        for relative, digest in sorted(self._digests.items()):
            whole.update(f"{relative}\0{digest}\n".encode())
        return whole.hexdigest()


def _further_files(declared: IntegrationDeclaration) -> Iterator[tuple[str, KeyPath]]:
    """Name the files beside contract, features and tables, with the keys that name them."""
    for index, rollout_step in enumerate(declared.rollout.steps if declared.rollout else ()):
        if rollout_step.set_segment is not None:
            yield rollout_step.set_segment.file, ("rollout", "steps", index, "setSegment", "file")
    for name, source in declared.sources.items():
        for index, place in enumerate(source.chain):
            layout = getattr(place.options, "layout", None)
            if layout is not None:
                yield layout, ("sources", name, "chain", index, "layout")
    for name, written in declared.write_back.items():
        layout = getattr(written.to.options, "layout", None)
        if layout is not None:
            yield layout, ("write_back", name, "layout")
    accuracy = declared.constraints.accuracy
    if accuracy is not None and accuracy.file is not None:
        yield accuracy.file, ("constraints", "accuracy", "file")


def _check_places(declared: WorkspaceDeclaration, folder: Path, reader: Reader) -> None:
    """Refuse connections whose path is written as one below the workspace and leads out of it by a link."""
    for name, connection in declared.connections.items():
        path = getattr(connection.options, "path", None)
        if isinstance(path, str) and not (folder / path).resolve().is_relative_to(folder.resolve()):
            next_step = "Name a place outside by reference, as {env: NAME} or {file: PATH}."
            at: KeyPath = ("connections", name, "path")
            reader.note(at, "a place inside the workspace", "a link that leads out of it", next_step)
    reader.raise_problems()


def _check_connections(declared: IntegrationDeclaration, workspace: WorkspaceDeclaration, reader: Reader) -> None:
    """Note sources that name no connection, or ask of one what its kind does not have."""
    for name, source in declared.sources.items():
        for index, place in enumerate(source.chain):
            path: KeyPath = ("sources", name, "chain", index, "connection")
            if place.connection is None:
                continue
            connection = workspace.connections.get(place.connection)
            if connection is None:
                known = ", ".join(workspace.connections) or "none is declared"
                next_step = nearest(place.connection, workspace.connections)
                reader.note(path, f"a connection of {WORKSPACE_FILE} ({known})", place.connection, next_step)
                continue
            wanted = connection.options.holds
            if getattr(place, wanted) is None:
                reader.note(path, f"{wanted} beside a connection of the kind {connection.kind}", "none")
            needs_lag = getattr(connection.options, "needs_lag", False)
            if needs_lag and source.cursor is not None and source.cursor.lag_s == 0:
                late = "Rows are stamped before they commit: without a lag, those that commit late would be skipped."
                at: KeyPath = ("sources", name, "cursor")
                reader.note(at, f"lag_s above 0 with a connection of the kind {connection.kind}", "0", late)


def _read(file: Path, name: str) -> bytes:
    """Read one file of the declaration, never more than a declaration can have."""
    try:
        if not file.is_file():
            found = "something else" if file.exists() else "no such file"
            raise DeclarationError(where=name, expected="a file", got=found)
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DeclarationError(where=name, expected="a file that can be read", got=str(error.strerror)) from error
    if len(content) > MAX_BYTES:
        raise DeclarationError(where=name, expected=f"at most {MAX_BYTES} bytes", got="more")
    return content


def _named(file: Path, root: Path) -> str:
    """Name a file in messages, from the workspace's folder where it lies below it."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
