"""Start the server, with the folder above as a package of its own, so that no ``brownfield`` need be installed."""

import importlib
import sys
import types
from pathlib import Path

if __name__ == "__main__":
    package = types.ModuleType("brownfield_worker")
    process = Path(__file__).resolve().parent.parent
    package.__path__ = [str(process), str(process.parents[1])]  # the second for confinement.py alone
    sys.modules[package.__name__] = package
    sys.exit(importlib.import_module("brownfield_worker.child.start").main(sys.argv[1]))
