"""How many threads the libraries of this process would use, asked of the libraries themselves.

Only what is loaded is asked, by the functions that BLAS and OpenMP libraries have for it; nothing is loaded for it, and
a library that is not known here is not counted.
"""

import ctypes
import os
import re

__all__ = ["thread_pools"]

_PATH = re.compile(rb"(/[^\n]*/lib([^/\n]+)\.so[^/\n]*)\n")
_LONGEST_BYTES = 4 * 2**20
_GETTERS = {
    "openblas": (
        *("openblas_get_num_threads", "openblas_get_num_threads64_"),
        *("scipy_openblas_get_num_threads", "scipy_openblas_get_num_threads64_"),
    ),
    "openmp": ("omp_get_max_threads",),
    "mkl": ("MKL_Get_Max_Threads",),
    "blis": ("bli_thread_get_num_threads",),
}
_BY_NAME = {
    "openblas": "openblas",
    "scipy_openblas": "openblas",
    "gomp": "openmp",
    "omp": "openmp",
    "iomp5": "openmp",
    "mkl_rt": "mkl",
    "blis": "blis",
}


def thread_pools(maps: int) -> dict[str, int]:
    """Give the threads by kind of library, the most where there are several of a kind.

    Parameters
    ----------
    maps
        Descriptor of ``/proc/self/maps``: opened before the sandbox closed, read now.
    """
    found: dict[str, int] = {}
    text = b""
    while len(text) < _LONGEST_BYTES and (part := os.read(maps, 65536)):
        text += part
    for path, name in set(_PATH.findall(text)):
        kind = _kind(name.decode("ascii", "replace"))
        threads = _asked(os.fsdecode(path), _GETTERS[kind]) if kind else 0
        if threads > 0:
            found[kind] = max(found.get(kind, 0), threads)
    return found


def _kind(name: str) -> str:
    """Kind of a library by its name without ``lib``: packages put a digest or a number behind it."""
    return next((kind for start, kind in _BY_NAME.items() if re.match(rf"{start}(\d*_)?([-.]|$)", name)), "")


def _asked(path: str, getters: tuple[str, ...]) -> int:
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return 0
    for name in getters:
        getter = getattr(library, name, None)
        if getter is not None:
            return int(getter())
    return 0
