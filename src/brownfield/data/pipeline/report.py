"""What a pipeline run did, as frozen values that become JSON: every record read is accepted or quarantined."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["PipelineReport", "SourceReport", "TableReport"]


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
    """

    source: str
    rows_in: int
    accepted: int
    quarantined: int
    by_rule: Mapping[str, int] = field(default_factory=dict)
    by_code: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    unavailable: str = ""
    accepted_guards: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    as_of: str = ""
    shadow: str = ""

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
        }


def _plain(report: SourceReport) -> dict[str, Any]:
    return {
        "rows_in": report.rows_in,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "by_rule": dict(report.by_rule),
        "by_code": dict(report.by_code),
        "seconds": round(report.seconds, 3),
        "unavailable": report.unavailable,
        "accepted_guards": dict(report.accepted_guards),
        **({"state": report.state, "as_of": report.as_of} if report.state else {}),
        "shadow": report.shadow,
    }


def _extent(report: TableReport) -> dict[str, Any]:
    extent: dict[str, Any] = {"path": str(report.path), "rows_total": report.rows_total}
    return extent | ({"lookups": {name: dict(each) for name, each in report.lookups.items()}} if report.lookups else {})
