"""Folders that hold files, on this machine or behind a server, for sources and sinks alike."""

from brownfield.data.folders.base import Entry, Files, Folder, inside, matching, parent_of
from brownfield.data.folders.local import LocalFolder
from brownfield.data.folders.sftp import Allowance, SftpAddress, SftpFolder

__all__ = [
    "Allowance",
    "Entry",
    "Files",
    "Folder",
    "LocalFolder",
    "SftpAddress",
    "SftpFolder",
    "inside",
    "matching",
    "parent_of",
]
