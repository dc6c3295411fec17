"""Records per second and core of the copybook format beside a plain Python decoder of the same records.

Usage: python benchmarks/copybook_decode.py [RECORDS]
"""

import io
import sys
import time
from decimal import Decimal

import numpy as np
import pyarrow as pa

from brownfield.data.formats import Copybook, compile_copybook

COPYBOOK = """
       01  PRODUCT.
           05  PRODUCT-ID   PIC 9(9)      COMP-3.
           05  MAKER-ID     PIC S9(9)     COMP.
           05  PRICE        PIC S9(7)V99  COMP-3.
           05  STOCK        PIC S9(6).
           05  DEPARTMENT   PIC X(12).
           05  LABEL        PIC X(20).
"""
WANTED = pa.schema(
    {
        "product_id": pa.int64(),
        "maker_id": pa.int64(),
        "price": pa.float64(),
        "stock": pa.int64(),
        "department": pa.string(),
        "label": pa.string(),
    }
)


def records(count: int) -> bytes:
    """Make records of 52 bytes, each 1,000th with a bad sign."""
    rng = np.random.default_rng(1)
    price = rng.integers(-(10**8), 10**8, count)
    batch = pa.record_batch(
        {
            "product_id": rng.integers(0, 10**9, count),
            "maker_id": rng.integers(-(10**8), 10**8, count),
            "price": price / 100,
            "stock": rng.integers(-999_999, 999_999, count),
            "department": [f"DEPT {number}" for number in rng.integers(0, 40, count)],
            "label": [f"PRODUCT {number}" for number in rng.integers(0, 10**9, count)],
        }
    )
    (data,) = Copybook(compile_copybook(COPYBOOK)).encode([batch])
    matrix = np.frombuffer(data, dtype=np.uint8).reshape(count, -1).copy()
    matrix[::1000, 4] = 0x10
    return matrix.tobytes()


def brownfield(data: bytes) -> tuple[int, int]:
    """Decode with Brownfield: rows and rejects."""
    rows = rejects = 0
    for decoded in Copybook(compile_copybook(COPYBOOK)).decode(io.BytesIO(data), WANTED):
        rows += decoded.batch.num_rows
        rejects += len(decoded.rejects)
    return rows, rejects


def plain_python(data: bytes) -> tuple[int, int]:
    """Decode record by record with the standard library: rows and rejects."""
    rows, rejects = [], 0
    for start in range(0, len(data), 52):
        record = data[start : start + 52]
        try:
            rows.append(
                (
                    packed(record[:5]),
                    int.from_bytes(record[5:9], "big", signed=True),
                    float(Decimal(packed(record[9:14])).scaleb(-2)),
                    zoned(record[14:20]),
                    record[20:32].decode("cp037").rstrip(),
                    record[32:52].decode("cp037").rstrip(),
                )
            )
        except ValueError:
            rejects += 1
    return len(rows), rejects


def packed(field: bytes) -> int:
    """Decode one packed number."""
    text = field.hex()
    sign = text[-1]
    if sign not in "cdf":
        raise ValueError(sign)
    return -int(text[:-1]) if sign == "d" else int(text[:-1])


def zoned(field: bytes) -> int:
    """Decode one zoned number."""
    zone, digit = divmod(field[-1], 16)
    if zone not in (0xC, 0xD, 0xF) or digit > 9 or any(not 0xF0 <= byte <= 0xF9 for byte in field[:-1]):
        raise ValueError(field)
    number = int(field[:-1].decode("cp037")) * 10 + digit
    return -number if zone == 0xD else number


def main() -> None:
    """Print the better of five interleaved runs of each, and their ratio."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    data = records(count)
    best = {brownfield: float("inf"), plain_python: float("inf")}
    for _ in range(5):
        for decode in (brownfield, plain_python):
            begun = time.process_time()
            outcome = decode(data)
            best[decode] = min(best[decode], time.process_time() - begun)
            assert outcome == (count - -(-count // 1000), -(-count // 1000))
    for decode, seconds in best.items():
        print(f"{decode.__name__}: {count / seconds:,.0f} records/s/core ({len(data) / count:.0f} bytes each)")
    print(f"ratio: {best[plain_python] / best[brownfield]:.2f}")


if __name__ == "__main__":
    main()
