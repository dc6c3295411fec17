"""Where records come from, read-only: tables of SQLite databases, files of folders."""

from brownfield.data.sources.base import Position, Probe, Pulled, Source
from brownfield.data.sources.folder import FolderFile
from brownfield.data.sources.sqlite import SqliteTable

__all__ = ["FolderFile", "Position", "Probe", "Pulled", "Source", "SqliteTable"]
