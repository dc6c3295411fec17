"""A silo's columns into the contract's fields, batch by batch, as its mapping file says: before any rule is checked.

Every record comes out once: as a row with the contract's fields, or as a reject of the stage ``map`` with its bytes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.contract import linear, localised
from brownfield.data.decoded import Decoded, Reject
from brownfield.data.pipeline.coercions import codes, numbers, truths
from brownfield.data.pipeline.report import MappingReport
from brownfield.data.pipeline.stamps import dates, timestamps
from brownfield.data.sources import Position, Probe, Pulled
from brownfield.errors import DeclarationError, RejectionCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from brownfield.contract import Field, Schema
    from brownfield.data.pipeline.coercions import Cast
    from brownfield.data.sources import Source
    from brownfield.integration import FieldMapping, IntegrationSpec, Location, MappingSpec

__all__ = ["Mapped", "Mapper", "column_of_field", "mapper_of", "silo_of"]

_READS = {
    "text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}  # fmt: skip
_CODES = {
    "codes": RejectionCode.MAP_CODE,
    "number": RejectionCode.MAP_NUMBER,
    "boolean": RejectionCode.MAP_BOOLEAN,
    "date": RejectionCode.MAP_DATE,
    "timestamp": RejectionCode.MAP_DATE,
}
_BLANKS = " \t"
_DISTINCT_FROM_ROWS = 1_024
"""Rows from which on the distinct values of a column are looked at instead of every row, if they are few."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one column: its values, the rows that do not fit and why, and the reasons of missing values."""

    values: pa.Array
    bad: "Mapping[RejectionCode, NDArray[np.bool_]]"
    reasons: pa.Array | None = None

    def spread(self, rows: pa.Array) -> "_Outcome":
        """Give the outcome of rows that have these distinct values."""
        places = pc.fill_null(rows, 0).to_numpy()
        present = rows.is_valid().to_numpy(zero_copy_only=False)
        bad = {code: mask[places] & present for code, mask in self.bad.items()}
        return _Outcome(self.values.take(rows), bad, None if self.reasons is None else self.reasons.take(rows))


class _FieldPlan:
    """How one field is made."""

    def __init__(self, name: str, mapping: "FieldMapping", field: "Field", kind: pa.DataType) -> None:
        self.name = name
        self.mapping = mapping
        self.kind = kind
        self.reads = _READS[mapping.reads] if mapping.reads else pa.string() if mapping.of_text else kind
        self.cast, self.code = _cast_of(mapping, field, kind)
        self.reasons = pa.array(sorted(set(mapping.sentinels.values())), pa.string())
        self.unit = None if mapping.unit is None else _factor(mapping, field)

    def apply(self, batch: pa.RecordBatch) -> _Outcome:
        """Make the field of a batch."""
        if self.mapping.concat:
            column = pc.binary_join_element_wise(
                *(batch.column(name).cast(pa.string()) for name in self.mapping.concat), self.mapping.separator
            )
        else:
            column = batch.column(self.mapping.columns[0])
        if not self.mapping.of_text and not (self.mapping.sentinels and pa.types.is_string(column.type)):
            return self._typed(column)
        if not pa.types.is_string(column.type):
            column = column.cast(pa.string())
        if _has_few(column):
            coded = column.dictionary_encode()
            if len(coded.dictionary):
                return self._texts(coded.dictionary).spread(coded.indices)
        return self._texts(column)

    def _typed(self, column: pa.Array) -> _Outcome:
        reasons = None
        if self.mapping.sentinels:
            marks = self._marks(column.type)
            column, reasons = self._set_apart(column, marks)
        return _Outcome(self._converted(column), {}, reasons)

    def _texts(self, text: pa.Array) -> _Outcome:
        bad: dict[RejectionCode, NDArray[np.bool_]] = {}
        text = _normalised(text, self.mapping, bad)
        reasons = None
        if self.mapping.sentinels:
            text, reasons = self._set_apart(text, pa.array(list(self.mapping.sentinels), pa.string()))
        if self.cast is None:
            return _Outcome(text, bad, reasons)
        values, unfit = self.cast(text)
        if unfit.any():
            bad[self.code] = unfit
        if self.mapping.zone is not None:
            values = _placed(values, ZoneInfo(self.mapping.zone), bad)
        return _Outcome(self._converted(values), bad, reasons)

    def _set_apart(self, column: pa.Array, marks: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Take the sentinels out of a column, and give the reason of each."""
        found = pc.index_in(column, value_set=marks)
        which = pa.array([self.reasons.index(reason).as_py() for reason in self.mapping.sentinels.values()], pa.int32())
        reasons = which.take(found)
        return pc.if_else(pc.is_valid(reasons), pa.scalar(None, column.type), column), reasons

    def _marks(self, kind: pa.DataType) -> pa.Array:
        try:
            return pa.array(list(self.mapping.sentinels), pa.string()).cast(kind)
        except pa.ArrowException:
            raise DeclarationError(
                path=f"fields.{self.name}.sentinels", expected=f"values of the column, which holds {kind}", got="others"
            ) from None

    def _converted(self, values: pa.Array) -> pa.Array:
        if self.unit is None:
            return values
        factor, offset = self.unit
        values = pc.multiply(values.cast(pa.float64()), factor)
        return pc.add(values, offset) if offset else values


class Mapper:
    """One mapping file, prepared for one schema.

    Parameters
    ----------
    spec
        The mapping file.
    schema
        The contract's schema of the source.
    keys
        Fields by which a record is found: of those that are normalised, spellings that fall together are counted.

    Examples
    --------
    >>> from brownfield.contract import Field, Schema
    >>> from brownfield.integration import FieldMapping, MappingSpec, load_document
    >>> schema = Schema("people", (Field(name="sex", kind="string"), Field(name="age", kind="integer", dtype="int64")))
    >>> spec = MappingSpec(fields={"sex": FieldMapping(from_="SEX_CD", codes={"M": "male", "F": "female"})},
    ...                    digest="", document=load_document(b"fields: {}", "people.yaml"))
    >>> mapper = Mapper(spec, schema)
    >>> mapper.wanted.names
    ['SEX_CD', 'age']
    >>> batch = pa.record_batch({"SEX_CD": ["F", "X"], "age": [7, 8]})
    >>> mapped = mapper.apply(Decoded(batch, str, lambda row: b"raw"))
    >>> mapped.batch.to_pylist(), [(each.rule, str(each.code)) for each in mapped.rejects]
    ([{'sex': 'female', 'age': 7}], [('sex.map', 'BF-MAP-001')])
    """

    def __init__(self, spec: "MappingSpec", schema: "Schema", keys: Sequence[str] = ()) -> None:
        self.spec = spec
        self.schema = schema
        self.missing: Counter[tuple[str, str]] = Counter()
        self._spellings: dict[str, list[pa.Table]] = {
            key: [] for key in keys if key in spec.fields and spec.fields[key].normalises and spec.fields[key].from_
        }
        arrow = schema.arrow
        self._plans = {
            name: _FieldPlan(name, each, schema.field(name), arrow.field(name).type)
            for name, each in spec.fields.items()
            if each.columns
        }
        self.wanted = self._wanted()

    def column(self, name: str) -> str:
        """Name of the silo's column that a field is read from alone.

        Raises
        ------
        DeclarationError
            When the field is not one column of the silo.
        """
        each = self.spec.fields.get(name)
        if each is None:
            return name
        if each.from_ is None or each.split is not None:
            raise DeclarationError(
                where=self.spec.where(name), path=name, expected="from, for records are read by this field", got="none"
            )
        return each.from_

    def apply(self, decoded: Decoded) -> Decoded:
        """Map records; those that do not fit become rejects of the stage ``map``."""
        batch = decoded.batch
        outcomes = {name: plan.apply(batch) for name, plan in self._plans.items()}
        for key, seen in self._spellings.items():
            pairs = pa.table([batch.column(self.column(key)), outcomes[key].values], names=["spelt", "key"])
            seen.append(pairs.group_by(["spelt", "key"]).aggregate([]))
        refused = self._refused(outcomes)
        mapped = pa.RecordBatch.from_arrays(
            [self._column(name, batch, outcomes) for name in self.schema.names], names=list(self.schema.names)
        )
        if not refused:
            self._count(outcomes, None)
            return replace(decoded, batch=mapped)
        good = np.ones(batch.num_rows, dtype=bool)
        good[list(refused)] = False
        rows = np.flatnonzero(good)
        self._count(outcomes, rows)
        rejects = tuple(
            Reject(decoded.position(row), code, name, decoded.raw(row), stage="map")
            for row, (name, code) in sorted(refused.items())
        )
        return replace(
            decoded,
            batch=mapped.take(pa.array(rows)),
            position=lambda row: decoded.position(int(rows[row])),
            raw=lambda row: decoded.raw(int(rows[row])),
            rejects=(*decoded.rejects, *rejects),
        )

    def outcome(self) -> MappingReport:
        """Say what the mapping did to the records so far."""
        missing: dict[str, dict[str, int]] = {}
        for (name, reason), rows in sorted(self.missing.items()):
            missing.setdefault(name, {})[reason] = rows
        collisions = {key: _collisions(seen) for key, seen in self._spellings.items() if seen}
        return MappingReport(self.spec.digest, missing, {key: rows for key, rows in collisions.items() if rows})

    def _wanted(self) -> pa.Schema:
        """Columns of the silo, in the order of the mapping file, and their types."""
        found: dict[str, tuple[pa.DataType, str]] = {}
        reads = [(column, plan.reads, name) for name, plan in self._plans.items() for column in plan.mapping.columns]
        reads += [(each.name, each.type, each.name) for each in self.schema.arrow if each.name not in self.spec.fields]
        for column, kind, name in reads:
            earlier, by = found.setdefault(column, (kind, name))
            if earlier != kind:
                raise DeclarationError(
                    where=self.spec.where(name),
                    path=name,
                    expected=f"the column {column} read in one way, as {earlier} for {by}",
                    got=str(kind),
                    next_step="Declare reads for one of the two fields.",
                )
        return pa.schema([(column, kind) for column, (kind, _) in found.items()])

    def _column(self, name: str, batch: pa.RecordBatch, outcomes: Mapping[str, _Outcome]) -> pa.Array:
        each = self.spec.fields.get(name)
        if each is None:
            return batch.column(name)
        if name in outcomes:
            return outcomes[name].values
        if each.constant is not None:
            return pa.repeat(pa.scalar(each.constant), batch.num_rows)
        if each.missing_of is not None:
            return pc.is_null(outcomes[each.missing_of].values)
        of = outcomes[each.reason_of or ""]
        absent = pc.if_else(pc.is_null(of.values), "not_supplied", pa.scalar(None, pa.string()))
        return (
            absent
            if of.reasons is None
            else pc.coalesce(self._plans[each.reason_of or ""].reasons.take(of.reasons), absent)
        )

    @staticmethod
    def _refused(outcomes: Mapping[str, _Outcome]) -> dict[int, tuple[str, RejectionCode]]:
        """First field of each row that does not fit, and why."""
        refused: dict[int, tuple[str, RejectionCode]] = {}
        for name, outcome in outcomes.items():
            for code, mask in outcome.bad.items():
                for row in np.flatnonzero(mask).tolist():
                    refused.setdefault(row, (name, code))
        return refused

    def _count(self, outcomes: Mapping[str, _Outcome], rows: "NDArray[np.int64] | None") -> None:
        for name, outcome in outcomes.items():
            if outcome.reasons is None:
                continue
            reasons = outcome.reasons if rows is None else outcome.reasons.take(pa.array(rows))
            if reasons.null_count < len(reasons):
                for entry in reasons.drop_null().value_counts().to_pylist():
                    self.missing[name, self._plans[name].reasons[entry["values"]].as_py()] += entry["counts"]


def mapper_of(integration: "IntegrationSpec", name: str, place: "Location") -> Mapper | None:
    """Prepare the mapping file of a place; None where its columns are the contract's fields already."""
    if place.mapping is None:
        return None
    spec, schema = integration.mappings[place.mapping], integration.contract.schema(name)
    return Mapper(spec, schema, integration.sources[name].keys)


def column_of_field(field: str, mapper: Mapper | None) -> str:
    """Name the silo's column of a field by which records are read."""
    return field if mapper is None else mapper.column(field)


def silo_of(source: "Source | None") -> Any:
    """Give the silo's own source, mapped or not."""
    return source.source if isinstance(source, Mapped) else source


class Mapped:
    """A source whose records come out as the contract's fields (:class:`~brownfield.data.sources.Source`).

    Parameters
    ----------
    source
        The silo's own.
    mapper
        What makes fields of its columns.
    """

    def __init__(self, source: "Source", mapper: Mapper) -> None:
        self.source = source
        self.mapper = mapper

    def probe(self) -> Probe:
        """Look at the silo."""
        return self.source.probe()

    def read(self, wanted: pa.Schema, after: Position | None = None) -> Iterator[Pulled]:  # noqa: ARG002 (the mapper knows what it makes)
        """Read the columns that the mapping names, and map them."""
        for pulled in self.source.read(self.mapper.wanted, after):
            yield replace(pulled, decoded=self.mapper.apply(pulled.decoded))

    def shape(self) -> Mapping[str, str]:
        """Describe each field by the columns that it is made of."""
        shape: Mapping[str, str] = getattr(self.source, "shape", dict)()
        fields = {name: plan.mapping.columns for name, plan in self.mapper._plans.items()}  # noqa: SLF001 (its own file)
        fields |= {name: (name,) for name in self.mapper.schema.names if name not in self.mapper.spec.fields}
        return {
            name: "; ".join(f"{column} {shape[column]}" for column in columns)
            for name, columns in fields.items()
            if all(column in shape for column in columns)
        }

    def ack(self, position: Position) -> None:
        """Tell the silo."""
        self.source.ack(position)


def _cast_of(mapping: "FieldMapping", field: "Field", kind: pa.DataType) -> "tuple[Cast | None, RejectionCode]":
    """Give the declared cast, and the code of what does not fit."""
    code = _CODES[mapping.casts[0]] if mapping.casts else RejectionCode.MAP_SPLIT
    if mapping.codes is not None:
        target = pa.string() if pa.types.is_temporal(kind) else kind
        unknown = None if mapping.unknown == "reject" else mapping.unknown
        return codes(mapping.codes, target, unknown), code
    if mapping.number is not None:
        fractions = mapping.number.percent or mapping.number.implied_decimals or mapping.number.exponent
        whole = field.kind == "integer" and mapping.unit is None and not fractions
        return numbers(mapping.number, whole=whole), code
    if mapping.boolean is not None:
        return truths(mapping.boolean), code
    if mapping.date is not None:
        return dates(mapping.date, mapping.first_year), code
    if mapping.timestamp is not None:
        return timestamps(mapping.timestamp, mapping.first_year), code
    return None, code


def _factor(mapping: "FieldMapping", field: "Field") -> tuple[float, float]:
    """Factor and offset of a unit; that there are some is checked with the declaration."""
    unit = mapping.unit
    if unit is None or unit.factor is not None:
        return (1.0, 0.0) if unit is None else (unit.factor or 1.0, unit.offset)
    found = linear(unit.from_, field.unit)
    if found is None:
        raise DeclarationError(path=field.name, expected=f"a unit that converts into {field.unit}", got=unit.from_)
    return found


def _normalised(text: pa.Array, mapping: "FieldMapping", bad: "dict[RejectionCode, NDArray[np.bool_]]") -> pa.Array:
    if mapping.split is not None:
        parts = pc.split_pattern(text, mapping.split.by)
        there = pc.fill_null(pc.greater_equal(pc.list_value_length(parts), mapping.split.part), fill_value=True)
        if not pc.all(there).as_py():
            bad[RejectionCode.MAP_SPLIT] = pc.invert(there).to_numpy(zero_copy_only=False)
            parts = pc.if_else(there, parts, pa.scalar(None, parts.type))
        text = pc.list_element(parts, mapping.split.part - 1)
    if mapping.trim != "none":
        trim = {"left": pc.ascii_ltrim, "right": pc.ascii_rtrim, "both": pc.ascii_trim}
        text = trim[mapping.trim](text, _BLANKS)
    if mapping.leading_zeros == "strip":
        stripped = pc.ascii_ltrim(text, "0")
        nothing = pc.and_(pc.equal(pc.binary_length(stripped), 0), pc.greater(pc.binary_length(text), 0))
        text = pc.if_else(nothing, "0", stripped) if pc.any(nothing).as_py() else stripped
    if mapping.case != "keep":
        text = pc.utf8_lower(text) if mapping.case == "lower" else pc.utf8_upper(text)
    if mapping.pad is not None:
        text = pc.utf8_lpad(text, mapping.pad.to, mapping.pad.with_)
    return text


def _placed(values: pa.Array, zone: ZoneInfo, bad: "dict[RejectionCode, NDArray[np.bool_]]") -> pa.Array:
    """Local times as instants; those that the zone has twice or not at all do not fit."""
    shifted, unclear, outside = localised(values.cast(pa.int64()), zone)
    unfit = np.asarray(unclear) | np.asarray(outside)
    if unfit.any():
        bad[RejectionCode.MAP_ZONE] = unfit
    return shifted.cast(pa.timestamp("us", "UTC"))


def _has_few(column: pa.Array) -> bool:
    """Whether a column has so few distinct values that it pays to look at those."""
    if len(column) < _DISTINCT_FROM_ROWS:
        return False
    return bool(pc.count_distinct(column.slice(0, _DISTINCT_FROM_ROWS)).as_py() < _DISTINCT_FROM_ROWS * 0.95)


def _collisions(seen: Sequence[pa.Table]) -> int:
    """Keys that are written in more than one way."""
    pairs = pa.concat_tables(seen)
    spellings = pairs.filter(pc.is_valid(pairs["key"])).group_by("key").aggregate([("spelt", "count_distinct")])
    return int(pc.sum(pc.greater(spellings["spelt_count_distinct"], 1)).as_py() or 0)
