"""What a run holds of each source, table and set of parts while it is under way."""

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from brownfield.data.pipeline.mapping import Mapped, silo_of
from brownfield.data.pipeline.parts import PartKeys, PartWriter, read_parts
from brownfield.data.pipeline.report import MappingReport, SourceReport, TableReport
from brownfield.data.sources import FileFeed, Outcome
from brownfield.errors import DeclarationError
from brownfield.store import Part, SourceCounts

if TYPE_CHECKING:
    from brownfield.data.pipeline.checking import StreamCheck
    from brownfield.data.pipeline.guards import Guards
    from brownfield.data.pipeline.joining import Matcher
    from brownfield.data.pipeline.keyed import KeyedMatcher
    from brownfield.data.pipeline.lookups import Held
    from brownfield.data.sources import Position, Source
    from brownfield.store import Refused, SourceState
    from brownfield.store.parts import Parts

__all__ = ["Dataset", "SourceStream", "TableStream"]


class Dataset:
    """The parts of one table, and the one that this run adds.

    Parameters
    ----------
    name, folder, schema
        The table, where its parts lie, and their columns.
    listed
        The parts that there are; None when the table is made anew.
    tag
        What sets the names of this run's parts apart.
    writers
        Closes what this run writes.

    Raises
    ------
    DeclarationError
        When the table goes on and has no part yet.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        schema: pa.Schema,
        *,
        listed: list[Part] | None,
        tag: str,
        writers: ExitStack,
    ) -> None:
        self.name = name
        self.folder = folder
        self.schema = schema
        self._anew = listed is None
        self._listed = listed or []
        self.stamp: Mapping[bytes, bytes] = {}
        self._writers = writers
        number = int(self._listed[-1].file.partition("-")[0]) + 1 if self._listed else 0
        self._file = f"{number:06d}-{tag}.parquet"
        self._writer: PartWriter | None = None
        if self._anew:
            self._open()
        elif not listed:
            raise DeclarationError(
                where=str(folder),
                expected="the table with the rows that were read before",
                got="a table that is new in the declaration",
                next_step="Read the sources anew from their beginning: --rebuild.",
            )

    @property
    def rows_before(self) -> int:
        """Rows that the table had before this run."""
        return sum(part.rows for part in self._listed)

    @property
    def rows_total(self) -> int:
        """Rows of the table with those of this run."""
        return self.rows_before + (self._writer.rows if self._writer else 0)

    def read(self, columns: Collection[str]) -> pa.Table:
        """Read some columns of the rows that there were before this run."""
        return read_parts(self.folder, [part.file for part in self._listed], self.schema, columns)

    def keys(self) -> list[PartKeys]:
        """Give the keys of the rows that there were before this run, unread."""
        return [PartKeys(self.folder, part.file, self.schema) for part in self._listed]

    def write(self, rows: pa.Table) -> None:
        """Add rows to this run's part."""
        if rows.num_rows:
            self._open().write(rows)

    def seal(self) -> None:
        """Force this run's part to the disk."""
        if self._writer is not None:
            self._writer.seal(self.stamp)

    def enter(self, parts: "Parts", run_id: str, integration: str) -> None:
        """List this run's part, in place of all others when the table is made anew."""
        if self._anew:
            parts.clear(integration, self.name)
        if self.added is not None:
            parts.add(run_id, integration, self.name, self.added)

    @property
    def added(self) -> Part | None:
        """The part of this run; None when it has no rows to add."""
        return None if self._writer is None else Part(self._file, self._writer.rows)

    def first_rows(self, rows: int, columns: Collection[str]) -> pa.Table:
        """Read the first rows of this run's part once it is sealed, or of the part before where it has none."""
        if self._writer is not None and self._writer.rows:
            return self._writer.first_rows(rows, columns)
        return self.read(columns).slice(self.rows_before - rows if self.rows_before > rows else 0)

    @property
    def parts(self) -> list[Part]:
        """The table's parts with that of this run."""
        return [*self._listed, *([Part(self._file, self._writer.rows)] if self._writer else [])]

    def files(self) -> list[str]:
        """Names of the table's parts with that of this run."""
        return [part.file for part in self.parts]

    def _open(self) -> PartWriter:
        if self._writer is None:
            self._writer = self._writers.enter_context(PartWriter(self.folder, self._file, self.schema))
        return self._writer


@dataclass(slots=True)
class _Stream:
    """One source or table under way: its check, what was refused, and the time that it took."""

    check: "StreamCheck"
    references: Mapping[str, pa.Array] = field(kw_only=True)
    refused: "list[Refused]" = field(default_factory=list, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)

    def counts(self) -> SourceCounts:
        """Give the counts that the ledger keeps."""
        check = self.check
        return SourceCounts(check.name, check.rows_in, check.accepted, len(self.refused), by_rule=check.by_rule)

    def _reported(self) -> dict[str, Any]:
        by_rule: Counter[str] = Counter()
        by_code: Counter[str] = Counter()
        for (code, rule), rows in self.check.by_rule.items():
            by_rule[rule] += rows
            by_code[code] += rows
        return {
            "source": self.check.name,
            "rows_in": self.check.rows_in,
            "accepted": self.check.accepted,
            "quarantined": len(self.refused),
            "by_rule": dict(sorted(by_rule.items())),
            "by_code": dict(sorted(by_code.items())),
            "expected": self.check.schema.expected_of(sorted(by_rule)),
            "seconds": self.seconds,
        }


@dataclass(slots=True)
class SourceStream(_Stream):
    """One source under way: from where it is read, and how far it was."""

    is_feed: bool = field(kw_only=True)
    resumes: bool = field(kw_only=True)
    state: "SourceState | None" = field(kw_only=True)
    previous: "Position | None" = field(kw_only=True)
    kept: list[pa.Table] = field(kw_only=True)
    guards: "Guards" = field(kw_only=True)
    source: "Source | None" = field(default=None, kw_only=True)
    shape: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    unavailable: str = field(default="", kw_only=True)
    position: "Position | None" = field(default=None, kw_only=True)
    memory: Dataset | None = field(default=None, kw_only=True)
    held: "Held | None" = field(default=None, kw_only=True)
    whole: list[pa.Table] | None = field(default=None, kw_only=True)
    tables: "list[TableStream]" = field(default_factory=list, kw_only=True)

    @property
    def mapping(self) -> MappingReport:
        """What the mapping file did of the place that was read; empty where it has none, and for a copy."""
        source = self.source if self.held is None else self.held.source
        return source.mapper.outcome() if isinstance(source, Mapped) else MappingReport()

    @property
    def is_copy(self) -> bool:
        """Whether the records are not the source's own of now: a lookup's last good copy, or its last resort."""
        return self.held is not None and self.held.is_copy

    @property
    def read_from(self) -> dict[str, str]:
        """State and moment of a lookup; empty for a feed."""
        return {} if self.held is None else {"state": str(self.held.state), "as_of": self.held.as_of}

    @property
    def datasets(self) -> list[Dataset]:
        """What is remembered of a feed, and the tables that are made from the source."""
        return ([] if self.memory is None else [self.memory]) + [table.dataset for table in self.tables]

    def counts(self) -> SourceCounts:
        """Give the counts that the ledger keeps, with the version of the mapping."""
        return replace(_Stream.counts(self), mapping=self.mapping.digest)

    @property
    def files(self) -> Outcome | None:
        """What became of the files of a feed; None where it is none of files."""
        silo = silo_of(self.source)
        return silo.outcome if isinstance(silo, FileFeed) else None

    @property
    def in_a_file(self) -> bool:
        """Whether records of a file of a feed were taken."""
        return self.files is not None and self.position is not None

    def report(self) -> SourceReport:
        """Say what became of the records of this run."""
        passed = {str(guard): what for guard, what in self.guards.passed.items()}
        files = None if self.files is None else self.files.to_dict()
        return SourceReport(
            unavailable=self.unavailable,
            accepted_guards=passed,
            shadow=self.guards.shadow,
            mapping=self.mapping,
            files=files,
            state=self.read_from.get("state", ""),
            as_of=self.read_from.get("as_of", ""),
            **self._reported(),
        )


@dataclass(slots=True)
class TableStream(_Stream):
    """One unified table under way."""

    matchers: "list[Matcher | KeyedMatcher]" = field(kw_only=True)
    lookups: Mapping[str, Mapping[str, str]] = field(default_factory=dict, kw_only=True)
    dataset: Dataset = field(kw_only=True)

    def report(self) -> TableReport:
        """Say what became of the rows that this run added."""
        return TableReport(
            path=self.dataset.folder, rows_total=self.dataset.rows_total, lookups=self.lookups, **self._reported()
        )
