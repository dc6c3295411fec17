"""The table of a lookup as requests find it: each kind of value comes back as it was."""

import pyarrow as pa

from brownfield.data.served_table import ServedTable, write_served_table


def test_whole_numbers_of_every_width_come_back():
    """Unsigned numbers beyond the signed ones would else end the process that reads all lookups, again and again."""
    numbers = [2**64 - 1, 0, None, 2**63]
    rows = pa.table({"id": [1, 2, 3, 4], "number": pa.array(numbers, pa.uint64())})
    table = ServedTable(write_served_table(rows, ("id",), ["number"]))
    assert table.take("number", table.find({"id": [1, 2, 3, 4]}, 4)) == numbers
    assert ServedTable(write_served_table(rows.slice(1, 1), ("id",), ["number"])).rows == 1
