"""The data contract: an ODCS document in, checked records and batches out. Opens nothing, reads no clock.

Public names: :func:`compile_contract`, :class:`Contract`, :class:`Schema`, :class:`Field`.
"""

from brownfield.contract.fields import Contract, Field, Schema
from brownfield.contract.odcs import compile_contract

__all__ = ["Contract", "Field", "Schema", "compile_contract"]
