"""Bytes to batches and back: csv, fixed_width, copybook, json, xml, parquet, arrow."""

from brownfield.data.formats.base import BATCH_ROWS, Format
from brownfield.data.formats.choosing import Choice
from brownfield.data.formats.columnar import Arrow, Parquet
from brownfield.data.formats.columnar_process import schema_aside
from brownfield.data.formats.copybook import Copybook
from brownfield.data.formats.copybook_contract import ContractDraft, contract_from_copybook
from brownfield.data.formats.copybook_source import compile_copybook
from brownfield.data.formats.csv import Csv
from brownfield.data.formats.fixed_width import FixedWidth
from brownfield.data.formats.json import Json
from brownfield.data.formats.layout import Item, Layout, read_layout
from brownfield.data.formats.opening import FORMATS, open_format
from brownfield.data.formats.probe import propose_format
from brownfield.data.formats.proposal import Proposal
from brownfield.data.formats.xml import Xml

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "Arrow",
    "Choice",
    "ContractDraft",
    "Copybook",
    "Csv",
    "FixedWidth",
    "Format",
    "Item",
    "Json",
    "Layout",
    "Parquet",
    "Proposal",
    "Xml",
    "compile_copybook",
    "contract_from_copybook",
    "open_format",
    "propose_format",
    "read_layout",
    "schema_aside",
]
