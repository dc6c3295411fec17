"""What a declaration implies for a run: the order of reading, and which columns of a source are needed later."""

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from brownfield.contract import UniqueRule
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from brownfield.contract import Schema
    from brownfield.integration import IntegrationSpec

__all__ = ["columns_kept", "columns_remembered", "reading_order"]


def reading_order(integration: "IntegrationSpec") -> list[str]:
    """Order the sources so that the keys and lookups that one needs are read before it.

    Raises
    ------
    DeclarationError
        When a reference leads nowhere, or sources need each other in a circle.
    """
    needs: dict[str, set[str]] = {name: set() for name in integration.sources}
    for name, schema in _checked_schemas(integration).items():
        reader = integration.unified[name].from_ if name in integration.unified else name
        for target in schema.batches.references:
            needed = target.partition(".")[0]
            if needed not in needs:
                raise DeclarationError(
                    path=f"contract.{name}", expected=f"a reference to one of {', '.join(needs)}", got=target
                )
            needs[reader].add(needed)
    for table in integration.unified.values():
        needs[table.from_].update(join.source for join in table.join)
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DeclarationError(
            path="sources", expected="sources that do not need each other in a circle", got=" -> ".join(error.args[1])
        ) from None


def columns_kept(integration: "IntegrationSpec") -> dict[str, list[str]]:
    """Columns of each source that joins and references need once it is read."""
    kept: dict[str, set[str]] = {name: set() for name in integration.sources}
    for table in integration.unified.values():
        for join in table.join:
            kept[join.source].update(join.needed)
    for schema in _checked_schemas(integration).values():
        for target in schema.batches.references:
            source, _, name = target.partition(".")
            kept[source].add(name)
    return {
        name: [each for each in integration.contract.schema(name).names if each in columns]
        for name, columns in kept.items()
    }


def columns_remembered(integration: "IntegrationSpec", feed: str, kept: list[str]) -> list[str]:
    """Columns of a feed's accepted rows that later runs need: for joins and references, and to find repeated keys.

    A unique key that holds the feed's cursor and key needs no memory: the feed never gives a row twice.
    """
    schema = integration.contract.schema(feed)
    cursor = integration.sources[feed].cursor
    ordered: set[str] = set()
    if cursor is not None:
        ordered = {cursor.column, *((cursor.key,) if isinstance(cursor.key, str) else cursor.key)}
    remembered = set(kept)
    for rule in schema.set_rules:
        if isinstance(rule, UniqueRule) and not (ordered and ordered <= set(rule.fields)):
            remembered.update(rule.fields)
    return [name for name in schema.names if name in remembered]


def _checked_schemas(integration: "IntegrationSpec") -> "dict[str, Schema]":
    return {name: integration.contract.schema(name) for name in (*integration.sources, *integration.unified)}
