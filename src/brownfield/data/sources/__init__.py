"""Where records come from, read-only: tables of databases, files of folders."""

from brownfield.data.sources.base import Position, Probe, Pulled, Source
from brownfield.data.sources.budget import Budget, Quiet
from brownfield.data.sources.database import DatabaseTable
from brownfield.data.sources.dialect import Address, Dialect
from brownfield.data.sources.folder import FolderFile
from brownfield.data.sources.http import Ask, HttpClient, Reply, Site
from brownfield.data.sources.mysql import Mysql
from brownfield.data.sources.postgres import Postgres
from brownfield.data.sources.sqlite import SqliteTable
from brownfield.data.sources.window import Cursor

__all__ = [
    "Address",
    "Ask",
    "Budget",
    "Cursor",
    "DatabaseTable",
    "Dialect",
    "FolderFile",
    "HttpClient",
    "Mysql",
    "Position",
    "Postgres",
    "Probe",
    "Pulled",
    "Quiet",
    "Reply",
    "Site",
    "Source",
    "SqliteTable",
]
