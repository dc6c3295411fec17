"""Many small parts into few large ones, so that a run costs what is new and not how many runs there were.

Neighbours of about one size are merged eight at a time, so a row is written again only when its part grows eightfold.
The merged part is written hidden, takes the place of the others in the store in one transaction, and then in the
folder; whatever is killed or fails in between, the store's list is the truth and the next run settles the folder.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from brownfield.data.pipeline.parts import PartWriter, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brownfield.store import Part, Store

__all__ = ["compact", "mergeable"]

FAN = 8
"""Parts of one size that are merged into one."""
LARGEST_ROWS = 8_000_000
"""Rows from which on a part is left as it is."""
_GROUP_ROWS = 131_072


def mergeable(parts: "Sequence[Part]", held: Collection[str] = ()) -> "Sequence[Part]":
    """Give the newest parts that should become one; none while there are few of a size.

    Parameters
    ----------
    parts
        Of one table, oldest first.
    held
        Names of parts that something else still reads.

    Examples
    --------
    >>> from brownfield.store import Part
    >>> parts = [Part("0", 100), *(Part(str(number), 3) for number in range(1, 9))]
    >>> [part.file for part in mergeable(parts)]
    ['1', '2', '3', '4', '5', '6', '7', '8']
    >>> mergeable(parts, held=["8"])
    []
    """
    found: Sequence[Part] = []
    merged = 0
    highest = max((_level(part.rows) for part in parts), default=0)
    for level in range(highest + 1):
        tail = _tail(parts, level, held)
        if len(tail) - merged + bool(merged) >= FAN:
            found, merged = tail, len(tail)
    return found


def _tail(parts: "Sequence[Part]", level: int, held: Collection[str]) -> "Sequence[Part]":
    """Newest parts in a row that are of a level at most, and free."""
    length = 0
    for part in reversed(parts):
        if _level(part.rows) > level or part.rows >= LARGEST_ROWS or part.file in held:
            break
        length += 1
    return parts[len(parts) - length :]


def _level(rows: int) -> int:
    return int(math.log(max(rows, 1), FAN) + 1e-9)


def compact(  # noqa: PLR0913 (what a table is made of)
    store: "Store", integration: str, name: str, folder: Path, parts: "Sequence[Part]", *, run_id: str,
    held: Collection[str] = (),
) -> bool:  # fmt: skip
    """Merge the newest parts of one table if there are many small ones; the caller holds the lock of the tables.

    Parameters
    ----------
    store
        Lists the parts.
    integration, name, folder
        The table, and where its parts lie.
    parts
        As the store lists them, oldest first.
    run_id
        The run that does it.
    held
        Names of parts that something else still reads: their rows are not delivered yet.

    Returns
    -------
    bool
        Whether parts were merged.

    Raises
    ------
    StoreError
        When the store lists other parts meanwhile.
    """
    from brownfield.store import Part

    old = mergeable(parts, held)
    if not old:
        return False
    files = [part.file for part in old]
    merged = f"{files[-1].partition('-')[0]}-{run_id[:8]}m.parquet"
    with ExitStack() as stack:
        readers = [stack.enter_context(pq.ParquetFile(folder / file)) for file in files]
        writer = stack.enter_context(PartWriter(folder, merged, readers[0].schema_arrow))
        for rows in _grouped(readers):
            writer.write(rows)
        writer.seal()
        with store.commit() as tx:
            tx.parts.replace(run_id, integration, name, files, Part(merged, writer.rows))
    settle(folder, [*(part.file for part in parts[: len(parts) - len(old)]), merged])
    return True


def _grouped(readers: "Sequence[pq.ParquetFile]") -> Iterator[pa.Table]:
    """Read the rows of several parts in their order, in groups of one size."""
    waiting: list[pa.Table] = []
    rows = 0
    for reader in readers:
        for batch in reader.iter_batches(_GROUP_ROWS, use_threads=False):
            waiting.append(pa.Table.from_batches([batch]))
            rows += batch.num_rows
            if rows >= _GROUP_ROWS:
                yield pa.concat_tables(waiting)
                waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting)
