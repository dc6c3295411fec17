"""Where records come from, read-only: tables of databases, files of folders."""

from brownfield.data.sources.base import Position, Probe, Pulled, Source
from brownfield.data.sources.budget import Budget, Quiet
from brownfield.data.sources.changes import ChangeTable, change_ddl
from brownfield.data.sources.database import DatabaseTable
from brownfield.data.sources.dialect import Address, Dialect
from brownfield.data.sources.folder import FolderFile
from brownfield.data.sources.mysql import Mysql
from brownfield.data.sources.odbc import Odbc, connection_parts
from brownfield.data.sources.oracle import Oracle
from brownfield.data.sources.postgres import Postgres
from brownfield.data.sources.sqlite import SqliteTable
from brownfield.data.sources.window import Cursor

__all__ = [
    "Address",
    "Budget",
    "ChangeTable",
    "Cursor",
    "DatabaseTable",
    "Dialect",
    "FolderFile",
    "Mysql",
    "Odbc",
    "Oracle",
    "Position",
    "Postgres",
    "Probe",
    "Pulled",
    "Quiet",
    "Source",
    "SqliteTable",
    "change_ddl",
    "connection_parts",
]
