"""What a pipeline run did, as frozen values that become JSON: every record read is accepted or quarantined."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["MappingReport", "PipelineReport", "SourceReport", "TableReport", "WriteBackReport"]


@dataclass(frozen=True, slots=True)
class MappingReport:
    """What a mapping file did to one source's records.

    Parameters
    ----------
    digest
        SHA-256 of the file: the version under which the records were read.
    missing
        Values that stood for a missing one, by field and reason.
    collisions
        Keys of a lookup that are written in more than one way and fell together, by field.
    """

    digest: str = ""
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    collisions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What became of one source's records.

    Parameters
    ----------
    source
        Its name in the declaration.
    rows_in, accepted, quarantined
        Records read; those that the contract admits; those that do not decode or that it refuses.
    by_rule, by_code
        Quarantined records by rule and by rejection code; a record that breaks several counts under each.
    expected
        What those of these rules that stand in the contract ask for, in words.
    seconds
        Time spent on the source.
    unavailable
        Why a feed was left for the next run; empty when it was read.
    accepted_guards
        Guards that were let pass in this run, each with what it found.
    state, as_of
        What a lookup was read from (``PRIMARY``, ``REPLICA``, ``SNAPSHOT``, ``FALLBACK``) and the moment that its
        records show, as RFC 3339 (``unknown`` where its source cannot be believed); empty for a feed.
    shadow
        Why all records went to quarantine; empty where the tables took the good ones.
    mapping
        What the mapping file did; empty for a source without one.
    files
        Of a feed of files: those taken, repeated, refused (with code and reason) and waiting; else None.
    """

    source: str
    rows_in: int
    accepted: int
    quarantined: int
    by_rule: Mapping[str, int] = field(default_factory=dict)
    by_code: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    unavailable: str = ""
    accepted_guards: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    as_of: str = ""
    shadow: str = ""
    mapping: MappingReport = MappingReport()
    files: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.rows_in != self.accepted + self.quarantined:
            raise AssertionError(f"{self.source}: {self.rows_in} in, {self.accepted} + {self.quarantined} out")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport(SourceReport):
    """What was added to one unified table; ``rows_in`` are the accepted rows of the source that it is made from.

    Parameters
    ----------
    path
        The folder of its Parquet files.
    rows_total
        Rows that the table has now.
    lookups
        ``state`` and ``as_of`` of each lookup that was joined to the rows of this run.
    """

    path: Path
    rows_total: int
    lookups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBackReport:
    """What one sink got in a run.

    Parameters
    ----------
    sink
        Name of the write-back.
    rows
        Rows that it got in this run.
    pending_rows
        Rows that still wait for it.
    waiting
        Why they wait; empty when none does.
    """

    sink: str
    rows: int
    pending_rows: int
    waiting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """What one run did.

    Parameters
    ----------
    run_id
        Its identifier in the ledger.
    integration, contract
        Names; the contract as ``id@version``.
    sources, tables
        By name, in the order in which they were read.
    write_back
        What each sink got, by the name of the write-back.
    seconds
        Time of the whole run.
    expired
        Refused records that were kept longer than declared and lost their bytes.
    """

    run_id: str
    integration: str
    contract: str
    sources: Mapping[str, SourceReport]
    tables: Mapping[str, TableReport]
    seconds: float
    expired: int = 0
    write_back: Mapping[str, WriteBackReport] = field(default_factory=dict)

    @property
    def waiting(self) -> bool:
        """Whether rows wait that a sink should have."""
        return any(each.waiting for each in self.write_back.values())

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "run_id": self.run_id,
            "integration": self.integration,
            "contract": self.contract,
            "seconds": round(self.seconds, 3),
            "expired": self.expired,
            "sources": {name: _plain(each) for name, each in self.sources.items()},
            "tables": {name: _plain(each) | _extent(each) for name, each in self.tables.items()},
            "write_back": {name: asdict(each) for name, each in self.write_back.items()},
        }


def _plain(report: SourceReport) -> dict[str, Any]:
    return {
        "rows_in": report.rows_in,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "by_rule": dict(report.by_rule),
        "by_code": dict(report.by_code),
        "expected": dict(report.expected),
        "seconds": round(report.seconds, 3),
        "unavailable": report.unavailable,
        "accepted_guards": dict(report.accepted_guards),
        **({"state": report.state, "as_of": report.as_of} if report.state else {}),
        "shadow": report.shadow,
        "mapping": asdict(report.mapping),
    } | ({} if report.files is None else {"files": dict(report.files)})


def _extent(report: TableReport) -> dict[str, Any]:
    extent: dict[str, Any] = {"path": str(report.path), "rows_total": report.rows_total}
    return extent | ({"lookups": {name: dict(each) for name, each in report.lookups.items()}} if report.lookups else {})
