"""Declared options become formats."""

import io

import pyarrow as pa
import pytest

from brownfield.data.formats import FORMATS, open_format
from brownfield.errors import DeclarationError
from brownfield.integration import DEFAULT, CopybookFormat, RedefineRule, XmlFormat

LAYOUTS = {"copybook": "01 R. 05 A PIC X.", "fixed_width": "name,start,width\na,1,1\n"}
NEEDED = {"copybook": {"layout": "x"}, "fixed_width": {"layout": "x"}, "xml": {"record": "/a/b"}}


@pytest.mark.parametrize("name", sorted(DEFAULT.formats))
def test_every_declared_format_opens_with_its_defaults(name):
    """What can be declared can be opened, and is the format of that name."""
    options = DEFAULT.formats[name](**NEEDED.get(name, {}))
    assert isinstance(open_format(name, options, LAYOUTS.get(name)), FORMATS[name])


def test_a_declared_redefine_rule_decides_which_branch_is_read():
    """Rules of the declaration reach the reader of the records."""
    rules = {"b": RedefineRule(field="k", values=("B",))}
    options = CopybookFormat(layout="x.cpy", code_page="cp1252", redefine_rule=rules)
    book = open_format("copybook", options, "01 R. 05 K PIC X. 05 A PIC X. 05 B REDEFINES A PIC 9.")
    (decoded,) = book.decode(io.BytesIO(b"B7"), pa.schema({"b": pa.int64()}))
    assert decoded.batch.to_pylist() == [{"b": 7}]


def test_declared_paths_reach_the_reader_of_xml():
    """Fields stand where the declaration says."""
    book = open_format("xml", XmlFormat(record="/a/b", fields={"n": "@id"}))
    (decoded,) = book.decode(io.BytesIO(b'<a><b id="7"/></a>'), pa.schema({"n": pa.int64()}))
    assert decoded.batch.to_pylist() == [{"n": 7}]


def test_a_format_that_is_not_there_names_those_that_are():
    """The error lists the formats."""
    with pytest.raises(DeclarationError, match="csv"):
        open_format("avro", None)
