"""How long a core installation takes and how much room it needs: a fresh environment, a wheel, no cache.

Run: ``python benchmarks/core_install.py`` (limits: 60 s and 700 MB).
The package index is the one that pip is set up for.
The wheel is built from this checkout and then looked at: the example, the migrations and the templates must be in it.
"""

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "brownfield/py.typed",
    "brownfield/report/templates/base.html",
    "brownfield/report/templates/api.html",
    "brownfield/store/migrations/versions/v0001_ledger_and_quarantine.py",
    "brownfield/workspace/examples/retail/brownfield.yaml",
    "brownfield/workspace/examples/retail/zoo.py",
    "brownfield/workspace/examples/retail/integrations/store-recommendations/bundles/store-recommender/model.onnx",
)
UNWANTED = ("__pycache__", ".pyc", "/var/", "/legacy/")


def build(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob("brownfield-*.whl")
    return wheel


def look_into(wheel: Path) -> None:
    """Stop when the wheel lacks what it needs, or carries what it should not."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in NEEDED if name not in names]
    unwanted = [name for name in names if any(part in name for part in UNWANTED)]
    if missing or unwanted:
        raise SystemExit(f"the wheel lacks {missing} and carries {unwanted[:5]}")
    print(f"wheel       {wheel.stat().st_size / 1e6:6.1f} MB in {len(names)} files")


def megabytes(folder: Path) -> float:
    """Room that a folder takes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def main() -> None:
    """Build, install into a fresh environment, start once, print the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = build(folder)
        look_into(wheel)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        made = time.perf_counter()
        python = folder / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", wheel], check=True)
        installed = time.perf_counter()
        brownfield = folder / "venv" / "bin" / "brownfield"
        subprocess.run([brownfield, "--help"], check=True, stdout=subprocess.DEVNULL)
        for verb in (["init", folder / "shop"], ["check", folder / "shop"]):
            subprocess.run([brownfield, *verb], check=True, stdout=subprocess.DEVNULL)
        print(f"environment {made - began:6.1f} s")
        print(f"install     {installed - made:6.1f} s (limit 60)")
        print(f"on disk     {megabytes(folder / 'venv'):6.0f} MB (limit 700)")


if __name__ == "__main__":
    main()
