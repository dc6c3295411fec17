"""Copybooks compile to the bytes that COBOL lays out, or are refused with the line."""

import pytest

from brownfield.data.formats import compile_copybook
from brownfield.errors import FormatError

FIELDS = [
    ("PIC X(10)", 10),
    ("PIC A(3)", 3),
    ("PIC XX9", 3),
    ("PIC 9(5)", 5),
    ("PIC S9(5)V99", 7),
    ("PICTURE IS S9(5) SIGN IS TRAILING SEPARATE CHARACTER", 6),
    ("PIC S9(5) LEADING", 5),
    ("PIC S9(4) COMP", 2),
    ("PIC 9(5) USAGE IS BINARY", 4),
    ("PIC S9(10) COMP-4", 8),
    ("PIC S9(4) COMP-5", 2),
    ("PIC S9(5)V99 COMP-3", 4),
    ("PIC 9(4) PACKED-DECIMAL VALUE 12", 3),
    ("PIC VPP", None),
    ("PIC 9(3)P(2)", 3),
    ("PIC SVPP9(3) COMP-3", 2),
    ("PIC 9(4) COMP-6", 2),
    ("PIC 9(5) COMP-6", 3),
    ("COMP-1", 4),
    ("USAGE COMP-2", 8),
    ("PIC 9(4) BLANK WHEN ZERO", 4),
    ("PIC X(4) OCCURS 3 ASCENDING KEY IS K INDEXED BY I", 12),
    ("PIC X(3) VALUE 'A. B'", 3),
    ("PIC 9(2) OCCURS 5 TIMES INDEXED BY I", 10),
]


@pytest.mark.parametrize(("clauses", "size"), FIELDS)
def test_a_field_takes_the_bytes_that_cobol_gives_it(clauses, size):
    """Lengths follow the standard's rules for each usage."""
    text = f"01 R. 05 A PIC X. 05 B {clauses}. 05 C PIC X."
    if size is None:
        with pytest.raises(FormatError, match="not read"):
            compile_copybook(text)
        return
    layout = compile_copybook(text)
    assert layout.record_bytes == size + 2
    assert layout.items[-1].offset == size + 1


@pytest.mark.parametrize(
    ("clauses", "word"),
    [
        pytest.param("PIC X. 05 B REDEFINES C PIC 9", "REDEFINES of the field before", id="B-39-redefines"),
        pytest.param(
            "PIC 9. 05 B PIC X(4). 05 C REDEFINES B. 10 D PIC X OCCURS 1 TO 4 DEPENDING ON A",
            "inside REDEFINES",
            id="B-39-varying-branch",
        ),
        pytest.param("PIC X. 05 B PIC X OCCURS 1 TO 9 TIMES DEPENDING ON A", "whole number", id="B-39-text-counter"),
        pytest.param("PIC 9. 05 B PIC X OCCURS 1 TO 9 TIMES DEPENDING ON C", "not in the copybook", id="B-39-counter"),
        pytest.param("PIC 9 OCCURS 1 TO 9 DEPENDING ON B. 05 B PIC 9", "before the table", id="B-39-late-counter"),
        pytest.param("PIC 9. 05 B PIC X OCCURS 1 TO 9", "DEPENDING", id="B-39-no-counter"),
        ("PIC ZZ9.99", "picture"),
        ("PIC 9(19)", "18 digits"),
        ("PIC X(4). 05 B PIC S9(12) COMP SYNC", "compilers differ"),
        ("PIC X(2). 05 B OCCURS 2. 10 D PIC 9(4) COMP SYNC. 10 E PIC X", "SYNCHRONIZED in or behind"),
        ("PIC 9(4) COMP-1", "no picture"),
        ("PIC S9(4) COMP-6", "no sign"),
        ("PIC S9(4) BLANK WHEN ZERO", "unsigned"),
        ("PIC X. COPY OTHER", "COPY is not read. Expand it first"),
        ("PIC X. 05 B PIC X REPLACING", "REPLACING"),
        ("PIC G(4)", "double-byte"),
        ("PIC 9P9", "picture"),
        ("PIC X JUSTIFIED RIGHT", "JUSTIFIED"),
        ("PIC X. 66 B RENAMES A", "level 66"),
        ("PIC X. 01 S. 05 T PIC X", "second record"),
        ("PIC N(4)", "national"),
        ("PIC 9(999999999)", "too long"),
        ("", "needs a picture"),
        ("PIC X. 10 B PIC X", "fields below it"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(clauses, word):
    """A clause that would shift the fields behind it is never guessed at."""
    with pytest.raises(FormatError, match=word) as caught:
        compile_copybook(f"01 R.\n   05 A {clauses}.\n", "r.cpy")
    assert caught.value.where.startswith("r.cpy:2")


def test_fixed_form_with_sequence_numbers_and_comments():
    """Columns 1 to 6 and 73 to 80 are not code, and an asterisk in column 7 makes a comment."""
    text = (
        "000100* A COMMENT.\n"
        "000200 01  R.                                                           RIGHT\n"
        "000300     05  STORE-ID   PIC 9(5).                                     RIGHT\n"
        "000400     88  CLOSED     VALUE 0.                                      RIGHT\n"
    )
    assert compile_copybook(text).names == ("store_id",)


def test_groups_give_usage_sign_and_repetition_to_what_is_below():
    """A clause on a group holds for its fields; OCCURS of groups nest."""
    layout = compile_copybook(
        """
        01 R.
           05 G COMP-3 OCCURS 2.
              10 A PIC 9(3).
              10 H OCCURS 3.
                 15 B PIC 9.
           05 FILLER PIC X(4).
           05 Z PIC X.
        """
    )
    found = {
        item.name: (item.usage, item.offset, [(axis.count, axis.stride) for axis in item.axes]) for item in layout.items
    }
    assert found == {"a": ("packed", 0, [(2, 5)]), "b": ("packed", 2, [(2, 5), (3, 1)]), "z": ("text", 14, [])}


def test_names_that_stand_twice_carry_their_groups():
    """COBOL tells equal names apart by their groups, and so do the columns."""
    layout = compile_copybook("01 R. 05 BUYER. 10 ID PIC 9. 05 SELLER. 10 ID PIC 9. 05 DAY PIC 9.")
    assert layout.names == ("r_buyer_id", "r_seller_id", "day")


def test_redefined_bytes_and_varying_tables_keep_the_place_of_what_stands_behind():
    """The bytes of all branches are one area as long as the longest, and a table takes the room of all its entries."""
    layout = compile_copybook(
        """
        01 R.
           05 N PIC 9.
           05 A PIC X(4).
           05 B REDEFINES A.
              10 B1 PIC 9(2).
              10 B2 PIC 9(4).
           05 FILLER REDEFINES A.
              10 C1 PIC X.
           05 T PIC 99 OCCURS 0 TO 3 TIMES DEPENDING ON N.
           05 Z PIC X.
        """
    )
    found = {
        item.name: (item.offset, *(each if isinstance(each, str) else each.counter for each in item.gates))
        for item in layout.items
    }
    assert found == {
        "n": (0,),
        "a": (1, "a"),
        "b1": (1, "b"),
        "b2": (3, "b"),
        "c1": (1, "c1"),
        "t": (7, "n"),
        "z": (13,),
    }
    assert layout.record_bytes == 14
    assert [(branch.name, branch.length) for branch in layout.branches] == [("a", 4), ("b", 6), ("c1", 1)]
    (table,) = layout.tables
    assert (table.counter, table.minimum, table.maximum, table.offset, table.stride) == ("n", 0, 3, 7, 2)
