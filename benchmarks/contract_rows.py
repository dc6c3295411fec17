"""Rate of the contract's two paths on a record of 10 fields and 9 rules, paired with the plain libraries.

Run: ``python benchmarks/contract_rows.py [--rows 100000] [--rounds 5]``. Everything runs in this process, in turns, on
one core; the best round of each counts. Bodies hold one record or 1,000. Prints records per CPU-second, and the ratio
to ``RowChecker.decode`` on bodies of 1,000.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

from brownfield.contract import Schema, compile_contract

PER_BODY = 1000
STORES, DEPARTMENTS = range(1, 458), ["GROCERY", "FUEL", "DELI", "PRODUCE", "MEAT"]


def contract() -> Schema:
    """Ten fields, eight value rules and one record rule."""
    bounded = [
        ("line_id", "integer", {"minimum": 1}),
        ("store_id", "integer", {"minimum": 1, "maximum": 500}),
        ("household_id", "integer", {}),
        ("quantity", "integer", {"minimum": 0, "maximum": 100_000}),
        ("price", "number", {"minimum": 0}),
        ("discount", "number", {"maximum": 0}),
        ("product", "string", {"minLength": 1, "maxLength": 40}),
        ("week", "integer", {"minimum": 1, "maximum": 53}),
        ("loyal", "boolean", {}),
    ]
    properties: list[dict[str, Any]] = [
        {"name": name, "logicalType": kind, "required": True, "logicalTypeOptions": options}
        for name, kind, options in bounded
    ]
    enum = [{"value": each} for each in DEPARTMENTS]
    properties.append({"name": "department", "logicalType": "string", "required": True, "enum": enum})
    rule = {"id": "fuel", "type": "custom", "engine": "brownfield",
            "implementation": {"rule": "department == 'FUEL' or quantity <= 1000"}}  # fmt: skip
    return compile_contract(
        {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "bench", "version": "1", "status": "active",
         "schema": [{"name": "sales", "properties": properties, "quality": [rule]}]}
    ).schema("sales")  # fmt: skip


def records(rows: int) -> list[dict[str, Any]]:
    """Make valid records, the same on every run."""
    draw = random.Random(7)  # noqa: S311 (figures, not secrets)
    return [
        {
            "line_id": row + 1,
            "store_id": draw.choice(STORES),
            "household_id": draw.randrange(2500),
            "quantity": draw.randrange(1, 20),
            "price": draw.randrange(100, 9900) / 100,
            "discount": -draw.randrange(100) / 100,
            "product": f"PRODUCT TYPE {draw.randrange(300)}",
            "week": draw.randrange(1, 54),
            "loyal": draw.random() < 0.5,
            "department": draw.choice(DEPARTMENTS),
        }
        for row in range(rows)
    ]


def peers(schema: Schema) -> dict[str, Callable[[bytes], Any]]:
    """Give decoders to compare with: msgspec with types alone, and pydantic with the same bounds where it is there."""
    types = {"integer": int, "number": float, "string": str, "boolean": bool}
    plain = msgspec.defstruct("Plain", [(field.name, types[field.kind]) for field in schema.fields])
    found: dict[str, Callable[[bytes], Any]] = {"msgspec, types only": msgspec.json.Decoder(list[plain]).decode}  # type: ignore[valid-type]
    try:
        import pydantic
    except ImportError:
        return found
    fields: dict[str, Any] = {
        field.name: (types[field.kind], pydantic.Field(ge=field.minimum, le=field.maximum, max_length=field.max_length))
        if field.minimum is not None or field.maximum is not None or field.max_length is not None
        else (types[field.kind], ...)
        for field in schema.fields
    }
    model = pydantic.create_model("Model", __config__=pydantic.ConfigDict(extra="forbid", strict=True), **fields)
    found["pydantic, fields only"] = pydantic.TypeAdapter(list[model]).validate_json  # type: ignore[valid-type]
    return found


def each(decode: Callable[[bytes], Any], bodies: list[bytes]) -> None:
    """Decode every body and let go of it, as a server does."""
    for body in bodies:
        decode(body)


def rate(work: Callable[[], Any], rows: int) -> float:
    """Measure records per CPU-second of one run."""
    start = time.process_time()
    work()
    return rows / (time.process_time() - start)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows, schema = arguments.rows, contract()
    plain = records(rows)
    bodies = [json.dumps(plain[start : start + PER_BODY]).encode() for start in range(0, rows, PER_BODY)]
    lines = [json.dumps(each).encode() for each in plain]
    table = pa.Table.from_pylist(plain)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in schema.names}
    decode, check_columns, check_batch = schema.rows.decode, schema.rows.check_columns, schema.batches.check
    works: dict[str, Callable[[], Any]] = {
        "RowChecker.decode, 1,000 a body": lambda: each(decode, bodies),
        "RowChecker.decode, 1 a body": lambda: each(decode, lines),
        "RowChecker.check_columns": lambda: check_columns(columns, rows),
        "BatchChecker.check": lambda: check_batch(table),
    }
    works |= {name: (lambda peer=peer: each(peer, bodies)) for name, peer in peers(schema).items()}
    best = dict.fromkeys(works, 0.0)
    for _ in range(arguments.rounds):
        for name, work in works.items():
            best[name] = max(best[name], rate(work, rows))
    base = best["RowChecker.decode, 1,000 a body"]
    for name, figure in best.items():
        print(f"{name:32} {figure / 1e6:8.3f} M records/s {figure / base:8.2f}x")


if __name__ == "__main__":
    main()
