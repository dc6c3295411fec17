"""What an operator needs to run a workspace: a hardened systemd unit and a Containerfile, as text to be reviewed.

The unit lets the service write below ``var`` alone; everything else of the machine is read-only, hidden or refused.
"""

from collections.abc import Mapping
from pathlib import Path

from brownfield import __version__
from brownfield.errors import DeclarationError
from brownfield.integration import WorkspaceSpec, load_workspace

__all__ = ["deploy_files", "write_deploy_files"]

_UNIT = """\
# Put the workspace under /srv/brownfield/{name}, Brownfield under /opt/brownfield, then:
#   useradd --system --no-create-home brownfield
#   install -d -o brownfield -g brownfield -m 0700 /srv/brownfield/{name}/var
# Where a bundle has a requirements.lock: its environment, once, in /srv/brownfield/{name} and from a folder of wheels:
#   runuser -u brownfield -- /opt/brownfield/bin/brownfield bundle BUNDLE --build-environment --wheels WHEELS
#   install -m 0644 deploy/brownfield-{name}.service /etc/systemd/system/ && systemctl enable --now brownfield-{name}
[Unit]
Description=Brownfield workspace {name}
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User=brownfield
Group=brownfield
WorkingDirectory=/srv/brownfield/{name}
ExecStart=/opt/brownfield/bin/brownfield serve /srv/brownfield/{name}
# A reload is whole or not at all: an invalid declaration leaves the running one in place.
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec=30
Restart=on-failure
RestartSec=2
# A token or password as a credential; declare it as {{file: /run/credentials/brownfield-{name}.service/till_token}}.
#LoadCredential=till_token:/etc/brownfield/till_token

UMask=0077
LimitNOFILE=65536
ProtectSystem=strict
ReadWritePaths=/srv/brownfield/{name}/var
ProtectHome=true
PrivateTmp=true
PrivateDevices=true
ProtectProc=invisible
ProtectClock=true
ProtectHostname=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
# Model processes are shut into user and network namespaces of their own.
RestrictNamespaces=user net
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
RemoveIPC=true
SystemCallArchitectures=native
SystemCallFilter=@system-service seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_CONTAINERFILE = """\
# Build in the workspace's folder:  podman build -t brownfield-{name} -f deploy/Containerfile .
# Beyond loopback a token is required: declare access.tokens in brownfield.yaml and mount or pass what they name, e.g.
#   podman run --read-only -p {port}:{port} -v brownfield-{name}-var:/srv/brownfield/{name}/var \\
#     --secret till_token,uid=10001,mode=0400 brownfield-{name}
# A bundle with a requirements.lock has its environment built once, in the volume that is served, from wheels:
#   podman run --rm -v brownfield-{name}-var:/srv/brownfield/{name}/var -v ./wheels:/wheels:ro \\
#     --entrypoint brownfield brownfield-{name} bundle BUNDLE --build-environment --wheels /wheels
# Mount the folders and files of the legacy system read-only where the connections look for them.
FROM python:3.11-slim
RUN pip install --no-cache-dir brownfield=={version} \\
 && useradd --system --uid 10001 --no-create-home brownfield \\
 && install -d -o brownfield -g brownfield -m 0700 /srv/brownfield/{name}/var
WORKDIR /srv/brownfield/{name}
COPY brownfield.yaml ./
COPY integrations ./integrations
USER 10001
VOLUME ["/srv/brownfield/{name}/var"]
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-c", \
"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/v2/health/ready', timeout=2)"]
ENTRYPOINT ["brownfield", "serve", "/srv/brownfield/{name}", "--host", "0.0.0.0"]
"""


def deploy_files(spec: WorkspaceSpec) -> Mapping[str, str]:
    """Text of every deployment file by its path below the workspace.

    Parameters
    ----------
    spec
        The workspace; its name and port stand in the files.
    """
    values = {"name": spec.name, "port": spec.serving.port, "version": __version__}
    return {
        f"deploy/brownfield-{spec.name}.service": _UNIT.format(**values),
        "deploy/Containerfile": _CONTAINERFILE.format(**values),
    }


def write_deploy_files(workspace: Path) -> list[Path]:
    """Write the deployment files into a workspace: all of them, or none.

    Raises
    ------
    DeclarationError
        When the workspace does not load, or a link or another file lies where one is to be written.
    """
    texts = {workspace / name: text for name, text in deploy_files(load_workspace(workspace)).items()}
    for path, text in texts.items():
        if path.is_symlink() or path.parent.is_symlink():
            raise DeclarationError(where=str(path), expected="a file or nothing", got="a link", next_step="Remove it.")
        if path.exists() and path.read_bytes() != text.encode():
            raise DeclarationError(
                where=str(path),
                expected="nothing, or the file as it would be written",
                got="another file",
                next_step="Move it away; what was changed in it by hand is yours to take over.",
            )
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)
