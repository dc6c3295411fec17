"""A model's own Python environment: built by uv from a hash-locked list, once for equal lists, before it is needed.

Comes in: a requirements file in which every package is pinned and carries its SHA-256, and a folder of wheels (or leave
to ask the package index). Goes out: the interpreter of an environment that is whole. Refused with
:class:`~brownfield.errors.BundleRefused`: a list of another form, an environment that was not built here, a build that
fails. Serving never builds. No code of a package runs while it is built: wheels only.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from brownfield.errors import BundleRefused

__all__ = ["ENVIRONMENT_RULES", "Environments", "environment_digest", "locked_packages"]

ENVIRONMENT_RULES: Final[Mapping[str, str]] = {
    "environment-build": "The environment of the bundle's lock cannot be built.",
    "environment-denied": "This user may not read the environment of the lock, or the Python it was made from.",
    "environment-lock": "The lock is no list of pinned packages with a SHA-256 each.",
    "environment-missing": "The environment of the bundle's lock has not been built on this host.",
    "environment-numpy": "The lock lacks what a model's process needs: numpy, and the engine of a graph.",
}
"""Identifier to meaning."""

_PINNED = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9.!+_-]+)\s*(?:;\s*([^#]+?))?", re.ASCII)
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}", re.ASCII)
_DIGEST_CHARACTERS = 32
_MARK = "environment.json"
_NEEDED = frozenset({"numpy", "onnxruntime", "openvino"})
_BUILD_TIMEOUT_S = 1800.0
_TOLD = 1200  # characters of what a builder that failed said: its first words name the package, its last ones why


def locked_packages(lock: bytes) -> dict[str, str]:
    """Give the packages of a lock and their versions, by normalized name.

    Parameters
    ----------
    lock
        The requirements file, such as ``uv pip compile --generate-hashes`` or ``pip-compile --generate-hashes`` write:
        ``name==version``, perhaps a marker, and one ``--hash=sha256:...`` or more; comments, nothing else.

    Raises
    ------
    BundleRefused
        ``environment-lock`` with the line.

    Examples
    --------
    >>> locked_packages(b"numpy==2.4.2 --hash=sha256:" + b"0" * 64)
    {'numpy': '2.4.2'}
    """
    try:
        text = lock.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("environment-lock", expected="UTF-8") from error
    packages: dict[str, str] = {}
    for number, line in _lines(text):
        requirement, *hashes = re.split(r"\s+(?=--)", line)
        pinned = _PINNED.fullmatch(requirement.strip())
        if pinned is None or not hashes or not all(_HASH.fullmatch(each.strip()) for each in hashes):
            raise _refused(
                "environment-lock",
                path=f"line {number}",
                expected="name==version --hash=sha256:...",
                got=ascii(line[:60]),
                next_step="Write it with `uv pip compile --generate-hashes requirements.in`.",
            )
        packages[_normal(pinned[1])] = pinned[2]
    return packages


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment_digest(lock: bytes) -> str:
    """Name the environment of a lock on this host: the same packages, Python and platform give the same name.

    Examples
    --------
    >>> len(environment_digest(b"numpy==2.4.2 --hash=sha256:" + b"0" * 64))
    32
    """
    lines = sorted(" ".join(line.split()) for _, line in _lines(lock.decode("utf-8", "replace")))
    said = json.dumps([lines, platform.python_version(), sysconfig.get_platform(), platform.libc_ver()])
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGEST_CHARACTERS]


class Environments:
    """The environments that were built on this host, each in a folder of the name :func:`environment_digest` gives.

    Parameters
    ----------
    folder
        Holds them all; ``var/environments`` of a workspace.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()  # its processes run in another folder

    def find(self, lock: bytes) -> Path:
        """Interpreter of the environment of a lock.

        Raises
        ------
        BundleRefused
            ``environment-missing`` when it has not been built, ``environment-denied`` when somebody else did and this
            user may not read it, ``environment-numpy`` when a marker left out what a model needs, ``environment-lock``.
        """
        packages = locked_packages(lock)
        home = self._folder / environment_digest(lock)
        if not _is_whole(home):
            raise _refused(
                "environment-missing",
                where=str(home),
                next_step="Build it: with --wheels FOLDER from a folder of wheels, or with --online.",
            )
        _check_installed(home, packages)  # one of an earlier version was not looked at when it was built
        return _python(home)

    def build(self, lock: bytes, *, wheels: Path | None = None, online: bool = False) -> Path:
        """Build the environment of a lock, unless it is there, and give its interpreter.

        It is built beside its place and renamed when it is whole; builds of the same lock wait for each other, and what
        a killed one has left is removed by the next.

        Parameters
        ----------
        lock
            See :func:`locked_packages`.
        wheels
            Folder of wheels; nothing else is asked then.
        online
            Whether the package index may be asked, as uv is configured.

        Raises
        ------
        BundleRefused
            ``environment-build`` with the last words of uv; the rules of :meth:`find`.
        """
        packages = locked_packages(lock)
        if wheels is None and not online:
            raise _refused(
                "environment-build",
                expected="a folder of wheels, or leave to ask the package index",
                got="neither",
                next_step="Give --wheels FOLDER, or --online.",
            )
        digest = environment_digest(lock)
        home = self._folder / digest
        if _is_whole(home):
            return self.find(lock)
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._folder / f".{digest}.lock"):
            for left_over in self._folder.glob(f".{digest}.*.part"):
                shutil.rmtree(left_over, ignore_errors=True)
            if not _is_whole(home):
                shutil.rmtree(home, ignore_errors=True)
                staged = Path(tempfile.mkdtemp(prefix=f".{digest}.", suffix=".part", dir=self._folder))
                try:
                    _build(staged, lock, wheels)
                    _check_installed(staged, packages)
                    _mark(staged, packages)
                    staged.chmod(0o755)  # who serves may be another user than who builds
                    staged.rename(home)
                finally:
                    shutil.rmtree(staged, ignore_errors=True)
        return self.find(lock)


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _is_whole(home: Path) -> bool:
    """Whether it was built to the end, and the Python that it was made from is still where it was."""
    python = _python(home)
    try:
        return (home / _MARK).is_file() and python.is_symlink() and python.exists()
    except PermissionError as error:
        raise _refused(
            "environment-denied",
            where=str(error.filename or home),
            next_step="Look at its owner and mode, or build it as the user who serves.",
        ) from error


def _check_installed(home: Path, packages: Mapping[str, str]) -> None:
    """Hold what a model's process needs to be there: a marker may leave it out on this host."""
    found = {_normal(each.name.split("-")[0]) for each in home.glob("lib/*/site-packages/*.dist-info")}
    left_out = (packages.keys() & _NEEDED) - found
    if left_out:
        raise _refused(
            "environment-numpy",
            expected=", ".join(sorted(left_out)),
            got="a marker in the lock that leaves it out on this host",
            next_step="Write the lock for this Python and platform.",
        )


def _build(home: Path, lock: bytes, wheels: Path | None) -> None:
    uv = _uv()
    venv = ["venv", "--relocatable", "--no-project", "--allow-existing", "--python", sys.executable, str(home)]
    source = ["--offline", "--no-index", "--no-config", "--find-links", str(wheels.resolve())] if wheels else []
    install = ["pip", "install", "--python", str(_python(home)), "--require-hashes", "--only-binary", ":all:"]
    _run([*uv, *venv], home)
    _run([*uv, *install, "--no-cache", "--link-mode", "copy", *source, "--requirements", "-"], home, lock)


def _run(command: list[str], home: Path, given: bytes = b"") -> None:
    """Run uv, which unpacks within ``home``: what a killed one leaves there is removed by the next build."""
    environment = {**os.environ, "TMPDIR": str(home)}
    try:
        done = subprocess.run(  # noqa: S603 (no shell, our own arguments)
            command, capture_output=True, check=False, input=given, env=environment, timeout=_BUILD_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _refused("environment-build", got=type(error).__name__) from error
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split())
        raise _refused(
            "environment-build",
            got=ascii(words if len(words) <= _TOLD else f"{words[: _TOLD // 3]} ... {words[-_TOLD * 2 // 3 :]}")[1:-1],
            next_step="Compare the lock with the wheels: name, version, SHA-256, Python and platform must be the same.",
        )


def _uv() -> list[str]:
    """Command of uv: the one installed beside this Python first."""
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise _refused("environment-build", expected="uv", got="none", next_step="Install it: pip install uv.")
    return [found, "--no-progress", "--color", "never"]


def _mark(home: Path, packages: Mapping[str, str]) -> None:
    """Say that it is whole; the last file to be written."""
    facts = {"packages": packages, "python": platform.python_version(), "platform": sysconfig.get_platform()}
    with (home / _MARK).open("w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with their numbers: comments are gone, continued lines are one."""
    whole, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        plain = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        first = first if whole else number
        if plain.endswith("\\"):
            whole += plain[:-1] + " "
            continue
        whole += plain
        if whole.strip():
            yield first, whole.strip()
        whole = ""
    if whole.strip():
        yield first, whole.strip()


def _refused(rule: str, what: str = "", **details: str | None) -> BundleRefused:
    return BundleRefused(what or ENVIRONMENT_RULES[rule].rstrip("."), rule=rule, **details)
