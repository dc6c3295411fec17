"""Reading V2 requests of many numbers: simdjson into arrays, beside msgspec into objects and from these into arrays.

M1's and M2's requests in JSON, by rows. Both ways end with the same arrays; which of them a gateway takes goes by the
length of the text. In one process, in turns; the least of the blocks hardly moves, also on a busy machine.

    python benchmarks/many_numbers.py [--rounds 15]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from brownfield.serving.gateway.v2_messages import QUICK, decode_plain, packed
from brownfield.serving.gateway.v2_numbers import decode_numbers
from serving_models import m1, m2

ROWS = (1, 4, 8, 16, 32, 100)
CALLS = 50


def by_objects(body: bytes) -> list[np.ndarray]:
    """Decode to Python's numbers, and pack these."""
    read = []
    for tensor in decode_plain(body).inputs:
        quick = QUICK[tensor.__struct_config__.tag]
        read.append(np.frombuffer(packed(quick.code, tensor.data), quick.dtype))
    return read


def by_arrays(body: bytes) -> list[np.ndarray]:
    """Decode to arrays, and give these their type."""
    return [tensor.numbers.astype(QUICK[tensor.datatype].dtype, copy=False) for tensor in decode_numbers(body).inputs]


def least_us(read: Callable[[bytes], list[np.ndarray]], body: bytes) -> float:
    """Microseconds of one call in a block of some."""
    began_ns = time.perf_counter_ns()
    for _ in range(CALLS):
        read(body)
    return (time.perf_counter_ns() - began_ns) / CALLS / 1000


def main() -> None:
    """Print a line for each model and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print("model  rows   bytes  objects us  arrays us  ratio")
    for model in (m1(), m2()):
        for rows in ROWS:
            body = model.body(rows)
            for one, other in zip(by_objects(body), by_arrays(body), strict=True):
                assert one.dtype == other.dtype
                assert one.tolist() == other.tolist()
            blocks = [(least_us(by_objects, body), least_us(by_arrays, body)) for _ in range(options.rounds)]
            objects, arrays = (min(block) for block in zip(*blocks, strict=True))
            print(f"{model.name:5} {rows:5} {len(body):7} {objects:11.1f} {arrays:10.1f} {arrays / objects:6.2f}")


if __name__ == "__main__":
    main()
