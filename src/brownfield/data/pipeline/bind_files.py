"""From a declared place that holds files to a source: the folder it lies in, its format, and how files are taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brownfield.data.folders import Folder, LocalFolder
from brownfield.data.formats import Copybook, Csv, FixedWidth, Format
from brownfield.data.pipeline.bind_sftp import bind_sftp
from brownfield.data.sources import FileFeed, FolderFile, Intake, Part, Trailer
from brownfield.errors import DeclarationError
from brownfield.integration import ConnectionSpec, IntakeSpec, Location, SftpConnection, TrailerPart, is_pattern

FILE_KINDS = frozenset({"folder", "sftp"})
"""Kinds of connections that hold files."""

__all__ = ["FILE_KINDS", "bind_files", "bind_folder"]


def bind_files(
    connection: ConnectionSpec, workspace: Path, place: Location, opened: Format, *, feed: bool
) -> FileFeed | FolderFile:
    """Make a source of files.

    Parameters
    ----------
    connection
        To the folder.
    workspace
        Its folder.
    place
        Path, format and intake.
    opened
        The format.
    feed
        Whether each file is a delivery, taken once; else one file is read whole each time.

    Raises
    ------
    DeclarationError
        When the intake does not fit the format, or a reference cannot be read.
    """
    folder, path = bind_folder(connection, workspace), place.path or ""
    has_header = isinstance(opened, Csv) and opened.header
    if not feed:
        return FolderFile(folder, path, opened.decode, _fields(opened), has_header)
    intake = _intake(place.intake or IntakeSpec(), path, opened)
    return FileFeed(folder, path, opened.decode, intake, fields=_fields(opened), has_header=has_header)


def bind_folder(connection: ConnectionSpec, workspace: Path) -> Folder:
    """Make a folder of a declared connection: for sources, and for sinks."""
    if isinstance(connection.options, SftpConnection):
        return bind_sftp(connection.options, workspace)
    return LocalFolder(connection.location(workspace).resolve())


def _intake(declared: IntakeSpec, path: str, opened: Format) -> Intake:
    given: dict[str, Any] = {"ready": declared.ready or ("marker" if is_pattern(path) else "rename")}
    if declared.stable_s is not None:
        given["stable_s"] = declared.stable_s
    return Intake(
        claim=declared.claim,
        order=declared.order,
        max_files=declared.max_files,
        marker_holds=declared.marker_holds,
        trailer=_trailer(declared, opened),
        **given,
    )


def _trailer(declared: IntakeSpec, opened: Format) -> Trailer | None:
    spec = declared.trailer
    if spec is None:
        return None
    parts = [part for part in (spec.count, *spec.totals.values()) if part is not None]
    given: dict[str, Any]
    if isinstance(opened, Csv):
        given = {"delimiter": opened.delimiter, "encoding": opened.encoding}
    elif isinstance(opened, FixedWidth) and not any(part.field for part in parts):
        given = {"encoding": opened.encoding}
    elif isinstance(opened, Copybook) and opened.record_format in {"F", "FB"} and not any(part.field for part in parts):
        given = {"encoding": opened.code_page, "record_bytes": opened.layout.record_bytes}
    else:
        raise DeclarationError(
            path="intake.trailer",
            expected="a trailer of fields in csv, or of fixed places in csv, fixed_width, or copybook of fixed length",
            got="another",
        )
    totals = {column: _part(part) for column, part in spec.totals.items()}
    return Trailer(spec.begins, None if spec.count is None else _part(spec.count), totals, **given)


def _part(spec: TrailerPart) -> Part:
    return Part(spec.field or 0, spec.start or 0, spec.length or 0, spec.scale)


def _fields(opened: Format) -> Mapping[str, str]:
    """Say where the fields of a fixed record lie and how they are written."""
    if not isinstance(opened, Copybook | FixedWidth):
        return {}
    return {
        item.name: f"{item.usage}{' signed' if item.signed else ''} {item.length} bytes at {item.offset}, "
        f"{item.digits} digits, {item.scale} of them decimal, "
        f"{tuple((axis.count, axis.stride) for axis in item.axes) or 'once'}"
        for item in opened.layout.items
    }
