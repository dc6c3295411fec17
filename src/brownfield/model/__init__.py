"""Models as bundles: written whole, verified when opened, inspected before any engine sees them."""

from brownfield.model.bundle import (
    Bundle,
    digest_of_bundle,
    open_bundle,
    program_for,
    reopen_bundle,
)
from brownfield.model.bundle_files import copy_graph
from brownfield.model.bundle_writer import place_model, write_bundle
from brownfield.model.compute import Answer, as_golden, compute
from brownfield.model.golden import Golden, Tensors, golden_record
from brownfield.model.manifest import FileEntry, Manifest
from brownfield.model.onnx_inspect import inspect_onnx
from brownfield.model.probe import ProbeReport, probe
from brownfield.model.process import Environments
from brownfield.model.python_model import PythonModel
from brownfield.model.rules import RULES
from brownfield.model.sample import sample_columns, sample_tensors
from brownfield.model.session import ServedSession
from brownfield.model.signature import Signature, TensorSpec

__all__ = [
    "RULES",
    "Answer",
    "Bundle",
    "Environments",
    "FileEntry",
    "Golden",
    "Manifest",
    "ProbeReport",
    "PythonModel",
    "ServedSession",
    "Signature",
    "TensorSpec",
    "Tensors",
    "as_golden",
    "compute",
    "copy_graph",
    "digest_of_bundle",
    "golden_record",
    "inspect_onnx",
    "open_bundle",
    "place_model",
    "probe",
    "program_for",
    "reopen_bundle",
    "sample_columns",
    "sample_tensors",
    "write_bundle",
]
