"""The data contract: an ODCS document in, checked records and batches out. Opens nothing, reads no clock.

``BatchChecker``, ``BatchVerdict``, ``Rejection`` and ``localised`` are imported on first use: they bring Arrow, which
the gateway does without.
"""

from typing import TYPE_CHECKING, Any

from brownfield.contract.documents import json_schema, openapi
from brownfield.contract.expectations import value_expectations
from brownfield.contract.fields import Contract, Field, Schema
from brownfield.contract.odcs import compile_contract
from brownfield.contract.rows import Checked, RowChecker, without_padding
from brownfield.contract.rules import RowCountRule, UniqueRule
from brownfield.contract.strict_json import JsonLimits, parse_json
from brownfield.contract.units import UNITS, linear

if TYPE_CHECKING:
    from brownfield.contract.arrow_times import localised
    from brownfield.contract.batches import BatchChecker, BatchVerdict, Rejection

__all__ = [
    "UNITS",
    "BatchChecker",
    "BatchVerdict",
    "Checked",
    "Contract",
    "Field",
    "JsonLimits",
    "Rejection",
    "RowChecker",
    "RowCountRule",
    "Schema",
    "UniqueRule",
    "compile_contract",
    "json_schema",
    "linear",
    "localised",
    "openapi",
    "parse_json",
    "value_expectations",
    "without_padding",
]


def __getattr__(name: str) -> Any:
    if name in ("BatchChecker", "BatchVerdict", "Rejection"):
        from brownfield.contract import batches

        return getattr(batches, name)
    if name == "localised":
        from brownfield.contract.arrow_times import localised

        return localised
    raise AttributeError(name)
