"""Texts that a spreadsheet would run as formulas get an apostrophe before they leave in a CSV file."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["without_formulas"]

Encode: TypeAlias = "Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]"

_FORMULA = r"\A[=+\-@\t\r\x00]"


def without_formulas(encode: Encode) -> Encode:
    r"""Wrap the ``encode`` of a format: texts and headings that begin as formulas do are quoted with an apostrophe.

    Numbers are typed, so negative ones stay numbers.

    Examples
    --------
    >>> from brownfield.data.formats import Csv
    >>> batch = pa.record_batch({"item": ["=1+1", "milk", None], "n": [-1, 2, 3]})
    >>> b"".join(without_formulas(Csv(header=False).encode)([batch]))
    b'"\'=1+1",-1\n"milk",2\n,3\n'

    References
    ----------
    OWASP Application Security Verification Standard 5.0, 1.2.10.
    """

    def encoded(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        return encode(_quoted(batch) for batch in batches)

    return encoded


def _quoted(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for column in batch.columns:
        values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            values = pc.replace_substring_regex(values, f"({_FORMULA})", r"'\1")
        columns.append(values)
    names = pc.replace_substring_regex(pa.array(batch.schema.names, pa.string()), f"({_FORMULA})", r"'\1").to_pylist()
    return pa.RecordBatch.from_arrays(columns, names=names)
