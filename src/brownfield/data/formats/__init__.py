"""Bytes to batches and back: csv, fixed_width, copybook."""

from brownfield.data.formats.base import BATCH_ROWS, Format
from brownfield.data.formats.copybook import Copybook
from brownfield.data.formats.copybook_source import compile_copybook
from brownfield.data.formats.csv import Csv
from brownfield.data.formats.fixed_width import FixedWidth
from brownfield.data.formats.layout import Item, Layout, read_layout
from brownfield.data.formats.opening import FORMATS, open_format
from brownfield.data.formats.unfolding import Choice

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "Choice",
    "Copybook",
    "Csv",
    "FixedWidth",
    "Format",
    "Item",
    "Layout",
    "compile_copybook",
    "open_format",
    "read_layout",
]
