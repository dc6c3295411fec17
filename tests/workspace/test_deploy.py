"""The systemd unit and the Containerfile that `init --deploy` writes."""

import configparser
import json
import shutil
import subprocess

import pytest

from brownfield import __version__
from brownfield.errors import DeclarationError
from brownfield.integration import load_workspace
from brownfield.workspace.deploy import deploy_files, write_deploy_files

HARDENED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ReadWritePaths": "/srv/brownfield/corner-shop/var",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictSUIDSGID": "true",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "Restart": "on-failure",
    "ExecReload": "/bin/kill -HUP $MAINPID",
    "User": "brownfield",
}


@pytest.fixture
def workspace(tmp_path):
    """A workspace that listens on a port of its own."""
    (tmp_path / "brownfield.yaml").write_text("workspace: corner-shop\nserving: {host: 127.0.0.1, port: 9191}\n")
    return tmp_path


@pytest.fixture
def files(workspace):
    """The deployment files by name."""
    return {name.rpartition("/")[2]: text for name, text in deploy_files(load_workspace(workspace)).items()}


def test_the_unit_is_hardened(files, tmp_path):
    """The service may write below var alone, gains no rights, reloads by SIGHUP; systemd, if here, knows every line."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read_string(files["brownfield-corner-shop.service"])
    assert {name: unit["Service"][name] for name in HARDENED} == HARDENED
    assert unit["Service"]["ExecStart"].endswith("brownfield serve /srv/brownfield/corner-shop")
    assert _complaints(tmp_path / "brownfield-corner-shop.service", files) == []


def _complaints(path, files):
    """What systemd-analyze finds, but for the programs that are not installed here."""
    if shutil.which("systemd-analyze") is None:
        return []
    path.write_text(files[path.name])
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if path.name in line and "is not executable" not in line]


def test_the_container_runs_unprivileged_and_is_checked(files):
    """It is built from the slim image, runs as a numbered user, and asks the open health route of the declared port."""
    lines = files["Containerfile"].splitlines()
    assert "FROM python:3.11-slim" in lines
    assert "USER 10001" in lines
    assert "EXPOSE 9191" in lines
    assert any(f"brownfield=={__version__}" in line for line in lines)
    [check] = [line for line in lines if line.startswith("HEALTHCHECK")]
    command = json.loads(check[check.index("[") :])
    assert "http://127.0.0.1:9191/v2/health/ready" in command[2]
    compile(command[2], "healthcheck", "exec")
    [entry] = [line for line in lines if line.startswith("ENTRYPOINT")]
    assert json.loads(entry.removeprefix("ENTRYPOINT "))[:2] == ["brownfield", "serve"]


def test_the_files_hold_no_secret_and_are_written_below_deploy(workspace):
    """Writing them twice gives the same files; what they say of secrets is where to put them."""
    written = write_deploy_files(workspace)
    assert sorted(path.relative_to(workspace).as_posix() for path in written) == [
        "deploy/Containerfile",
        "deploy/brownfield-corner-shop.service",
    ]
    before = [path.read_text() for path in written]
    assert [path.read_text() for path in write_deploy_files(workspace)] == before


@pytest.mark.parametrize("link", ["deploy", "deploy/Containerfile"], ids=["B-76-folder", "B-76-file"])
def test_b_76_nothing_is_written_behind_a_link(workspace, tmp_path, link):
    """B-76: a link where a file or its folder belongs is refused, and what it leads to stays as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Containerfile").write_text("theirs")
    (workspace / link).parent.mkdir(exist_ok=True)
    (workspace / link).symlink_to(outside if link == "deploy" else outside / "Containerfile")
    with pytest.raises(DeclarationError, match="a link"):
        write_deploy_files(workspace)
    assert (outside / "Containerfile").read_text() == "theirs"
    assert [each.name for each in outside.iterdir()] == ["Containerfile"]


def test_b_76_a_file_that_was_changed_is_not_written_over(workspace):
    """B-76: what somebody changed by hand is refused by name, and nothing else is written either."""
    unit, container = sorted(write_deploy_files(workspace), reverse=True)
    container.write_text("ours\n")
    unit.unlink()
    with pytest.raises(DeclarationError, match="another file"):
        write_deploy_files(workspace)
    assert container.read_text() == "ours\n"
    assert not unit.exists()
