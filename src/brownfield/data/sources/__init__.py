"""Where records come from, read-only: tables of databases, files of folders, queues of brokers."""

from brownfield.data.sources.base import Position, Probe, Pulled, Source
from brownfield.data.sources.budget import Budget, BudgetSpent, Quiet
from brownfield.data.sources.changes import ChangeTable, change_ddl
from brownfield.data.sources.database import DatabaseTable
from brownfield.data.sources.dialect import Address, Dialect
from brownfield.data.sources.folder import FolderFile
from brownfield.data.sources.http import Ask, HttpClient, Reply, Site
from brownfield.data.sources.intake import FileFeed, Intake, Outcome
from brownfield.data.sources.mysql import Mysql, pymysql_parameters
from brownfield.data.sources.odbc import Odbc, connection_parts
from brownfield.data.sources.oracle import Oracle
from brownfield.data.sources.postgres import Postgres, libpq_parameters
from brownfield.data.sources.queue import QueueSource, Taking
from brownfield.data.sources.reflection import Reflected, reflect_server, reflect_sqlite
from brownfield.data.sources.sqlite import SqliteTable
from brownfield.data.sources.totals import Part, Trailer
from brownfield.data.sources.window import Cursor

__all__ = [
    "Address",
    "Ask",
    "Budget",
    "BudgetSpent",
    "ChangeTable",
    "Cursor",
    "DatabaseTable",
    "Dialect",
    "FileFeed",
    "FolderFile",
    "HttpClient",
    "Intake",
    "Mysql",
    "Odbc",
    "Oracle",
    "Outcome",
    "Part",
    "Position",
    "Postgres",
    "Probe",
    "Pulled",
    "QueueSource",
    "Quiet",
    "Reflected",
    "Reply",
    "Site",
    "Source",
    "SqliteTable",
    "Taking",
    "Trailer",
    "change_ddl",
    "connection_parts",
    "libpq_parameters",
    "pymysql_parameters",
    "reflect_server",
    "reflect_sqlite",
]
