"""How old a value may be: the ``latency`` of ``slaProperties``, for an object or one of its properties, in seconds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from brownfield.contract.reading import nearest

if TYPE_CHECKING:
    from brownfield.contract.fields import Schema
    from brownfield.contract.reading import Node

__all__ = ["UNIT_SECONDS", "staleness_bounds"]

UNIT_SECONDS: Mapping[str, float] = {
    **dict.fromkeys(("s", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("y", "yr", "year", "years"), 31_557_600.0),
}


def staleness_bounds(root: "Node", schemas: "Mapping[str, Schema]") -> dict[str, float]:
    """Read the bounds, by ``object`` or ``object.property``; properties of other kinds are other tools' affair.

    Raises
    ------
    ContractError
        When a latency names what is not there, or is no time.
    """
    bounds: dict[str, float] = {}
    for each in root.each("slaProperties"):
        if "property" not in each or each.at("property").text() != "latency" or "element" not in each:
            continue
        seconds = each.at("value").number() * UNIT_SECONDS[each.at("unit").word(UNIT_SECONDS)]
        if seconds <= 0:
            raise each.at("value").refuse("a time above 0")
        for element in each.at("element").text().split(","):
            name, _, field = element.strip().partition(".")
            schema = schemas.get(name)
            if schema is None:
                raise each.at("element").refuse("an object of this contract", next_step=nearest(name, schemas))
            if field and field not in schema.names:
                raise each.at("element").refuse(f"a property of {name}", next_step=nearest(field, schema.names))
            bounds[element.strip()] = seconds
    return bounds
