"""Where effects are made, each once however often it is asked for: rows of SQL tables, files of drop folders."""

from brownfield.data.sinks.base import Applied, Found, Sink, effect_id
from brownfield.data.sinks.files import FileSink
from brownfield.data.sinks.formulas import without_formulas
from brownfield.data.sinks.mysql import MysqlTableSink
from brownfield.data.sinks.postgres import PostgresTableSink
from brownfield.data.sinks.sqlite import SqliteTableSink
from brownfield.data.sinks.table import TableTarget, ledger_ddl

__all__ = [
    "Applied",
    "FileSink",
    "Found",
    "MysqlTableSink",
    "PostgresTableSink",
    "Sink",
    "SqliteTableSink",
    "TableTarget",
    "effect_id",
    "ledger_ddl",
    "without_formulas",
]
