"""Wheels for tests: tiny ones made on the spot, real ones downloaded by name, and locks that name their hashes."""

import base64
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, *, files: Mapping[str, str] = {}, **modules: str) -> Path:
    """A pure wheel of a few modules by their text, and of other files by their path in it."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {**files, **{f"{module}.py": text for module, text in modules.items()}}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{path},sha256={_record(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return path


def lock_of(*wheels: Path) -> bytes:
    """A lock that pins these wheels."""
    lines = []
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return "".join(lines).encode()


def downloaded(name: str, version: str, folder: Path) -> Path:
    """A real wheel, downloaded by name once and kept in the machine's temporary folder."""
    kept = Path(tempfile.gettempdir()) / "brownfield-test-wheels"
    found = list(kept.glob(f"{name}-{version}-*.whl"))
    if not found:
        with tempfile.TemporaryDirectory() as fresh:
            command = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", fresh]
            subprocess.run([sys.executable, *command, f"{name}=={version}"], check=True, timeout=300)
            kept.mkdir(exist_ok=True)
            for wheel in Path(fresh).glob("*.whl"):
                part = kept / f"{wheel.name}.{Path(fresh).name}.part"
                shutil.copyfile(wheel, part)
                part.rename(kept / wheel.name)
        found = list(kept.glob(f"{name}-{version}-*.whl"))
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(found[0], folder / found[0].name))


def _record(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
