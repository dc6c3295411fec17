"""Files of a folder: inside it, whole, and the same from the first byte to the last."""

import os

import pyarrow as pa
import pytest

from brownfield.data.decoded import Decoded
from brownfield.data.folders import LocalFolder
from brownfield.data.sources import FolderFile
from brownfield.errors import DeclarationError, SourceUnavailable

WANTED = pa.schema([("line", pa.string())])


def lines(stream, wanted):
    """One batch per line."""
    for raw in stream:
        batch = pa.record_batch({"line": [raw.decode()]})
        yield Decoded(batch, lambda _: "line", lambda _, raw=raw: raw)


@pytest.fixture
def drop(tmp_path):
    """A folder with one file, and a secret beside it."""
    (tmp_path / "secret.txt").write_text("outside")
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / "a.txt").write_text("1\n2\n")
    return folder


def test_a_file_is_read_whole_and_named_by_its_content(drop):
    """The origin and the position hold the digest, so another delivery under the same name is another file."""
    first = list(FolderFile(LocalFolder(drop), "a.txt", lines).read(WANTED))
    assert [pulled.decoded.batch.to_pylist() for pulled in first] == [[{"line": "1\n"}], [{"line": "2\n"}]]
    (drop / "a.txt").write_text("1\n3\n")
    second = list(FolderFile(LocalFolder(drop), "a.txt", lines).read(WANTED))
    assert first[0].origin != second[0].origin
    assert list(FolderFile(LocalFolder(drop), "a.txt", lines).read(WANTED, second[-1].position)) == []
    assert FolderFile(LocalFolder(drop), "a.txt", lines).probe().size_bytes == 4


@pytest.mark.parametrize("path", ["../secret.txt", "link.txt", "/etc/hostname", "folder/../../secret.txt"])
def test_a_path_that_leads_outside_is_refused(drop, path):
    """Neither dots nor links leave the folder."""
    (drop / "link.txt").symlink_to(drop.parent / "secret.txt")
    with pytest.raises(DeclarationError, match="inside the folder"):
        FolderFile(LocalFolder(drop), path, lines).probe()


def test_what_is_no_plain_file_is_unavailable(drop):
    """Missing files, folders and pipes are named; a pipe does not make us wait."""
    os.mkfifo(drop / "pipe")
    for path in ("missing.txt", ".", "pipe"):
        with pytest.raises(SourceUnavailable):
            list(FolderFile(LocalFolder(drop), path, lines).read(WANTED))


def test_a_file_that_grows_while_it_is_read_is_refused(drop):
    """Half a delivery is never taken for a whole one."""
    reading = FolderFile(LocalFolder(drop), "a.txt", lines).read(WANTED)
    next(reading)
    with (drop / "a.txt").open("a") as file:
        file.write("3\n")
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        list(reading)
