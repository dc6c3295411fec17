"""A current folder whose files are named as modules are, and a search path of the environment that is heeded."""

from pathlib import Path

__all__ = ["Shadows"]

_NAMES = ("asyncio", "brownfield", "msgspec", "numpy", "select")
_SHADOW = """
import os
os.close(os.open({mark!r}, os.O_CREAT | os.O_WRONLY))
raise SystemExit("a file of the current folder was imported")
"""
_HEEDED = """
import sys
with open({begun!r}, "a") as begun:
    begun.write(" ".join(sys.orig_argv) + "\\n")
"""


class Shadows:
    """Makes a folder of such files the current one, for what is started from now on.

    Parameters
    ----------
    folder
        Where they are laid out.
    patch
        Pytest's ``monkeypatch``, which undoes it.
    """

    def __init__(self, folder: Path, patch) -> None:
        self._mark, self._begun = folder / "imported", folder / "begun"
        here, heeded = folder / "here", folder / "heeded"
        for each in (here, heeded):
            each.mkdir(parents=True)
        for name in _NAMES:
            (here / f"{name}.py").write_text(_SHADOW.format(mark=str(self._mark)))
        (heeded / "sitecustomize.py").write_text(_HEEDED.format(begun=str(self._begun)))
        patch.chdir(here)
        patch.setenv("PYTHONPATH", str(heeded), prepend=":")

    @property
    def imported(self) -> bool:
        """Whether a process took a file of the folder for a module."""
        return self._mark.exists()

    def begun(self, part: str) -> bool:
        """Whether a process with a part in its command heeded ``PYTHONPATH``."""
        return self._begun.exists() and part in self._begun.read_text()
