"""Whether a declaration and its contract speak of the same things.

In: the declaration, the compiled contract, the reader that collects problems. Refused: sources and unified tables
without a schema, keys and joins on fields that are not there, keys of requests that a lookup has in another kind, and
fallback answers that the response does not admit.
"""

import csv
from collections.abc import Iterable, Mapping
from typing import Any

from brownfield.contract import Contract, Schema
from brownfield.errors import BrownfieldError, DeclarationError, InputRefused
from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.kinds import names
from brownfield.integration.reader import Reader
from brownfield.integration.sources import SourceSpec
from brownfield.integration.unified import Join, UnifiedSpec
from brownfield.integration.words import KeyPath, dotted, nearest, show

__all__ = ["check_agreement", "check_table"]

_NOT_PLAIN = {"list", "tensor"}
_FOUND_IN_A_TABLE = {"date", "string"}
"""A table is searched by the text of a key, and that of a date is as it is written."""
_FOUND_BY_KEY = {"integer", "number"}
"""What a service answers is compared with the key as a value: 3 is 3.0."""


def check_agreement(declared: IntegrationDeclaration, contract: Contract, reader: Reader) -> None:
    """Note with the reader where declaration and contract disagree."""
    check = _Agreement(declared, contract, reader)
    for name in ("request", "response"):
        check.schema(name, ("contract",))
    for name, source in declared.sources.items():
        check.source(name, source)
    for name, table in declared.unified.items():
        check.unified(name, table)
    check.enrich()
    for index, step in enumerate(declared.fallback.chain):
        if step.constant is not None:
            check.constant(step.constant, ("fallback", "chain", index, "constant"))
    if declared.rollout is not None and declared.rollout.unit is not None:
        check.fields("request", [declared.rollout.unit], ("rollout", "unit"))
    if declared.model is not None and declared.model.cache is not None:
        check.fields("request", declared.model.cache.key_fields, ("model", "cache", "key_fields"))


def check_table(content: bytes, contract: Contract, file: str) -> None:
    """Check the header of a fallback table: response fields are the answer, all other columns are the key.

    Raises
    ------
    DeclarationError
        When there is no key, an unknown column, or a required response field is missing.
    """
    where = f"{file}:1"
    try:
        header = next(csv.reader([content.splitlines()[0].decode("utf-8-sig")], strict=True))
    except (IndexError, UnicodeDecodeError, csv.Error) as error:
        raise DeclarationError(where=where, expected="a CSV file in UTF-8 with a header", got="another") from error
    request, response = contract.schema("request"), contract.schema("response")
    keys = [name for name in header if name not in response.names]
    if len(set(header)) < len(header):
        raise DeclarationError(where=where, expected="every column once", got="one of them twice")
    for key in keys:
        if key not in request.names:
            known = (*request.names, *response.names)
            raise DeclarationError(
                where=where, expected="columns named like fields", got=show(key), next_step=nearest(key, known)
            )
    if not keys:
        raise DeclarationError(where=where, expected="a column named like a request field", got="none")
    for field in response.fields:
        if field.required and field.name not in header:
            raise DeclarationError(where=where, expected=f"a column for the required field {field.name}", got="none")


class _Agreement:
    """The checks of one declaration, with what they all need."""

    def __init__(self, declared: IntegrationDeclaration, contract: Contract, reader: Reader) -> None:
        self._declared = declared
        self._contract = contract
        self._reader = reader

    def schema(self, name: str, path: KeyPath) -> Schema | None:
        """Return a schema of the contract, or note that there is none."""
        schema = self._contract.schemas.get(name)
        if schema is None:
            self._reader.note(
                path,
                f"a schema named {name} in {self._declared.contract}",
                f"the schemas {', '.join(self._contract.schemas) or '(none)'}",
                nearest(name, self._contract.schemas),
            )
        return schema

    def fields(self, schema_name: str, wanted: Iterable[str], path: KeyPath) -> None:
        """Note the fields that a schema does not have."""
        schema = self._contract.schemas.get(schema_name)
        if schema is None:
            return
        for name in wanted:
            if name not in schema.names:
                expected = f"a field of {schema_name} in {self._declared.contract}"
                self._reader.note(path, expected, show(name), nearest(name, schema.names))

    def source(self, name: str, source: SourceSpec) -> None:
        """Check a source's schema, keys and cursor."""
        path: KeyPath = ("sources", name)
        if self.schema(name, path) is None:
            return
        self.fields(name, source.keys, (*path, "lookup"))
        self.endpoints(name, source)
        if source.cursor is not None:
            self.fields(name, [source.cursor.column], (*path, "cursor", "column"))
            self.fields(name, names(source.cursor.key), (*path, "cursor", "key"))
        if source.park is not None:
            self.fields(name, source.park.keys, (*path, "park", "key"))

    def endpoints(self, name: str, source: SourceSpec) -> None:
        """Check that a request names the keys of its lookup, all or none."""
        for index, place in enumerate(source.chain):
            named = place.endpoint.keys if place.endpoint is not None else frozenset()
            if named and named != set(source.keys):
                path: KeyPath = ("sources", name, "chain", index, "endpoint")
                expected = f"all keys of the lookup ({', '.join(source.keys)}), or none"
                self._reader.note(path, expected, ", ".join(sorted(named)))
        if source.is_asked_by_key:
            for table in self._declared.unified.values():
                for join in table.join:
                    if join.source == name and set(join.keys) != set(source.keys):
                        self._reader.note(
                            ("sources", name), f"joins on its whole key ({', '.join(source.keys)})", "another"
                        )
            for schema in self._contract.schemas.values():
                for rule in schema.set_rules:
                    if getattr(rule, "target", "").partition(".")[0] == name:
                        expected = f"no rule of {schema.name} that refers to it: it is asked key by key"
                        self._reader.note(("sources", name), expected, "one")

    def enrich(self) -> None:
        """Check what lookups add to requests: each field once, of a kind that is kept at hand."""
        request = self._contract.schemas.get("request")
        present = set() if request is None else set(request.names)
        for index, each in enumerate(self._declared.enrich):
            path: KeyPath = ("enrich", index)
            self.fields("request", each.keys, (*path, "on"))
            self.fields(each.source, each.take, (*path, "take"))
            schema = self._contract.schemas.get(each.source)
            kinds = {} if schema is None else {field.name: field.kind for field in schema.fields}
            if request is not None and schema is not None:
                self.key_kinds(request, schema, each.keys, (*path, "on"))
            for name in each.take:
                if name in present:
                    self._reader.note((*path, "take"), "a name that the request does not have", show(name))
                if kinds.get(name) in _NOT_PLAIN:
                    self._reader.note((*path, "take"), "a plain field", f"{name}, a {kinds[name]}")
                present.add(name)

    def key_kinds(self, request: Schema, lookup: Schema, keys: Iterable[str], path: KeyPath) -> None:
        """Note keys that no request would ever find, for they are of another kind in the lookup."""
        source = self._declared.sources.get(lookup.name)
        alike = _FOUND_BY_KEY if source is not None and source.is_asked_by_key else _FOUND_IN_A_TABLE
        for key in keys:
            if key not in request.names or key not in lookup.names:
                continue
            kinds = {request.field(key).kind, lookup.field(key).kind}
            if len(kinds) > 1 and not kinds & _NOT_PLAIN and kinds != alike:
                self._reader.note(
                    path,
                    f"{key} of one kind in request and {lookup.name}",
                    f"{request.field(key).kind} in request, {lookup.field(key).kind} in {lookup.name}",
                    f"A key of another kind is never found; declare both alike in {self._declared.contract}.",
                )

    def unified(self, name: str, table: UnifiedSpec) -> None:
        """Check a unified table's schema and joins; a name is added once."""
        path: KeyPath = ("unified", name)
        self.schema(name, path)
        base = self._contract.schemas.get(table.from_)
        present = set(base.names) if base is not None else set()
        kinds: dict[str, str] = {} if base is None else {each.name: each.kind for each in base.fields}
        for index, join in enumerate(table.join):
            here: KeyPath = (*path, "join", index)
            if base is not None:
                for key in join.keys:
                    if key not in present:
                        self._reader.note((*here, "on"), f"a field of {name} so far", show(key), nearest(key, present))
            self.fields(join.source, join.keys, (*here, "on"))
            self.fields(join.source, join.take, (*here, "take"))
            if join.as_of is not None:
                self.as_of(name, join, kinds, (*here, "as_of"))
            taken = self._contract.schemas.get(join.source)
            kinds |= {} if taken is None else {each.name: each.kind for each in taken.fields if each.name in join.take}
            added = [*join.take, *([join.exists] if join.exists else [])]
            for column in added:
                if column in present:
                    self._reader.note(here, "a name that is not taken", show(column), "Each field is added once.")
                present.add(column)

    def as_of(self, name: str, join: Join, kinds: Mapping[str, str], path: KeyPath) -> None:
        """Check that the times of a join in time are there and of one kind."""
        as_of = join.as_of
        if as_of is None:
            return
        self.fields(join.source, as_of.fields, path)
        schema = self._contract.schemas.get(join.source)
        if as_of.left not in kinds:
            self._reader.note(
                (*path, "left"), f"a field of {name} so far", show(as_of.left), nearest(as_of.left, kinds)
            )
        elif kinds[as_of.left] not in {"date", "timestamp"}:
            self._reader.note((*path, "left"), "a date or timestamp", f"a field of kind {kinds[as_of.left]}")
        elif schema is not None:
            for key, other in (("right", as_of.right), ("until", as_of.until)):
                if other in schema.names and schema.field(other).kind != kinds[as_of.left]:
                    wanted = f"a {kinds[as_of.left]}, as {as_of.left} is"
                    self._reader.note((*path, key), wanted, f"a field of kind {schema.field(other).kind}")

    def constant(self, answer: Mapping[str, Any], path: KeyPath) -> None:
        """Check that a constant answer is one that the response admits."""
        schema = self._contract.schemas.get("response")
        if schema is None:
            return
        try:
            schema.rows.check([answer])
        except InputRefused as refusal:
            for violation in refusal.violations:
                where = dotted((*path, violation.field) if violation.field else path)
                self._reader.problems.append(
                    DeclarationError(
                        where=self._reader.document.where((*path, violation.field)),
                        path=where,
                        expected=f"{violation.expected or 'what the schema response admits'} (rule {violation.rule})",
                        got="another",
                        next_step="The constant is checked like a model's answer.",
                    )
                )
        except BrownfieldError as error:
            self._reader.note(path, "an answer that can be checked", type(error).__name__)
