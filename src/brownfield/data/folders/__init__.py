"""Folders that hold files, on this machine or behind a server, for sources and sinks alike."""

from brownfield.data.folders.base import Entry, Files, Folder, inside, matching, parent_of
from brownfield.data.folders.local import LocalFolder

__all__ = ["Entry", "Files", "Folder", "LocalFolder", "inside", "matching", "parent_of"]
