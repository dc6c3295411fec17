"""Markers, trailers and control totals: what is said, what is cut short, and what does not add up."""

import io
from contextlib import suppress
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.data.decoded import Decoded
from brownfield.data.sources.totals import Claims, Part, Refusal, Sums, Trailer, parse_marker
from brownfield.errors import RejectionCode

DIGEST = "0f" * 32
MARKER = f"effect_id=e1\ncount=12\nbytes=345\nsha256={DIGEST}\ntotal.amount=-10.50\n".encode()
NEEDED = ("count", "bytes", "sha256", "total.amount")


def test_a_marker_says_what_it_says() -> None:
    """Each known line is read, others are passed over, and an empty marker says nothing."""
    assert parse_marker(MARKER, NEEDED) == Claims(12, 345, DIGEST, {"amount": Decimal("-10.50")})
    assert parse_marker(b"") == Claims()


@pytest.mark.parametrize("length", range(len(MARKER)))
def test_f61_a_marker_that_is_cut_at_any_byte_is_refused(length) -> None:
    """F-61: whatever its length, a torn marker that must say all is taken for none."""
    with pytest.raises(Refusal) as refused:
        parse_marker(MARKER[:length], NEEDED)
    assert refused.value.code is RejectionCode.FILE_MARKER


@pytest.mark.parametrize("length", range(1, len(MARKER)))
def test_f61_a_torn_marker_never_says_another_number(length) -> None:
    """F-61: cut within a line it is refused; cut between lines, what is left is what was meant."""
    try:
        claims = parse_marker(MARKER[:length])
    except Refusal:
        return
    assert (claims.count, claims.size_bytes, claims.sha256) in {
        (None, None, None), (12, None, None), (12, 345, None), (12, 345, DIGEST),
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"count=-1\n", b"count=1e3\n", b"bytes=\n", b"sha256=ab\n", b"total.a=NaN\n", b"total.a=x\n", b"nothing\n",
     b"count=1\ncount=2\n", b"\xff\n", b"\0" * 10, b"a=" + b"b" * 70_000 + b"\n"],
    ids=range(11),
)  # fmt: skip
def test_a_malformed_marker_is_refused(content) -> None:
    """Nothing in it is guessed."""
    with pytest.raises(Refusal) as refused:
        parse_marker(content)
    assert refused.value.code is RejectionCode.FILE_MARKER


@given(st.binary(max_size=200))
def test_any_bytes_are_a_marker_or_refused(content) -> None:
    """No content of a marker does anything else."""
    with suppress(Refusal):
        assert isinstance(parse_marker(content), Claims)


def decoded(**columns) -> Decoded:
    """Records read together."""
    return Decoded(pa.record_batch(columns), str, lambda _: b"")


def test_sums_are_exact() -> None:
    """Whole numbers and decimals add up to the last digit; missing values add nothing."""
    sums = Sums(["n", "d", "f"])
    cents = pa.array([Decimal("0.10"), Decimal("0.20")])
    sums.add(decoded(n=[2**62, 2**62], d=cents, f=[0.1, 0.2]))
    sums.add(decoded(n=[2**62, None], d=cents, f=[0.3, None]))
    assert sums.records == 4
    assert sums.agrees("n", Decimal(3 * 2**62))
    assert not sums.agrees("n", Decimal(3 * 2**62 + 1))
    assert sums.agrees("d", Decimal("0.60"))
    assert sums.agrees("f", Decimal("0.6"))
    assert not sums.agrees("f", Decimal("0.7"))


@pytest.mark.parametrize("columns", [{"a": ["x"]}, {"b": [1]}, {"a": [True]}], ids=["text", "absent", "truth"])
def test_only_columns_of_numbers_have_totals(columns) -> None:
    """A total of anything else is refused, whoever announces it."""
    with pytest.raises(Refusal) as refused:
        Sums(["a"]).add(decoded(**columns))
    assert refused.value.code is RejectionCode.FILE_TOTAL


def cut(trailer: Trailer, content: bytes) -> tuple[bytes, Claims]:
    """Cut a trailer off."""
    body, claims = trailer.cut(io.BytesIO(content), len(content))
    return body.read(), claims


def test_a_delimited_trailer_is_cut_off() -> None:
    """Its numbers are read, and the records before it are left byte for byte."""
    trailer = Trailer("T;", Part(field=2), {"amount": Part(field=3, scale=2)}, delimiter=";")
    for end in (b"", b"\n", b"\r\n", b"\n\n", b"\n\x1a"):
        assert cut(trailer, b"1;2\n3;4\nT;2;650" + end) == (
            b"1;2\n3;4\n",
            Claims(2, None, None, {"amount": Decimal("6.5")}),
        )
    assert cut(trailer, b"T;0;0\n")[0] == b""


def test_a_trailer_of_fixed_places_is_cut_off() -> None:
    """Without line ends it is as long as every record, and in the code page of the file."""
    trailer = Trailer("TR", Part(start=3, length=4), encoding="cp037", record_bytes=8)
    assert cut(trailer, b"01234567" + "TR0001  ".encode("cp037")) == (b"01234567", Claims(1))


@pytest.mark.parametrize(
    "content", [b"", b"1;2\n", b"1;2\nT;x\n", b"1;2\nT\n", b"1;2\nT;1.5\n", b"1;2\nT;1\n3;4\n"], ids=range(6)
)
def test_f55_a_missing_or_malformed_trailer_is_refused(content) -> None:
    """F-55: a file that does not end in its trailer was cut short."""
    with pytest.raises(Refusal) as refused:
        cut(Trailer("T;", Part(field=2), delimiter=";"), content)
    assert refused.value.code is RejectionCode.FILE_TRAILER


def test_a_file_cut_at_any_byte_before_its_end_is_refused_or_disagrees() -> None:
    """F-55, F-61: no shorter file passes for the whole one."""
    whole = b"1;2\n3;4\nT;2;00065\n"
    trailer = Trailer("T;", Part(field=2), {"b": Part(field=3)}, delimiter=";")
    for length in range(len(whole) - 1):
        with pytest.raises(Refusal):
            _check(trailer, whole[:length])
    _check(trailer, whole)


def _check(trailer: Trailer, content: bytes) -> None:
    cut(trailer, content)[1].check_records(_sums(2, 65))


def _sums(records: int, total: int) -> Sums:
    sums = Sums(["b"])
    sums.add(decoded(b=[total] + [0] * (records - 1)))
    return sums
