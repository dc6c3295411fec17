"""An account that may log in and is not given SFTP: its shell is none, or prints something of its own."""

import shutil

import pytest

from brownfield.data.folders.sftp import SftpFolder
from brownfield.errors import DeclarationError
from harness.sftp import SftpServer

pytestmark = pytest.mark.skipif(shutil.which("sshd", path="/usr/sbin") is None, reason="OpenSSH's server is missing")


@pytest.fixture
def talkative(tmp_path):
    """A server that answers with a sentence where SFTP is expected."""
    server = SftpServer(tmp_path, "/bin/echo This account is currently not available.")
    yield server
    server.stop()


def opened(folder: SftpFolder) -> None:
    """Open a folder, and nothing more."""
    with folder.opened():
        pass


def test_a_server_that_speaks_no_sftp_with_the_account_is_told_as_that(talkative, tmp_path) -> None:
    """It is an error of the connection, with what its owner is to be asked."""
    with pytest.raises(ConnectionError, match="does not speak SFTP with this account"):
        opened(talkative.folder(tmp_path, tmp_path / "var"))


def test_a_key_that_cannot_be_read_is_asked_for_its_passphrase(talkative, tmp_path) -> None:
    """A protected key looks like any other text."""
    with pytest.raises(DeclarationError, match="declare passphrase beside it"):
        opened(talkative.folder(tmp_path, tmp_path / "var", private_key="-----BEGIN OPENSSH PRIVATE KEY-----"))
