"""The prober: formats proposed from a sample, with scores and evidence."""

import io

import numpy as np
import pyarrow as pa
import pytest

from brownfield.data.formats import Arrow, Copybook, Parquet, compile_copybook, propose_format
from brownfield.errors import FormatError
from harness.cobol import moves, needs_gnucobol, written_by_cobol

CUSTOMER = """
01 R.
   05 CUST-ID   PIC 9(7) COMP-3.
   05 NAME      PIC X(20).
   05 CITY      PIC X(12).
   05 BALANCE   PIC S9(7)V99 COMP-3.
   05 VISITS    PIC 9(4) COMP.
"""
GERMAN = ["Jürgen Müller", "Käthe Größe", "Ömer Özdemir", "Anna Weiß", "Änne Süß"]
FRENCH = ["Hélène Lefèvre", "François Noël", "Zoë Brûlé", "Benoît Gagné", "Rémi Château"]
ENGLISH = ["Mary O'Neill", "John [Jack] Smith", "Ann Lee", "Bob Ray", "Sue Day"]


def customers(names, count=60):
    """Customers with the given names, as a batch."""
    return pa.record_batch(
        {
            "cust_id": list(range(1, count + 1)),
            "name": [names[row % len(names)] for row in range(count)],
            "city": [f"CITY {row % 7}" for row in range(count)],
            "balance": [(-1) ** row * row * 12.25 for row in range(count)],
            "visits": [row % 9999 for row in range(count)],
        }
    )


def written(names, record_format="F", **options):
    """Encode the customers."""
    return b"".join(Copybook(compile_copybook(CUSTOMER), record_format, **options).encode([customers(names)]))


@pytest.mark.parametrize(
    ("names", "page"),
    [(GERMAN, "cp273"), (FRENCH, "cp297"), (FRENCH, "cp500"), (ENGLISH, "cp037"), (ENGLISH, "cp1047"),
     (GERMAN, "cp1252"), (["Łukasz Żółć", "Paweł Gęś"], "cp870"), (["Иван Петров", "Анна"], "cp1025")],
)  # fmt: skip
def test_b_37_the_code_page_that_wrote_the_names_is_proposed_first(names, page):
    """The page, or one that reads these bytes alike, stands first, and its score is high."""
    data = written(names, code_page=page)
    best = propose_format(data, CUSTOMER)[0]
    proposed = best.options["code_page"]
    wanted = pa.schema({"name": pa.string()})
    (decoded,) = Copybook(compile_copybook(CUSTOMER), code_page=proposed).decode(io.BytesIO(data), wanted)
    assert decoded.batch["name"].to_pylist() == [names[row % len(names)] for row in range(60)]
    assert best.score > 0.9


@pytest.mark.parametrize("page", ["cp037", "cp1252"])
@pytest.mark.parametrize("cut", [0, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"record_format": "F"},
        {"record_format": "V"},
        {"record_format": "V", "rdw_adjustment": 0},
        {"record_format": "V", "is_rdw_big_endian": False},
        {"record_format": "V", "is_rdw_big_endian": False, "rdw_adjustment": 0},
        {"record_format": "VB"},
        {"record_format": "VB", "rdw_adjustment": 0, "bdw_adjustment": 0},
        {"record_format": "VB", "is_rdw_big_endian": False, "is_bdw_big_endian": False},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_the_record_format_that_wrote_the_file_is_proposed_first(options, page, cut):
    """Format, byte order and adjustment come first in every combination, also when the sample ends inside a record."""
    data = written(ENGLISH, code_page=page, **options)
    best = propose_format(data[: len(data) - cut], CUSTOMER)[0]
    assert best.format == "copybook"
    assert {key: best.options[key] for key in options} == options
    assert best.options["code_page"] == page


@pytest.mark.full
@needs_gnucobol
@pytest.mark.parametrize("organization", ["SEQUENTIAL", "VARYING", "LINE SEQUENTIAL"])
def test_files_of_gnucobol_are_recognised(tmp_path, organization):
    """The first proposal decodes every record of a file that a compiled program wrote."""
    copybook = "01 R.\n 05 K PIC X(6).\n 05 AMOUNT PIC S9(5)V99.\n 05 NOTE PIC X(12).\n"
    rows = [{"k": f"K{n}", "amount": n * 1.25, "note": f"NOTE {n}"} for n in range(1, 20)]
    statements = [line for row in rows for line in moves(row, row)]
    words = "SEQUENTIAL" if organization == "VARYING" else organization
    varying = organization == "VARYING"
    data = written_by_cobol(tmp_path, copybook, words, statements, ["-std=default"], varying=varying)
    best = propose_format(data, copybook)[0]
    assert best.options["record_format"] == {"SEQUENTIAL": "F", "VARYING": "V"}.get(organization, "D")
    schema = pa.schema({"k": pa.string(), "amount": pa.float64(), "note": pa.string()})
    (decoded,) = Copybook(compile_copybook(copybook), **best.options).decode(io.BytesIO(data), schema)
    assert decoded.rejects == ()
    assert decoded.batch.to_pylist() == rows


@pytest.mark.parametrize(
    ("sample", "options"),
    [
        (b"id,name\n1,a\n2,b\n", {"delimiter": ",", "encoding": "utf-8"}),
        (b"id;price\n1;1,5\n2;2,5\n", {"delimiter": ";", "encoding": "utf-8", "decimal": ","}),
        (b"1\tx\n2\ty\n", {"delimiter": "\t", "encoding": "utf-8", "header": False}),
        (b"id|t\n1|'a|b'\n2|'c'\n", {"delimiter": "|", "encoding": "utf-8", "quote": "'"}),
        ("id;ort\n1;Köln\n2;Düren\n".encode("cp1252"), {"delimiter": ";", "encoding": "cp1252"}),
        (b'id,"full name"\n1,"Lee, Ann"\n2,"Ray\nBob"\n', {"delimiter": ",", "encoding": "utf-8"}),
        ("\ufeffid,x\n1,2\n".encode(), {"delimiter": ",", "encoding": "utf-8"}),
    ],
)  # fmt: skip
def test_b_40_the_dialect_of_delimited_text_is_proposed(sample, options):
    """Delimiter, quote, header, character set and decimal mark are found."""
    best = propose_format(sample)[0]
    assert (best.format, dict(best.options)) == ("csv", options)


@pytest.mark.parametrize(
    ("sample", "name", "options"),
    [
        (b'{"a": 1}\n{"a": 2}\n{"a"', "json", {"records": "lines"}),
        (b' [{"a": 1}, {"a": 2}]', "json", {"records": "array"}),
        (b'<o><h v="1"/><r id="1"><q>2</q></r><r id="2"><q>3</q></r></o>', "xml", {"record": "/o/r"}),
        (b"".join(Parquet().encode([pa.record_batch({"a": [1]})])), "parquet", {}),
        (b"".join(Arrow("file").encode([pa.record_batch({"a": [1]})])), "arrow", {"container": "file"}),
        (b"".join(Arrow("stream").encode([pa.record_batch({"a": [1]})])), "arrow", {"container": "stream"}),
        (b"AB   12\nCDEF  7\nG    99\n", "fixed_width", {"encoding": "utf-8"}),
    ],
)  # fmt: skip
def test_other_formats_are_recognised(sample, name, options):
    """JSON, XML, Parquet, Arrow and columns of fixed width are told apart."""
    best = propose_format(sample)[0]
    assert (best.format, dict(best.options)) == (name, options)


def test_a_layout_of_columns_is_held_against_the_lines():
    """The score is the share of lines that fit."""
    (best,) = propose_format(b"00367Boston\n00368Austin\n1\n", "name,start,width\nid,1,5\ncity,6,6\n")
    assert (best.format, best.score) == ("fixed_width", pytest.approx(2 / 3, abs=0.001))


@pytest.mark.parametrize("record_format", ["F", "V", "VB"])
def test_without_a_copybook_the_length_or_the_words_are_proposed(record_format):
    """The record length is found by its rhythm, descriptor words by their chain."""
    best = propose_format(written(ENGLISH, record_format))[0]
    assert best.options["record_format"] == record_format
    if record_format == "F":
        assert any("distance of 43," in words for words in best.evidence)


def test_noise_gets_no_confident_proposal():
    """Random bytes fit nothing well."""
    noise = np.random.default_rng(1).bytes(4000)
    assert all(each.score < 0.6 for each in propose_format(noise))
    assert propose_format(noise, CUSTOMER)[0].score < 0.3


def test_b_21_a_doctype_scores_nothing():
    """A document that would be refused is said to be."""
    (best,) = propose_format(b'<!DOCTYPE o [<!ENTITY a "x">]><o/>')
    assert (best.format, best.score) == ("xml", 0.0)


def test_an_empty_sample_is_refused():
    """There is nothing to propose from."""
    with pytest.raises(FormatError, match="the first bytes of a file"):
        propose_format(b"")


def test_evidence_holds_no_value_of_the_sample():
    """Names of persons in the sample stand nowhere in what is proposed."""
    said = str(propose_format(written(GERMAN, code_page="cp273"), CUSTOMER))
    assert not any(name in said for name in GERMAN)
