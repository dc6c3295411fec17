"""Silo to table: sources are read, decoded, checked and joined; what is refused is kept with its reason."""

from brownfield.data.pipeline.binding import bind_source, open_format
from brownfield.data.pipeline.custody import Custody, clear_positions, custody_of, is_classified
from brownfield.data.pipeline.guards import Guard
from brownfield.data.pipeline.parking import park_key
from brownfield.data.pipeline.replay import ReplayReport, discard_quarantined, replay_quarantined
from brownfield.data.pipeline.report import PipelineReport, SourceReport, TableReport
from brownfield.data.pipeline.run import Progress, run_pipeline
from brownfield.data.pipeline.tables import open_tables

__all__ = [
    "Custody",
    "Guard",
    "PipelineReport",
    "Progress",
    "ReplayReport",
    "SourceReport",
    "TableReport",
    "bind_source",
    "clear_positions",
    "custody_of",
    "discard_quarantined",
    "is_classified",
    "open_format",
    "open_tables",
    "park_key",
    "replay_quarantined",
    "run_pipeline",
]
