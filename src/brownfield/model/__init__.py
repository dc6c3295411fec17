"""Models as bundles: written whole, verified when opened, inspected before any engine sees them."""

from brownfield.model.bundle import Bundle, open_bundle, write_bundle
from brownfield.model.golden import Golden
from brownfield.model.manifest import FileEntry, Manifest
from brownfield.model.onnx_inspect import inspect_onnx
from brownfield.model.rules import RULES
from brownfield.model.signature import Signature, TensorSpec

__all__ = [
    "RULES",
    "Bundle",
    "FileEntry",
    "Golden",
    "Manifest",
    "Signature",
    "TensorSpec",
    "inspect_onnx",
    "open_bundle",
    "write_bundle",
]
