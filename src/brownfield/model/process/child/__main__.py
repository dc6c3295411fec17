"""Start the server, with the folder above as a package of its own, so that no ``brownfield`` need be installed.

Of that folder the source is run, also where what a gateway shares with it was compiled: that is for one Python alone,
and for ``brownfield`` by that name.
"""

import importlib
import importlib.machinery
import sys
import types
from pathlib import Path

if __name__ == "__main__":
    package = types.ModuleType("brownfield_worker")
    process = Path(__file__).resolve().parent.parent
    package.__path__ = [str(process), str(process.parents[1])]  # the second for confinement.py alone
    source = (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES)
    sys.path_importer_cache[str(process)] = importlib.machinery.FileFinder(str(process), source)
    sys.modules[package.__name__] = package
    sys.exit(importlib.import_module("brownfield_worker.child.start").main(sys.argv[1]))
