"""Arrow columns as the text format of PostgreSQL's COPY, column by column and without a loop over the rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.errors import DeclarationError

__all__ = ["copy_text"]

_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))


def copy_text(table: pa.Table) -> pa.Buffer:
    r"""Write rows as COPY reads them: fields parted by tabs, ``\N`` for null, one line a row.

    Parameters
    ----------
    table
        Columns of single values; instants without a zone are taken as UTC.

    Returns
    -------
    pyarrow.Buffer
        UTF-8.

    Raises
    ------
    DeclarationError
        When a column holds lists or other nested values.

    Examples
    --------
    >>> copy_text(pa.table({"basket": [7, None], "label": ["a\tb", "c\\d"]})).to_pybytes()
    b'7\ta\\tb\n\\N\tc\\\\d\n'
    """
    if not table.num_rows:
        return pa.py_buffer(b"")
    fields = [_field(table.column(name), name) for name in table.column_names]
    fields[-1] = pc.binary_join_element_wise(
        fields[-1], pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string())
    )
    lines = pc.binary_join_element_wise(*fields, pa.scalar("\t", pa.large_string())).combine_chunks()
    _, offsets, data = lines.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)
    first, last = places[lines.offset], places[lines.offset + len(lines)]
    return data.slice(first, last - first)


def _field(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Spell one column, escaped, null as its mark."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_nested(kind):
        raise DeclarationError(path=name, expected="a column of single values", got=str(kind))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        spelt = [None if each is None else "\\\\x" + each.hex() for each in column.to_pylist()]
        text = pa.chunked_array([pa.array(spelt, pa.large_string())])
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = column.cast(pa.large_string())
        for mark, written in _ESCAPES:
            text = pc.replace_substring(text, mark, written)
    else:
        text = column.cast(pa.large_string())
    return pc.fill_null(text, "\\N")
