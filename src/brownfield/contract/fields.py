"""Contract, Schema and Field: what a compiled data contract says, as frozen values.

Schemas hand out their two checkers (:attr:`Schema.rows`, :attr:`Schema.batches`), compiled once at first use.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from brownfield.contract.reading import nearest
from brownfield.errors import ContractError

if TYPE_CHECKING:
    import pyarrow as pa

    from brownfield.contract.batches import BatchChecker
    from brownfield.contract.rows import RowChecker
    from brownfield.contract.rules import RecordRule, SetRule

__all__ = ["Contract", "Field", "Kind", "NullPolicy", "Schema"]

Kind = Literal["string", "integer", "number", "boolean", "date", "timestamp", "list", "tensor"]
NullPolicy = Literal["reject", "impute", "pass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record.

    Parameters
    ----------
    name
        As the sender writes it.
    kind
        Logical type.
    item
        The items of a list; None for other kinds.
    dtype
        NumPy name of the exact width (``int64`` and ``float64`` unless declared); ``str`` for tensors of text;
        empty for kinds without a width.
    shape
        Shape of a tensor without the dimension of the rows when the schema is batched; None is any size.
    required
        The sender must send a value: absent and null are refused.
    null_policy
        What happens to a missing value (absent, null or a sentinel).
    impute
        The value that stands for a missing one under the policy ``impute``.
    sentinels
        Values that mean "missing".
    padding
        The value that fills short lists up in a V2 tensor; None when none is declared.
    minimum, maximum
        Smallest and largest value; excluded themselves when ``exclusive_minimum`` or ``exclusive_maximum``.
        Dates and timestamps (aware, UTC) for fields of that kind.
    enum
        The admitted values; empty when any is.
    pattern
        Regular expression that must be found in the text, as declared; empty when there is none.
    min_length, max_length
        Length of text in code points.
    min_items, max_items
        Length of a list.
    unique_items
        No item of a list stands in it twice.
    non_finite
        NaN and infinities are admitted.
    zone
        Zone in which a timestamp without an offset is read; None refuses such a timestamp.
    unit, classification, description, examples
        Carried, not checked.
    """

    name: str
    kind: Kind
    item: "Field | None" = None
    dtype: str = ""
    shape: tuple[int | None, ...] = ()
    required: bool = False
    null_policy: NullPolicy = "pass"
    impute: Any = None
    sentinels: tuple[Any, ...] = ()
    padding: Any = None
    minimum: Any = None
    maximum: Any = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    enum: tuple[Any, ...] = ()
    pattern: str = ""
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    unique_items: bool = False
    non_finite: bool = False
    zone: ZoneInfo | None = None
    unit: str = ""
    classification: str = ""
    description: str = ""
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Schema:
    """One object of a contract: the shape and the rules of one kind of record.

    Parameters
    ----------
    name
        ``request``, ``response``, or the name of a source or unified table.
    fields
        In declared order.
    batched
        True: a request holds many records, and the first dimension of a tensor is the rows.
        False: a request is exactly one record whose tensors have the declared shape as a whole.
    record_rules
        Conditions over several fields of one record.
    set_rules
        Conditions over a batch: unique, reference, row count.
    description
        Carried, not checked.
    """

    name: str
    fields: tuple[Field, ...]
    batched: bool = True
    record_rules: "tuple[RecordRule, ...]" = ()
    set_rules: "tuple[SetRule, ...]" = ()
    description: str = ""

    def field(self, name: str) -> Field:
        """Field of that name.

        Raises
        ------
        ContractError
            When there is none; names the nearest.
        """
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise ContractError(
            path=self.name,
            expected="a field of this schema",
            got=repr(name),
            next_step=nearest(name, self.names),
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in declared order."""
        return tuple(each.name for each in self.fields)

    @cached_property
    def rows(self) -> "RowChecker":
        """The row path: strict JSON, records and tensors."""
        from brownfield.contract.rows import RowChecker

        return RowChecker(self)

    @cached_property
    def batches(self) -> "BatchChecker":
        """The batch path: Arrow tables."""
        from brownfield.contract.batches import BatchChecker

        return BatchChecker(self)

    @cached_property
    def expected(self) -> dict[str, str]:
        """What each rule asks for, in words, by the rule's identifier."""
        from brownfield.contract.expectations import expectations

        return expectations(self)

    def expected_of(self, rules: Iterable[str]) -> dict[str, str]:
        """Say what those of these rules ask for that the schema has."""
        return {rule: self.expected[rule] for rule in rules if rule in self.expected}

    @cached_property
    def arrow(self) -> "pa.Schema":
        """Arrow schema of accepted batches."""
        from brownfield.contract.arrow_types import arrow_schema

        return arrow_schema(self)


@dataclass(frozen=True)
class Contract:
    """A compiled data contract.

    Parameters
    ----------
    id, version, name
        From the document.
    digest
        SHA-256, in hexadecimal, of the document in canonical JSON (RFC 8785).
    schemas
        By name.
    unchecked
        Paths of quality checks in the document that belong to other tools and are not run here.
    stale_after_s
        Seconds after which a value is stale, by ``object`` or ``object.property`` (``latency`` of ``slaProperties``).
    """

    id: str
    version: str
    name: str
    digest: str
    schemas: Mapping[str, Schema] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    stale_after_s: Mapping[str, float] = field(default_factory=dict)

    def stale_after(self, schema: str, name: str) -> float | None:
        """Seconds after which a field is stale: its own bound, else that of its object; None where there is none."""
        return self.stale_after_s.get(f"{schema}.{name}", self.stale_after_s.get(schema))

    @property
    def reference(self) -> str:
        """``id@version``, as it stands in every decision."""
        return f"{self.id}@{self.version}"

    def schema(self, name: str) -> Schema:
        """Look a schema up by its name.

        Raises
        ------
        ContractError
            When there is none; names the nearest.
        """
        if name not in self.schemas:
            raise ContractError(
                where=self.reference, expected="a schema", got=repr(name), next_step=nearest(name, self.schemas)
            )
        return self.schemas[name]
