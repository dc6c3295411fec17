"""Secrets: never shown, never pickled, read from private files alone."""

import copy
import json
import logging
import pickle

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import Reference
from brownfield.security import Secret, resolve_secret

CANARY = "CANARY-hunter2-4711"


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r}".format, "{:>20}".format, lambda secret: f"{[secret]} {{'k': {secret!r}}}"],
    ids=["repr", "str", "format", "format-repr", "format-spec", "containers"],
)
def test_s18_a_secret_is_never_shown(show):
    """S-18: however a secret is printed, its value is not there."""
    assert CANARY not in show(Secret(CANARY))


def test_s18_a_secret_is_not_in_logs_or_json(caplog):
    """S-18: logging it shows stars, and serialising it fails instead of leaking."""
    logging.getLogger("test").warning("connecting with %s", Secret(CANARY))
    assert CANARY not in caplog.text
    with pytest.raises(TypeError):
        json.dumps(Secret(CANARY))


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_s18_a_secret_does_not_travel(send):
    """S-18: it cannot be pickled or copied, so it does not end in a child process or a crash dump by accident."""
    with pytest.raises(TypeError, match="not pickled"):
        send(Secret(CANARY))


def test_secrets_compare_and_do_not_hash():
    """Equal values are equal, and a secret is no key of a mapping."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError):
        hash(Secret("a"))


@pytest.fixture
def file(tmp_path):
    """A file with a secret in it."""
    path = tmp_path / "token"
    path.write_text(CANARY + "\n")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_s37_a_private_file_is_read(file, mode):
    """S-37: a file that only its owner may read gives its content, without the line end."""
    file.chmod(mode)
    assert resolve_secret(Reference(file="token"), file.parent).reveal() == CANARY


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o777])
def test_s37_an_open_file_is_refused_with_the_way_out(file, mode):
    """S-37: a file that others may read or write is refused, saying which command closes it, without its content."""
    file.chmod(mode)
    with pytest.raises(DeclarationError) as refused:
        resolve_secret(Reference(file="token"), file.parent)
    assert f"chmod 600 {file}" in str(refused.value)
    assert f"mode {mode:04o}" in str(refused.value)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("uid", "mode", "accepted"),
    [(0, 0o640, True), (0, 0o440, True), (0, 0o644, False), (12345, 0o600, False), (None, 0o640, False)],
)
def test_s37_root_may_share_with_the_services_group(file, monkeypatch, uid, mode, accepted):
    """S-37: 0640 is right for a file of root's that the service's group reads, and for nobody else's."""
    status = file.stat()
    owner = 4711 if uid is None else uid
    monkeypatch.setattr("os.geteuid", lambda: 4711)

    class Status:
        st_mode = (status.st_mode & ~0o777) | mode
        st_uid = owner

    monkeypatch.setattr(type(file), "stat", lambda *_, **__: Status)
    if accepted:
        assert resolve_secret(Reference(file="token"), file.parent).reveal() == CANARY
    else:
        with pytest.raises(DeclarationError):
            resolve_secret(Reference(file="token"), file.parent)


def test_environment_variables_and_what_is_missing(monkeypatch, tmp_path):
    """A secret comes from the environment too; what is not there is named."""
    monkeypatch.setenv("POS_PASSWORD", CANARY)
    assert resolve_secret(Reference(env="POS_PASSWORD"), tmp_path).reveal() == CANARY
    monkeypatch.delenv("POS_PASSWORD")
    with pytest.raises(DeclarationError, match="POS_PASSWORD"):
        resolve_secret(Reference(env="POS_PASSWORD"), tmp_path)
    with pytest.raises(DeclarationError, match="file nowhere"):
        resolve_secret(Reference(file="nowhere"), tmp_path)
