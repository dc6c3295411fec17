"""Silo to table: sources are read, decoded, checked and joined; what is refused is kept with its reason."""

from brownfield.data.pipeline.binding import bind_source
from brownfield.data.pipeline.custody import Custody, clear_positions, custody_of, is_classified
from brownfield.data.pipeline.delivery import approve_write_back, current_digest, discard_write_back
from brownfield.data.pipeline.endpoints import Endpoint, bind_endpoint
from brownfield.data.pipeline.failover import Failover, Policy, Standing, State
from brownfield.data.pipeline.forms import form_of
from brownfield.data.pipeline.guards import Guard
from brownfield.data.pipeline.keyed import of_key
from brownfield.data.pipeline.mapping import mapper_of
from brownfield.data.pipeline.parking import park_key
from brownfield.data.pipeline.preview import WriteBackPreview, preview_write_back
from brownfield.data.pipeline.replay import ReplayReport, discard_quarantined, replay_quarantined
from brownfield.data.pipeline.report import PipelineReport, SourceReport, TableReport, WriteBackReport
from brownfield.data.pipeline.run import run_pipeline
from brownfield.data.pipeline.running import Progress
from brownfield.data.pipeline.servers import ca_file_of
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
    "WriteBackPreview",
    "WriteBackReport",
    "approve_write_back",
    "bind_endpoint",
    "bind_source",
    "ca_file_of",
    "clear_positions",
    "current_digest",
    "custody_of",
    "discard_quarantined",
    "discard_write_back",
    "form_of",
    "is_classified",
    "mapper_of",
    "of_key",
    "open_tables",
    "park_key",
    "preview_write_back",
    "replay_quarantined",
    "run_pipeline",
]
