"""Compiles an open data contract (ODCS 3.2) into a Contract.

In: the document as plain values. Out: :class:`~brownfield.contract.fields.Contract`.
Refused: unknown keys in the parts that are interpreted, kinds that cannot be checked, and contradictions.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rfc8785

from brownfield.contract.fields import Contract, Schema
from brownfield.contract.properties import CUSTOM_SCHEMA, custom, read_field
from brownfield.contract.quality import record_rules, set_rules, unchecked
from brownfield.contract.reading import Node, Where, nearest, words
from brownfield.contract.rules import ReferenceRule
from brownfield.contract.sla import staleness_bounds

if TYPE_CHECKING:
    from brownfield.contract.fields import Field

__all__ = ["compile_contract"]

API_VERSIONS = ("v3.2.0", "v3.1.0")
DOCUMENT_KEYS = words(
    "version kind apiVersion id name tenant tags status servers dataProduct description domain context "
    "schema support price team roles slaDefaultElement slaProperties authoritativeDefinitions "
    "customProperties contractCreatedTs"
)
SCHEMA_KEYS = words(
    "id name physicalType description businessName deprecated synonyms authoritativeDefinitions tags "
    "customProperties logicalType physicalName dataGranularityDescription properties relationships "
    "quality context"
)


def compile_contract(document: Mapping[str, Any], where: Where | None = None) -> Contract:
    """Compile an ODCS document.

    Parameters
    ----------
    document
        Plain mappings, lists and scalars, as a strict YAML loader gives them.
    where
        Gives ``file:line`` of a path in the document; errors carry it.

    Returns
    -------
    Contract
        With one compiled schema per object of the document.

    Raises
    ------
    ContractError
        When the document contradicts the standard or itself.

    Examples
    --------
    >>> contract = compile_contract({
    ...     "apiVersion": "v3.2.0", "kind": "DataContract", "id": "till", "version": "1.0.0", "status": "active",
    ...     "schema": [{"name": "request", "logicalType": "object", "properties": [
    ...         {"name": "quantity", "logicalType": "integer", "required": True,
    ...          "logicalTypeOptions": {"minimum": 1}}]}]})
    >>> contract.reference, contract.schema("request").field("quantity").minimum
    ('till@1.0.0', 1)
    """
    root = Node(document, (), where)
    root.known(DOCUMENT_KEYS)
    root.at("apiVersion").word(API_VERSIONS)
    root.at("kind").word(["DataContract"])
    identity, version = root.at("id").text(), _version(root.at("version"))
    name = root.at("name").text() if "name" in root else identity
    objects = root.at("schema").items()
    if not objects:
        raise root.at("schema").refuse("at least one object", got="none")
    nodes: dict[str, Node] = {}
    for each in objects:
        each.known(SCHEMA_KEYS)
        schema_name = each.at("name").text()
        if schema_name in nodes:
            raise each.at("name").refuse("a name that no other object has")
        nodes[schema_name] = each
    schemas = {schema_name: _schema(schema_name, node) for schema_name, node in nodes.items()}
    _check_references(schemas, nodes)
    skipped = tuple(path for node in objects for path in unchecked(node))
    return Contract(identity, version, name, _digest(root), schemas, skipped, staleness_bounds(root, schemas))


def _version(node: Node) -> str:
    if isinstance(node.value, int | float):
        raise node.refuse("text", next_step=f"Write it in quotes: '{node.value}'.")
    return node.text()


def _schema(name: str, node: Node) -> Schema:
    if "logicalType" in node:
        node.at("logicalType").word(["object"])
    ours = custom(node, CUSTOM_SCHEMA)
    batched = ours["batched"].flag() if "batched" in ours else True
    properties = node.at("properties").items()
    if not properties:
        raise node.at("properties").refuse("at least one property", got="none")
    fields: dict[str, Field] = {}
    for each in properties:
        read = read_field(each)
        if read.name in fields:
            raise each.at("name").refuse("a name that no other property has")
        fields[read.name] = read
    every = tuple(fields.values())
    description = node.at("description").text() if "description" in node else ""
    return Schema(name, every, batched, record_rules(node, every), set_rules(name, node, every), description)


def _check_references(schemas: Mapping[str, Schema], nodes: Mapping[str, Node]) -> None:
    for name, schema in schemas.items():
        for rule in schema.set_rules:
            if not isinstance(rule, ReferenceRule):
                continue
            target_schema, _, target_field = rule.target.partition(".")
            node = next(each for each in nodes[name].at("properties").items() if each.at("name").value == rule.field)
            if target_schema not in schemas:
                raise node.refuse(
                    "a relationship to an object of this contract",
                    got=repr(rule.target),
                    next_step=nearest(target_schema, schemas),
                )
            target = schemas[target_schema]
            if target_field not in target.names:
                raise node.refuse(
                    f"a relationship to a property of {target_schema}",
                    got=repr(rule.target),
                    next_step=nearest(target_field, target.names),
                )
            here, there = schema.field(rule.field).kind, target.field(target_field).kind
            if here != there:
                raise node.refuse(
                    f"a relationship between two properties of one type ({rule.field} is {here})",
                    got=f"{rule.target}, which is {there}",
                )


def _digest(root: Node) -> str:
    try:
        return hashlib.sha256(rfc8785.dumps(root.value)).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise root.refuse(
            "values that canonical JSON can carry (text, finite numbers, whole numbers up to 2^53)", got=str(error)
        ) from error
