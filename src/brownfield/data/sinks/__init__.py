"""Where effects are made, each once however often asked for: rows of tables, files of folders, messages of queues."""

from brownfield.data.sinks.base import Applied, Found, Sink, effect_id
from brownfield.data.sinks.files import FileSink
from brownfield.data.sinks.formulas import without_formulas
from brownfield.data.sinks.mysql import MysqlTableSink
from brownfield.data.sinks.postgres import PostgresTableSink
from brownfield.data.sinks.queue import QueueSink
from brownfield.data.sinks.sqlite import SqliteTableSink
from brownfield.data.sinks.table import TableTarget, ledger_ddl

__all__ = [
    "Applied",
    "FileSink",
    "Found",
    "MysqlTableSink",
    "PostgresTableSink",
    "QueueSink",
    "Sink",
    "SqliteTableSink",
    "TableTarget",
    "effect_id",
    "ledger_ddl",
    "without_formulas",
]
