"""The XML format: records by path, rejects with their bytes, and documents that attack the reader."""

import io
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.formats import Xml
from brownfield.errors import DeclarationError, FormatError, RejectionCode

CODES = RejectionCode
ORDERS = Xml("/orders/order", {"id": "@id", "city": "address/city", "sku": "line/sku"})
WANTED = pa.schema({"id": pa.int64(), "city": pa.string(), "qty": pa.float64(), "sku": pa.list_(pa.string())})


def read(book, data, wanted=WANTED, rows=65_536):
    """Decode a document: rows, and rejects as (field, code, bytes)."""
    decoded = list(book.decode(io.BytesIO(data), wanted, rows))
    values = [row for part in decoded for row in part.batch.to_pylist()]
    return values, [(each.field, each.code, each.raw) for part in decoded for each in part.rejects]


def test_fields_are_attributes_and_elements_by_their_paths():
    """Paths say where a field stands; what is absent is missing, what repeats is a list, the rest is passed over."""
    document = b"""<?xml version="1.0" encoding="iso-8859-1"?><!-- made by hand -->
    <orders><note>no record</note>
      <order id="7"><address><city>M\xfcnchen &amp; <![CDATA[<Bonn>]]></city></address><qty>1.5</qty>
        <line><sku>a</sku><price>1</price></line><line><sku/></line></order>
      <order id="8"/>
    </orders>"""
    assert read(ORDERS, document) == (
        [
            {"id": 7, "city": "München & <Bonn>", "qty": 1.5, "sku": ["a", ""]},
            {"id": 8, "city": None, "qty": None, "sku": []},
        ],
        [],
    )


@pytest.mark.parametrize(
    ("record", "field", "code"),
    [
        pytest.param(b'<order id="x"/>', "id", CODES.DECODE_NUMBER, id="B-19-number"),
        pytest.param(b'<order id=" 7"/>', "id", CODES.DECODE_NUMBER, id="B-19-blank"),
        pytest.param(b'<order id="7"><qty>1,5</qty></order>', "qty", CODES.DECODE_NUMBER, id="B-36"),
        pytest.param(b"<order><qty>1</qty><qty>2</qty></order>", "qty", CODES.DECODE_COLUMNS, id="twice"),
        pytest.param(b"<order><qty>1<b>2</b></qty></order>", "qty", CODES.FIELD_TYPE, id="mixed"),
    ],
)
def test_a_bad_record_is_rejected_alone_with_its_bytes(record, field, code):
    """Its bytes are those of the document, tag to tag, and its neighbours are read."""
    rows, rejects = read(ORDERS, b'<orders><order id="1"/>' + record + b'<order id="2"/></orders>')
    assert [row["id"] for row in rows] == [1, 2]
    assert rejects == [(field, code, record)]


@pytest.mark.parametrize(
    "prolog",
    [
        pytest.param(b'<!DOCTYPE o [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>', id="B-21-billion-laughs"),
        pytest.param(b'<!DOCTYPE o [<!ENTITY a "' + b"a" * 9999 + b'">]>', id="B-21-quadratic"),
        pytest.param(b'<!DOCTYPE o [<!ENTITY x SYSTEM "file:///etc/passwd">]>', id="B-22-external-entity"),
        pytest.param(b'<!DOCTYPE o SYSTEM "http://127.0.0.1:9/x.dtd">', id="B-22-external-dtd"),
        pytest.param(b'<!DOCTYPE o [<!ENTITY % p SYSTEM "x"> %p;]>', id="B-22-parameter-entity"),
        pytest.param(b"<!DOCTYPE orders>", id="B-22-empty"),
    ],
)
def test_a_doctype_is_refused_whatever_it_holds(prolog):
    """It is refused where it begins, before anything in it is looked at."""
    with pytest.raises(FormatError, match="DOCTYPE"):
        read(ORDERS, prolog + b'<orders><order id="1"/></orders>')


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"<orders><order>&a;</order></orders>", id="B-22-undeclared-entity"),
        pytest.param(b"<a>" * 200_000, id="B-23-depth"),
        pytest.param(b"<orders><order " + b"".join(b'a%d="" ' % i for i in range(300)) + b"/></orders>", id="B-23-300"),
        pytest.param(b"<orders " + b"".join(b'a%d="" ' % i for i in range(200_000)) + b"/>", id="B-23-attributes"),
        pytest.param(b"<orders><order><qty>" + b"1" * 5_000_000 + b"</qty></order></orders>", id="B-23-text"),
        pytest.param(b"<orders><!--" + b"-a" * 2_000_000 + b"--></orders>", id="B-23-comment"),
        pytest.param(b"<orders><order></orders>", id="tags"),
        pytest.param(b"<orders><order/>", id="cut"),
        pytest.param(b"", id="B-47-empty"),
        pytest.param("<orders/>".encode("utf-16"), id="B-07-utf-16"),
        pytest.param(b"<orders><order>\xff</order></orders>", id="B-07-utf-8"),
        pytest.param(b"<orders><order>&#0;</order></orders>", id="B-08"),
    ],
)
def test_a_document_that_is_malformed_or_passes_a_cap_is_refused(document):
    """The refusal is typed, names the place and holds no value."""
    with pytest.raises(FormatError) as caught:
        read(ORDERS, document)
    assert "passwd" not in str(caught.value)


def test_b_22_xinclude_and_schema_locations_are_plain_elements():
    """Nothing is fetched or included: they are elements and attributes like others."""
    document = (
        b'<orders xmlns:i="http://www.w3.org/2001/XInclude" i:schemaLocation="http://127.0.0.1:9/x">'
        b'<order id="1"><i:include href="file:///etc/passwd"/></order></orders>'
    )
    assert [row["id"] for row in read(ORDERS, document)[0]] == [1]


def test_namespaces_are_those_of_the_declared_prefixes():
    """A prefix in a path means its namespace, whatever the document calls it; no prefix means none."""
    book = Xml("/o:orders/o:order", {"id": "@o:id", "qty": "o:qty"}, {"o": "urn:x"})
    document = (
        b'<orders xmlns="urn:x" xmlns:p="urn:x">'
        b'<order p:id="1" id="9"><qty>2</qty><qty xmlns="">9</qty></order></orders>'
    )
    wanted = pa.schema({"id": pa.int64(), "qty": pa.int64()})
    assert read(book, document, wanted) == ([{"id": 1, "qty": 2}], [])


@pytest.mark.parametrize(
    "arguments",
    [("orders",), ("/a/@b",), ("/a", {"x": "a//b"}), ("/a", {"x": "@a/b"}), ("/p:a",), ("/a[1]",)],
)
def test_a_path_that_is_none_is_refused(arguments):
    """Paths are names and slashes: no axes, no conditions."""
    with pytest.raises(DeclarationError):
        Xml(*arguments)


def test_memory_does_not_grow_with_the_document():
    """Records are forgotten when they are handed on, and so is what stands between them."""

    class Pieces:
        def __init__(self, count):
            body = b'<order id="1"/><x>between</x>' * 50
            self.pieces = [b"<orders>", *[body] * count, b"</orders>"]

        def read(self, _size=-1):
            return self.pieces.pop(0) if self.pieces else b""

    def peak(count):
        tracemalloc.start()
        rows = sum(part.records for part in ORDERS.decode(Pieces(count), pa.schema({"id": pa.int64()}), 50))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert rows == count * 50
        return most

    peak(1)
    assert peak(100) < 2 * peak(5)


texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=8
) | st.just("a\r\n\t<&\"'>")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "id": st.none() | st.integers(-(2**63), 2**63 - 1),
                "city": st.none() | texts,
                "qty": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "sku": st.lists(texts, max_size=3),
            }
        ),
        max_size=5,
    ),
    st.integers(1, 4),
)
def test_decoding_undoes_encoding(rows, together):
    """decode(encode(x)) = x, line ends and markup in texts included, and no batch size changes it."""
    data = b"".join(ORDERS.encode([pa.RecordBatch.from_pylist(rows, WANTED)]))
    assert read(ORDERS, data, WANTED, together) == (rows, [])


@pytest.mark.parametrize("value", ["a\0", "\x01", "\ufffe"])
def test_what_xml_cannot_say_is_not_written(value):
    """Control characters would make the document malformed."""
    with pytest.raises(FormatError):
        list(ORDERS.encode([pa.record_batch({"city": [value]})]))
