"""``parquet`` and ``arrow``: columns that are typed already, validated in full before anything is done with them.

Only wanted columns are read. Extension types are refused, names and nesting are capped, every buffer, offset,
dictionary index and text is checked, and a damaged file is refused as a whole. Files are read in a confined process
of their own, which sends what it read as batches.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from brownfield.data.decoded import Decoded, Reject
from brownfield.data.formats.base import BATCH_ROWS
from brownfield.data.formats.columnar_process import Container, batches_aside
from brownfield.data.formats.text import plain_type
from brownfield.errors import FormatError, RejectionCode, there_are

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrow", "Parquet", "read_columns", "schema_of"]

_MAX_COLUMNS = 10_000
_MAX_ROW_GROUPS = 100_000
_MAX_GROUP_BYTES = 1 << 32
"""What a row group says that it takes when it is no longer compressed."""
_MAX_NESTING = 32
_MAX_FOOTER_BYTES = 1 << 24
_MAX_FOOTER_ITEMS = 1 << 20
_EXACT_IN_FLOAT = 2**53
_EXACT_DIGITS = 15


@dataclass(frozen=True)
class Parquet:
    """Parquet files.

    Parameters
    ----------
    is_confined
        Whether files are read in a confined process of their own; False reads files of ours in this one.

    Examples
    --------
    >>> import io
    >>> batch = pa.record_batch({"store": pa.array([367, None], pa.int16()), "city": ["Boston", "Austin"]})
    >>> file = io.BytesIO(b"".join(Parquet().encode([batch])))
    >>> (decoded,) = Parquet().decode(file, pa.schema([("city", pa.string()), ("store", pa.int64())]))
    >>> decoded.batch.to_pylist(), decoded.position(1)
    ([{'city': 'Boston', 'store': 367}, {'city': 'Austin', 'store': None}], 'row 2')
    """

    is_confined: bool = True

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`).

        Raises
        ------
        FormatError
            When the file is damaged, lacks a wanted column, or writes it in a type that cannot become the wanted one.
        """
        yield from _decode("parquet", stream, wanted, batch_rows, is_confined=self.is_confined)

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`); the columns and types are those of the first batch."""
        import pyarrow.parquet as pq

        yield from _encode(batches, lambda sink, schema: pq.ParquetWriter(sink, schema, write_page_checksum=True))


@dataclass(frozen=True)
class Arrow:
    """Arrow IPC files and streams.

    Parameters
    ----------
    container
        ``file``, also called Feather, with a footer; or ``stream``.
    is_confined
        As for :class:`Parquet`.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b"".join(Arrow("stream").encode([pa.record_batch({"n": [2**60, 5]})])))
    >>> (decoded,) = Arrow("stream").decode(file, pa.schema([("n", pa.float64())]))
    >>> decoded.batch.to_pylist(), [(each.position, str(each.code)) for each in decoded.rejects]
    ([{'n': 5.0}], [('row 1', 'BF-FLD-005')])
    """

    container: Literal["file", "stream"] = "file"
    is_confined: bool = True

    def decode(self, stream: BinaryIO, wanted: pa.Schema, batch_rows: int = BATCH_ROWS) -> Iterator[Decoded]:
        """Read a stream to its end (:class:`Format`); raises as :class:`Parquet` does."""
        yield from _decode(self.container, stream, wanted, batch_rows, is_confined=self.is_confined)

    def encode(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Write records (:class:`Format`); the columns and types are those of the first batch."""
        yield from _encode(batches, pa.ipc.new_stream if self.container == "stream" else pa.ipc.new_file)


class _Outlet:
    """A sink whose bytes can be taken out as they come."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.written = 0

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        self.written += len(data)
        return len(data)

    def tell(self) -> int:
        return self.written

    def flush(self) -> None:
        """Hold nothing back."""

    def close(self) -> None:
        """Leave the bytes to be taken."""

    def take(self) -> bytes:
        parts, self.parts = self.parts, []
        return b"".join(parts)


def schema_of(container: Container, file: pa.Buffer) -> pa.Schema:
    """Give names and types of all columns, in this process."""
    if container == "parquet":
        return _open_parquet(file).schema_arrow
    return (pa.ipc.open_stream if container == "stream" else pa.ipc.open_file)(file).schema


def read_columns(
    container: Container, file: pa.Buffer, wanted: pa.Schema, batch_rows: int
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Read the wanted columns, in this process: their types, and batches that were validated in full.

    Raises
    ------
    FormatError
        When the file claims too much, lacks a wanted column, or has it in a type that cannot become the wanted one.
    """
    if container == "parquet":
        parquet = _open_parquet(file)
        _check_claims(parquet.metadata)
    found = schema_of(container, file)
    _check_schema(found, wanted)
    names = list(wanted.names)
    options = pa.ipc.IpcReadOptions(
        included_fields=sorted(found.get_field_index(name) for name in names), use_threads=False
    )
    if container == "parquet":
        batches = parquet.iter_batches(batch_rows, columns=names, use_threads=False)
    elif container == "stream":
        batches = iter(pa.ipc.open_stream(file, options=options))
    else:
        reader = pa.ipc.open_file(file, options=options)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    schema = pa.schema([(name, _unfolded(found.field(name).type)) for name in names])
    return schema, _validated(batches, schema, batch_rows)


def _open_parquet(file: pa.Buffer) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        pa.BufferReader(file),
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_ITEMS,
        page_checksum_verification=True,
    )


def _unfolded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _validated(batches: Iterable[pa.RecordBatch], schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
    for whole in batches:
        whole.validate(full=True)
        for start in range(0, whole.num_rows, batch_rows):
            part = whole.select(schema.names).slice(start, batch_rows)
            columns = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in part]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn the library's errors, which may hold values, into ours."""
    try:
        yield
    except FormatError as error:
        error.where = error.where or where
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise FormatError(
            where=where, expected="an undamaged file", got=f"one that is refused ({type(error).__name__})"
        ) from None


def _check_claims(metadata: Any) -> None:
    """Refuse a file for what its footer says, before anything of it is read."""
    if metadata.num_row_groups > _MAX_ROW_GROUPS:
        raise FormatError(expected=f"at most {_MAX_ROW_GROUPS} row groups", got="more")
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    if any(not 0 <= group.total_byte_size <= _MAX_GROUP_BYTES for group in groups):
        raise FormatError(expected=f"row groups of up to {_MAX_GROUP_BYTES >> 30} GiB", got="a larger one")


def _check_schema(schema: pa.Schema, wanted: pa.Schema) -> None:
    if len(schema) > _MAX_COLUMNS:
        raise FormatError(expected=f"at most {_MAX_COLUMNS} columns", got=str(len(schema)))
    for field in wanted:
        found = schema.get_all_field_indices(field.name)
        if len(found) != 1:
            raise FormatError(
                path=field.name, expected="one column of that name", got="several" if found else "none",
                next_step=there_are(schema.names),
            )  # fmt: skip
        kind = schema.field(found[0]).type
        if _nesting(kind) > _MAX_NESTING:
            raise FormatError(path=field.name, expected=f"at most {_MAX_NESTING} levels of nesting", got="more")
        if not _can_become(kind, field.type):
            raise FormatError(path=field.name, expected=f"a type that can become {field.type}", got=str(kind))


def _nesting(kind: pa.DataType) -> int:
    levels = 0
    while _is_list(kind) and levels <= _MAX_NESTING:
        kind, levels = kind.value_type, levels + 1
    return levels


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _can_become(kind: pa.DataType, wanted: pa.DataType) -> bool:  # noqa: PLR0911 (one return for each kind of type)
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_dictionary(kind):
        return _can_become(kind.value_type, wanted)
    if _is_list(wanted) or _is_list(kind):
        return _is_list(wanted) and _is_list(kind) and _can_become(kind.value_type, wanted.value_type)
    plain = plain_type(wanted)
    if pa.types.is_string(plain):
        return _is_text(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_null(kind)
    if pa.types.is_boolean(plain):
        return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))
    short_decimal = pa.types.is_decimal(kind) and kind.precision <= _EXACT_DIGITS
    whole = pa.types.is_integer(kind) or pa.types.is_null(kind) or (short_decimal and kind.scale == 0)
    if pa.types.is_integer(plain):
        return bool(whole)
    return bool(whole or short_decimal or pa.types.is_floating(kind))


def _decode(
    container: Container, stream: BinaryIO, wanted: pa.Schema, batch_rows: int, *, is_confined: bool
) -> Iterator[Decoded]:
    first = 0
    with _translated("parquet" if container == "parquet" else "arrow"):
        if is_confined:
            batches = batches_aside(container, stream, wanted, batch_rows)
        else:
            _, batches = read_columns(container, pa.py_buffer(stream.read()), wanted, batch_rows)
        for batch in batches:
            if is_confined:  # what was validated there came from where the file was
                batch.validate(full=True)
                _check_schema(batch.schema, wanted)
            yield _decode_batch(batch, wanted, first)
            first += batch.num_rows


def _decode_batch(batch: pa.RecordBatch, wanted: pa.Schema, first: int) -> Decoded:
    arrays: list[pa.Array] = []
    faults: dict[int, tuple[str, RejectionCode]] = {}
    for column, field in zip(batch.columns, wanted, strict=True):
        values, bad, code = _become(column, field.type)
        arrays.append(values)
        for row in np.flatnonzero(bad):
            faults.setdefault(int(row), (field.name, code))
    decoded = pa.RecordBatch.from_arrays(arrays, names=list(wanted.names))

    def raw(row: int) -> bytes:
        return msgspec.json.encode(batch.slice(row, 1).to_pylist()[0], enc_hook=str)

    rejects = tuple(
        Reject(f"row {first + row + 1}", code, name, raw(row)) for row, (name, code) in sorted(faults.items())
    )
    good = np.setdiff1d(np.arange(batch.num_rows), list(faults))
    if faults:
        decoded = decoded.take(pa.array(good))
    return Decoded(decoded, lambda row: f"row {first + int(good[row]) + 1}", lambda row: raw(int(good[row])), rejects)


def _become(  # noqa: PLR0911 (one return for each kind of type)
    column: pa.Array, wanted: pa.DataType
) -> "tuple[pa.Array, NDArray[np.bool_], RejectionCode]":
    """Give a column in its plain type, and the rows whose value has none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_list(column.type):
        return _become_list(column, wanted)
    plain = plain_type(wanted)
    if pa.types.is_string(plain) and not _is_text(column.type):
        return _spelt(column)
    if pa.types.is_string(plain):
        texts = column.cast(pa.string())
        return texts, _true(pc.match_substring(texts, "\0")), RejectionCode.DECODE_TEXT
    if pa.types.is_floating(plain) and pa.types.is_integer(column.type):
        low, high = (0 if "u" in str(column.type) else -_EXACT_IN_FLOAT), _EXACT_IN_FLOAT
        if column.type.bit_width > 32:  # noqa: PLR2004 (narrower ones are exact)
            bad = _true(pc.or_(pc.less(column, low), pc.greater(column, high)))
        else:
            bad = np.zeros(len(column), dtype=bool)
        return column.cast(plain, safe=False), bad, RejectionCode.FIELD_INEXACT
    if pa.types.is_floating(plain):
        values = column.cast(plain)
        return values, _true(pc.invert(pc.is_finite(values))), RejectionCode.DECODE_NUMBER
    if pa.types.is_uint64(column.type) and pa.types.is_int64(plain):
        bad = _true(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())))
        return column.cast(plain, safe=False), bad, RejectionCode.FIELD_INEXACT
    if pa.types.is_uint64(plain) and pa.types.is_signed_integer(column.type):
        return column.cast(plain, safe=False), _true(pc.less(column, 0)), RejectionCode.FIELD_INEXACT
    return column.cast(plain), np.zeros(len(column), dtype=bool), RejectionCode.FIELD_TYPE


def _become_list(column: pa.Array, wanted: pa.DataType) -> "tuple[pa.Array, NDArray[np.bool_], RejectionCode]":
    lists = column.cast(pa.list_(column.type.value_type))
    values, bad, code = _become(lists.flatten(), wanted.value_type)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    owners = np.repeat(np.arange(len(column)), lengths)[bad]
    in_row = np.bincount(owners, minlength=len(column)) > 0
    return pa.ListArray.from_arrays(offsets, values, mask=lists.is_null()), in_row, code


def _spelt(column: pa.Array) -> "tuple[pa.Array, NDArray[np.bool_], RejectionCode]":
    """Write dates and timestamps as texts, to the microsecond."""
    bad = np.zeros(len(column), dtype=bool)
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        micro = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        bad = _true(pc.not_equal(micro.cast(column.type, safe=False), column))
        column = micro
    return column.cast(pa.string()), bad, RejectionCode.FIELD_INEXACT


def _true(mask: pa.Array) -> "NDArray[np.bool_]":
    result: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return result


def _encode(batches: Iterable[pa.RecordBatch], writer_of: Any) -> Iterator[bytes]:
    outlet = _Outlet()
    writer: Any = None
    for batch in batches:
        writer = writer or writer_of(pa.PythonFile(outlet, "w"), batch.schema)
        writer.write_batch(batch)
        yield outlet.take()
    if writer is not None:
        writer.close()
        yield outlet.take()
