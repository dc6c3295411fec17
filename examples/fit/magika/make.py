"""Magika says what kind of file landed in the file drop: the graph from its package, files from this machine.

Usage: python examples/fit/magika/make.py FOLDER

Needs magika. The files are those of Python, of its packages and of the system; the truth is what their names end in.
At most 80 files of a kind are taken, the same ones each time on the same machine.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from laying import inside, lay_out, main  # noqa: E402

MODEL = "models/standard_v3_3"
PART, BLOCK, NOTHING = 1024, 4096, 256
PER_KIND, SMALLEST, LOOKED_AT = 80, 64, 25_000
KINDS = {
    ".py": "python", ".pyc": "pythonbytecode", ".c": "c", ".cpp": "cpp", ".js": "javascript", ".css": "css",
    ".html": "html", ".json": "json", ".md": "markdown", ".rst": "rst", ".sh": "shell", ".so": "elf", ".png": "png",
    ".gif": "gif", ".svg": "svg", ".xml": "xml", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".ini": "ini",
    ".zip": "zip", ".gz": "gzip", ".pl": "perl", ".pm": "perl", ".sql": "sql", ".csv": "csv", ".ttf": "ttf",
    ".wav": "wav", ".po": "po", ".java": "java", ".rb": "ruby", ".lua": "lua", ".parquet": "parquet", ".onnx": "onnx",
    ".npy": "npy", ".npz": "npz", ".tar": "tar", ".xz": "xz", ".bz2": "bzip", ".php": "php", ".patch": "diff",
    ".diff": "diff", ".bat": "batch", ".ps1": "powershell", ".tcl": "tcl", ".f90": "fortran", ".exe": "pebin",
    ".proto": "proto", ".ipynb": "ipynb", ".m4": "m4", ".tex": "latex", ".ts": "typescript", ".go": "go",
}  # fmt: skip
EVERYWHERE = (Path(sys.base_prefix), Path(sys.prefix), Path("/usr/share"), Path("/usr/lib"), Path("/usr/include"))


def make(folder: Path) -> None:
    """Lay the workspace out."""
    given = json.loads(inside("magika", f"{MODEL}/config.min.json").read_text(encoding="utf-8"))
    numbers = {label: number for number, label in enumerate(given["target_labels_space"])}
    chosen = [(file, kind) for kind, files in sorted(files_by_kind().items()) for file in files]
    rows = {
        "bytes": np.stack([ends_of(file.read_bytes()) for file, _ in chosen]),
        "truth": np.array([numbers[kind] for _, kind in chosen]),
    }
    graph = inside("magika", f"{MODEL}/model.onnx").read_bytes()
    lay_out(HERE, folder, graph, rows, f"magika {version('magika')}")


def files_by_kind() -> dict[str, list[Path]]:
    """Files of each kind, drawn by the digest of their names; no two with the same content."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files():
        kind = KINDS.get(file.suffix)
        if kind and file.is_file() and not file.is_symlink() and file.stat().st_size >= SMALLEST:
            found[kind].append(file)
    taken: dict[str, list[Path]] = defaultdict(list)
    seen = set()
    for kind, all_of_it in found.items():
        for file in sorted(all_of_it, key=lambda each: sha256(str(each).encode()).digest()):
            content = sha256(file.read_bytes()).digest()
            if content not in seen and len(taken[kind]) < PER_KIND:
                seen.add(content)
                taken[kind].append(file)
    return taken


def files() -> Iterator[Path]:
    """Every file of the folders, each folder up to a number of files."""
    for top in dict.fromkeys(EVERYWHERE):
        for count, file in enumerate(top.rglob("*.*")):
            if count > LOOKED_AT:
                break
            yield file


def ends_of(content: bytes) -> np.ndarray:
    """First and last 1,024 bytes without the white space around them, shape ``(2048,)``; 256 where there is none."""
    first, last = content[:BLOCK].lstrip()[:PART], content[-BLOCK:].rstrip()[-PART:]
    row = np.full(2 * PART, NOTHING, dtype=np.int32)
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[2 * PART - len(last) :] = np.frombuffer(last, np.uint8)
    return row


if __name__ == "__main__":
    main(make, __doc__)
