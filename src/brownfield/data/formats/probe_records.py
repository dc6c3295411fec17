"""The prober's eye for records of a mainframe program: descriptor words, record length, byte order and code page.

With a copybook every combination is tried by decoding the sample with it; without one, the words and the rhythm of
the bytes tell how long the records are.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from brownfield.data.formats import framing
from brownfield.data.formats.copybook import Copybook
from brownfield.data.formats.copybook_source import compile_copybook
from brownfield.data.formats.framing import Descriptor
from brownfield.data.formats.layout import Layout
from brownfield.data.formats.probe_pages import EBCDIC_PAGES, PC_PAGES, PageScore, rank_pages
from brownfield.data.formats.proposal import Proposal
from brownfield.errors import FormatError

__all__ = ["propose_records"]

_WORDS = tuple(product((True, False), (-4, 0)))
"""Byte order and adjustment of a descriptor word."""
_LEAST_COVERED = 0.5
_FEWEST = 3
_LONGEST = 2048
_WORD = 4


class _Framing(NamedTuple):
    """A way of cutting the sample into records, with the options that declare it."""

    options: Mapping[str, Any]
    covered: float
    """Share of the sample in whole records."""
    records: int


class _Trial(NamedTuple):
    """What decoding with one set of options gave."""

    options: Mapping[str, Any]
    rows: int
    rejects: Sequence[tuple[str, str]]
    """Field and code of each record that does not decode, the cut one at the end left out."""
    score: float


def propose_records(sample: bytes, copybook: str | None) -> list[Proposal]:
    """Propose record format, byte order and code page, the best first.

    Parameters
    ----------
    sample
        The first bytes of a file; the last record may be cut.
    copybook
        Source of the copybook that describes the records, if there is one.

    Raises
    ------
    FormatError
        When the copybook is malformed.
    """
    if copybook is None:
        return _without_copybook(sample)
    layout = compile_copybook(copybook)
    trials = [
        trial
        for framed in [*_fixed_or_lines(sample, layout), *_described(sample)]
        for options in _variants(layout, framed.options)
        if (trial := _try(sample, layout, options)) is not None
    ]
    trials.sort(key=lambda trial: -trial.score)
    proposals = [_proposal(sample, layout, trial) for trial in trials[:4]]
    return sorted(proposals, key=lambda each: -each.score)


def _fixed_or_lines(sample: bytes, layout: Layout) -> Iterator[_Framing]:
    yield _Framing({"record_format": "F"}, 1.0, len(sample) // layout.record_bytes)
    if b"\n" in sample and all(item.usage in ("text", "zoned") for item in layout.items):
        yield _Framing({"record_format": "D"}, 1.0, sample.count(b"\n"))


def _described(sample: bytes) -> Iterator[_Framing]:
    """Follow descriptor words through the sample in every way in which they may be written."""
    for is_big, adjustment in _WORDS:
        options: dict[str, Any] = {"is_rdw_big_endian": is_big, "rdw_adjustment": adjustment}
        found = _walk(sample, Descriptor(is_big, adjustment), None, {"record_format": "V", **options})
        if found.covered >= _LEAST_COVERED:
            yield found
        for is_block_big, block_adjustment in _WORDS:
            block = Descriptor(is_block_big, block_adjustment, is_block=True)
            options |= {"is_bdw_big_endian": is_block_big, "bdw_adjustment": block_adjustment}
            found = _walk(sample, Descriptor(is_big, adjustment), block, {"record_format": "VB", **options})
            if found.covered >= _LEAST_COVERED:
                yield found


def _walk(sample: bytes, record: Descriptor, block: Descriptor | None, options: dict[str, Any]) -> _Framing:
    reached = records = 0
    with suppress(FormatError):  # a chain that breaks, or a sample that ends inside a block
        for frames in framing.variable(io.BytesIO(sample), record, block, 1):
            if not frames.is_cut:
                reached, records = int(frames.places[0] + frames.lengths[0]), records + 1
            elif records:  # the sample ends in a record
                reached = len(sample)
    return _Framing(options, reached / len(sample), records)


def _variants(layout: Layout, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the options that the copybook leaves open: byte order, room of absent entries, kind of character set."""
    endians = ("big", "little") if any(item.native for item in layout.items) else (None,)
    occurs = ("shift_record", "max_size", "pad_record") if layout.tables else (None,)
    for endian, room, page in product(endians, occurs, ("cp037", "cp1252")):
        variant = {**options, "code_page": page}
        variant |= {"native_endian": endian} if endian else {}
        yield variant | ({"variable_size_occurs": room} if room else {})


def _readable(layout: Layout, *, numbers: bool) -> pa.Schema:
    """Columns of a layout that are in every record: all, or numbers alone."""
    fields = []
    for item in layout.items:
        if item.branches or (numbers and item.usage == "text"):
            continue
        kind: pa.DataType = pa.string() if item.usage == "text" else pa.float64()
        for _ in item.axes:
            kind = pa.list_(kind)
        fields.append(pa.field(item.name, kind))
    return pa.schema(fields)


def _try(sample: bytes, layout: Layout, options: Mapping[str, Any]) -> _Trial | None:
    """Decode the numbers of the sample.

    The score is the share of its bytes in records that decode, and how few of their bits native numbers use, for the
    wrong byte order makes them large.
    """
    if options["record_format"] == "D" and options["code_page"] in EBCDIC_PAGES:
        return None
    book = Copybook(layout, **options)
    rows, rejects, sizes = 0, [], []
    reached = good = 0
    try:
        for decoded in book.decode(io.BytesIO(sample), _readable(layout, numbers=True)):
            for row in range(decoded.batch.num_rows):
                good += len(decoded.raw(row))
            rows += decoded.batch.num_rows
            rejects += [(each.field, str(each.code)) for each in decoded.rejects]
            reached += sum(len(each.raw) for each in decoded.rejects)
            sizes += _sizes(decoded.batch, layout)
    except FormatError:
        pass
    if rejects and len(sample) > (rows + len(rejects)) and not rejects[-1][0]:
        rejects.pop()  # the record that the sample's end cuts
    words = {"V": _WORD, "VB": _WORD, "D": 1}.get(options["record_format"], 0) * (rows + len(rejects))
    tail = min(layout.record_bytes, len(sample) // 4)
    share = min(1.0, (good + words + tail) / len(sample)) if rows else 0.0
    score = share * rows / max(1, rows + len(rejects))
    return _Trial(options, rows, rejects, score * (1 - 0.1 * float(np.mean(sizes))) if sizes else score)


def _sizes(batch: pa.RecordBatch, layout: Layout) -> list[float]:
    """Give how much of its bits each native number uses on average, from 0 to 1."""
    native = [item for item in layout.items if item.native and not item.axes and item.name in batch.schema.names]
    sizes = []
    for item in native:
        values = np.abs(batch.column(item.name).to_numpy(zero_copy_only=False))
        if len(values):
            sizes.append(float(np.log2(values + 1).mean()) / (item.length * 8))
    return sizes


def _proposal(sample: bytes, layout: Layout, trial: _Trial) -> Proposal:
    """Choose the code page of what was decoded, and say what speaks for all of it."""
    options = dict(trial.options)
    pages = EBCDIC_PAGES if options["code_page"] in EBCDIC_PAGES else PC_PAGES
    texts = _texts(sample, layout, options)
    evidence = [f"{trial.rows} of {trial.rows + len(trial.rejects)} whole records decode"]
    evidence += _worst(trial.rejects)
    score = trial.score
    if texts:
        best = rank_pages(texts, pages)[0]
        options["code_page"] = best.name
        score *= 0.3 + 0.7 * best.score
        evidence.append(_page_words(best))
    else:
        evidence.append("there is no text to tell code pages apart")
    open_branches = sorted({name for item in layout.items for name in item.branches})
    if open_branches:
        evidence.append(f"redefine_rule must say when {', '.join(open_branches)} are read")
    return Proposal("copybook", options, round(score, 4), tuple(evidence))


def _page_words(best: PageScore) -> str:
    same = f"; {', '.join(best.alike)} read these bytes alike" if best.alike else ""
    return f"{best.score:.0%} of the text's characters are plausible in {best.name}{same}"


def _worst(rejects: Sequence[tuple[str, str]]) -> list[str]:
    if not rejects:
        return []
    counts = {pair: list(rejects).count(pair) for pair in sorted(set(rejects))}
    (field, code), count = max(counts.items(), key=lambda each: each[1])
    return [f"{count} do not, for {code} in {field or 'the record as a whole'}"]


def _texts(sample: bytes, layout: Layout, options: Mapping[str, Any]) -> bytes:
    """Bytes of the text fields of all records, a blank behind each, so that neighbours do not touch."""
    book = Copybook(layout, **options)
    items = [item for item in layout.items if item.usage == "text" and not item.branches]
    parts: list[bytes] = []
    with suppress(FormatError):  # what the sample's end cuts
        for records in book.records(io.BytesIO(sample)):
            for item in items:
                block = records.matrix[:, item.offset : item.offset + item.length]
                padded = np.full((len(block), item.length + 1), book.blank, dtype=np.uint8)
                padded[:, :-1] = block
                parts.append(padded.tobytes())
    return b"".join(parts)


def _without_copybook(sample: bytes) -> list[Proposal]:
    """Propose how the records are cut, and their code page, from the bytes alone."""
    pages = [rank_pages(sample, pages)[0] for pages in (EBCDIC_PAGES, PC_PAGES)]
    page = max(pages, key=lambda each: each.score)
    found = [
        Proposal(
            "copybook",
            {**framed.options, "code_page": page.name},
            round(framed.covered * (0.5 + 0.5 * page.score), 4),
            (f"{framed.records} descriptor words follow each other to the end", _page_words(page), "needs a copybook"),
        )
        for framed in _described(sample)
        if framed.records >= _FEWEST
    ]
    length, rhythm = _period(sample)
    if length:
        options = {"record_format": "F", "code_page": page.name}
        words = f"bytes repeat most at a distance of {length}, which would be the record's length"
        found.append(
            Proposal("copybook", options, round(rhythm * (0.3 + 0.5 * page.score), 4),
                     (words, _page_words(page), "needs a copybook"))
        )  # fmt: skip
    return sorted(found, key=lambda each: -each.score)


def _period(sample: bytes) -> tuple[int, float]:
    """Distance at which bytes equal each other most beyond what is usual, and how clear that is, from 0 to 1."""
    data = np.frombuffer(sample[: 1 << 15], dtype=np.uint8)
    longest = min(_LONGEST, len(data) // _FEWEST)
    if longest < _FEWEST:
        return 0, 0.0
    equal = np.array([np.count_nonzero(data[step:] == data[:-step]) / (len(data) - step) for step in range(1, longest)])
    usual = float(np.median(equal))
    best = float(equal.max())
    if best - usual < 0.05:  # noqa: PLR2004 (bytes that equal each other by chance)
        return 0, 0.0
    length = int(np.argmax(equal >= usual + 0.55 * (best - usual))) + 1
    return length, min(1.0, (best - usual) / (1 - usual))
