"""A folder of this machine and the same one behind an OpenSSH server, for several of the data rooms' tests."""

import pytest

from brownfield.data.folders import LocalFolder
from harness.sftp import sftp_server  # noqa: F401 (a fixture)


@pytest.fixture
def root(tmp_path):
    """An empty folder."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture(params=["local", pytest.param("sftp", marks=pytest.mark.full)])
def folder(request, root, tmp_path):
    """The folder, reached in each way."""
    if request.param == "local":
        return LocalFolder(root)
    return request.getfixturevalue("sftp_server").folder(root, tmp_path / "var")
