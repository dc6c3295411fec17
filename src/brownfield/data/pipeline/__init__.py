"""Silo to table: sources are read, decoded, checked and joined; what is refused is kept with its reason."""

from brownfield.data.pipeline.binding import bind_source, open_format
from brownfield.data.pipeline.custody import Custody, clear_positions, custody_of, is_classified
from brownfield.data.pipeline.endpoints import Endpoint, bind_endpoint
from brownfield.data.pipeline.failover import Failover, Policy, Standing, State
from brownfield.data.pipeline.guards import Guard
from brownfield.data.pipeline.keyed import of_key
from brownfield.data.pipeline.parking import park_key
from brownfield.data.pipeline.replay import ReplayReport, discard_quarantined, replay_quarantined
from brownfield.data.pipeline.report import PipelineReport, SourceReport, TableReport
from brownfield.data.pipeline.run import Progress, run_pipeline
from brownfield.data.pipeline.tables import open_tables

__all__ = [
    "Custody",
    "Endpoint",
    "Failover",
    "Guard",
    "PipelineReport",
    "Policy",
    "Progress",
    "ReplayReport",
    "SourceReport",
    "Standing",
    "State",
    "TableReport",
    "bind_endpoint",
    "bind_source",
    "clear_positions",
    "custody_of",
    "discard_quarantined",
    "is_classified",
    "of_key",
    "open_format",
    "open_tables",
    "park_key",
    "replay_quarantined",
    "run_pipeline",
]
