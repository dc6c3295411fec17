"""The JSON Schema of the declaration, for editors: the same structs, bounds and help that the loader uses."""

from typing import Any

import msgspec

from brownfield.integration.integration import IntegrationDeclaration
from brownfield.integration.reader import Spec
from brownfield.integration.registry import DEFAULT, Registry
from brownfield.integration.workspace import WorkspaceDeclaration

__all__ = ["declaration_schema"]


def declaration_schema(registry: Registry = DEFAULT) -> dict[str, Any]:
    """Return one JSON Schema (draft 2020-12) that fits ``brownfield.yaml`` and ``integration.yaml``.

    Parameters
    ----------
    registry
        The plug-ins that are installed: their options stand in the schema.

    Returns
    -------
    dict
        With ``$defs``; a document with the key ``workspace`` is read as a workspace, every other as an integration.

    Examples
    --------
    >>> schema = declaration_schema()
    >>> schema["$defs"]["ServingSpec"]["properties"]["port"]["maximum"]
    65535
    """
    options = [spec for kind in (registry.connections, registry.formats, registry.doors) for spec in kind.values()]
    _, definitions = msgspec.json.schema_components(
        [WorkspaceDeclaration, IntegrationDeclaration, *options], ref_template="#/$defs/{name}"
    )
    specs = {spec.__name__: spec for spec in _below(Spec)}
    schemas = {name: _without_null(schema) for name, schema in definitions.items()}
    published = {name: specs[name].published(schemas, registry) for name in schemas}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Brownfield declaration",
        "if": {"type": "object", "required": ["workspace"]},
        "then": {"$ref": "#/$defs/WorkspaceDeclaration"},
        "else": {"$ref": "#/$defs/IntegrationDeclaration"},
        "$defs": dict(sorted(published.items())),
    }


def _below(spec: type[Spec]) -> list[type[Spec]]:
    return [each for child in spec.__subclasses__() for each in (child, *_below(child))]


def _without_null(schema: Any) -> Any:
    """Drop ``null`` from unions and defaults: a key is left out, never left empty."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: _without_null(item)
        for key, item in schema.items()
        if not (key == "default" and isinstance(item, dict | list | None))
    }
    if isinstance(result.get("anyOf"), list):
        kept = [option for option in result["anyOf"] if option != {"type": "null"}]
        if len(kept) == 1:
            del result["anyOf"]
            return {**kept[0], **result}
        result["anyOf"] = kept
    return result
