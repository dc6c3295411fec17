"""From a sample of bytes to the formats that would read it, each with a score and the evidence.

A proposal is for a person to confirm: what is read later is what was declared, never what was guessed. No value of
the sample stands in a proposal.
"""

from brownfield.data.formats.probe_records import propose_records
from brownfield.data.formats.probe_text import propose_text
from brownfield.data.formats.proposal import Proposal
from brownfield.errors import FormatError

__all__ = ["propose_format"]

MAX_SAMPLE_BYTES = 1 << 16
"""More of a sample is not looked at."""

_HEADING = "name,start,width"
_LEAST = 0.3
_STREAM = b"\xff\xff\xff\xff"


def propose_format(sample: bytes, layout: str | None = None) -> tuple[Proposal, ...]:
    r"""Propose the formats that explain a sample, the best first.

    Parameters
    ----------
    sample
        The first bytes of a file, 64 KiB or so; the last record may be cut.
    layout
        A copybook, or a layout of fixed-width columns, that is said to describe the file.

    Returns
    -------
    tuple of Proposal
        Empty when nothing explains the sample.

    Raises
    ------
    FormatError
        When there is nothing in the sample, or the layout is malformed.

    Examples
    --------
    >>> best = propose_format(b"store;price\n367;1,50\n368;2,25\n")[0]
    >>> best.format, dict(best.options)
    ('csv', {'delimiter': ';', 'encoding': 'utf-8', 'decimal': ','})
    >>> sample = bytes.fromhex("367C F0F1F2F3D4 368C F0F1F2F3C4".replace(" ", ""))
    >>> best = propose_format(sample, "01 R. 05 STORE-ID PIC 9(3) COMP-3. 05 PRICE PIC S9(3)V99.")[0]
    >>> best.format, best.options["record_format"], best.options["code_page"]
    ('copybook', 'F', 'cp037')
    """
    if not sample:
        raise FormatError(expected="the first bytes of a file", got="none")
    whole, sample = len(sample) <= MAX_SAMPLE_BYTES, sample[:MAX_SAMPLE_BYTES]
    marked = _marked(sample)
    if marked is not None:
        return (marked,)
    if layout is not None and not layout.lstrip().startswith(_HEADING):
        found = propose_records(sample, layout)
    else:
        found = propose_text(sample, layout, whole=whole)
        if layout is None and (not found or found[0].score < _LEAST):
            found = [*found, *propose_records(sample, None)]
    kept = [each for each in found if each.score >= _LEAST] or found[:1]
    return tuple(sorted(kept, key=lambda each: -each.score)[:10])


def _marked(sample: bytes) -> Proposal | None:
    """Recognise the formats that begin with a mark of their own."""
    if sample.startswith(b"PAR1"):
        return Proposal("parquet", {}, 1.0, ("begins with the mark PAR1",))
    if sample.startswith(b"ARROW1\0\0"):
        return Proposal("arrow", {"container": "file"}, 1.0, ("begins with the mark ARROW1",))
    if sample.startswith(_STREAM) and 0 < int.from_bytes(sample[4:8], "little") < 1 << 24:
        return Proposal("arrow", {"container": "stream"}, 0.9, ("begins like an Arrow stream",))
    return None
