"""Memory that is given back, in a process of its own: what is there afterwards is as it was."""

import subprocess
import sys

LIBRARIES = """
import numpy as np
from brownfield.memory import give_back_libraries
x = np.arange(12.0).reshape(3, 4)
before = x @ x.T
given = give_back_libraries()
assert given > 1, given
assert ((x @ x.T) == before).all()
assert np.linalg.svd(x)[1].shape == (3,)
assert give_back_libraries() < given
"""
PAGES = """
import os
from pathlib import Path
from brownfield.memory import keep_small_pages
def said():
    return next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("THP_enabled"))
assert said().endswith("1")
if not os.fork():
    keep_small_pages()
    os._exit(0 if said().endswith("0") else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert said().endswith("1")
"""
BLOCKS = """
import psutil
from brownfield.memory import keep_large_blocks_apart
keep_large_blocks_apart()
bytearray(30_000_000)  # the allocator would take blocks of that size from its own heap from then on
before = psutil.Process().memory_info().rss
blocks = [bytearray(b"x" * 5_000_000) for _ in range(20)]
del blocks[:-1]
assert psutil.Process().memory_info().rss - before < 10_000_000
"""
FREED = """
import psutil
from brownfield.memory import give_back_freed
process = psutil.Process()
blocks = [b"x" * 50_000 for _ in range(1000)]
del blocks[:-1]
before = process.memory_info().rss
give_back_freed()
assert before - process.memory_info().rss > 30_000_000
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_libraries_work_on_after_their_pages_went_back():
    """What they hold in variables is kept, their code comes back from its file."""
    run(LIBRARIES)


def test_large_blocks_go_back_although_one_behind_them_is_kept():
    """What requests half sent took is not held for ever because one of them goes on."""
    run(BLOCKS)


def test_small_pages_are_for_the_process_that_asks():
    """Nobody else of the workspace has them."""
    run(PAGES)


def test_freed_blocks_go_back_although_one_behind_them_is_kept():
    """What starting took is not held by every process that is forked later."""
    run(FREED)
