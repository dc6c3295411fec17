"""Every rule by which a bundle or a model file is refused: a closed list of stable identifiers."""

from collections.abc import Mapping

from brownfield.errors import BundleRefused
from brownfield.model.probe import PROBE_RULES
from brownfield.model.process import ENVIRONMENT_RULES

__all__ = ["RULES", "refused", "text"]

RULES: Mapping[str, str] = {
    **ENVIRONMENT_RULES,
    **PROBE_RULES,
    "bundle-file": "A file of the bundle is a link, is linked twice, or is no regular file.",
    "bundle-file-denied": "This user may not read a file of the bundle: look at its owner and mode.",
    "bundle-file-extra": "The folder holds a file that the manifest does not list.",
    "bundle-file-missing": "A file that belongs to the bundle is not there.",
    "bundle-file-name": "A file's name is more than letters, digits, dot, dash and underscore, or has a folder in it.",
    "bundle-file-size": "A file is larger than its kind may be.",
    "bundle-name": "The name is no slug: a-z, 0-9 and dash, up to 63.",
    "bundle-version": "The version is more than letters, digits, dot, dash and underscore, up to 64.",
    "contract-digest": "The bundle was made for another contract, or for another version of it.",
    "contract-fields": "The features read or fill fields that the contract does not have, or of another type or shape.",
    "features-digest": "The features are not those the manifest names.",
    "features-form": "The features cannot be read.",
    "features-labels": "The labels of an output are not as many as the columns of its tensor.",
    "features-signature": "The features feed or read tensors that the graph lacks, or of another type or shape.",
    "golden-form": "The golden records cannot be read, or do not fit the graph.",
    "manifest-digest": "A file's SHA-256 is not the one in the manifest.",
    "manifest-form": "The manifest is not in the one form that Brownfield writes.",
    "manifest-hash": "The manifest names another hash than SHA-256.",
    "manifest-schema": "The manifest was written by another version of the bundle's layout.",
    "manifest-session": "The manifest asks for a session that there is not: engine, precision, threads.",
    "model-empty": "The model file is empty.",
    "model-format": "The file is no ONNX model.",
    "onnx-constant": "A constant of the graph would fill more memory than a model may.",
    "onnx-domain": "An operator is of a domain that the engine does not bring itself.",
    "onnx-external-data": "Weights outside the model are in no plain file of its folder, or beyond that file's end.",
    "onnx-initializer": "A weight's data is not as long as its shape and type say.",
    "onnx-input-shape": "An input has no declared number of dimensions, or a negative one.",
    "onnx-input-type": "An input is no tensor of a type that the open inference protocol knows.",
    "onnx-names": "Inputs or outputs without a name, two of one name, or a name that is no UTF-8 text.",
    "onnx-nesting": "Subgraphs or functions are nested too deep, or a function calls itself.",
    "onnx-nodes": "The graph has more nodes than a model may.",
    "onnx-operator": "An operator does not exist in the operator set that the model names.",
    "onnx-opset": "The operator set or file version is newer than this Brownfield knows, or is missing.",
    "onnx-output-type": "An output is no tensor of a type that the open inference protocol knows.",
    "onnx-structure": "The graph is missing, or carries parts that serving has no use for.",
    "python-class": "The module is no Python text, or has no such class with load and predict.",
    "python-file": "A file of a Python model has the name of one of the bundle's own.",
    "python-pickle": "A file of a Python model is or holds a pickle.",
}
"""Identifier to meaning; those of the probe and of environments stand beside them."""


def refused(rule: str, what: str = "", **details: str | None) -> BundleRefused:
    """Return the error for a rule of :data:`RULES`."""
    return BundleRefused(what or RULES[rule].rstrip("."), rule=rule, **details)


def text(value: str | bytes) -> str:
    """Return a text of a protocol buffer, which is bytes when it is no UTF-8 (``onnx-names``)."""
    if not isinstance(value, str):
        raise refused("onnx-names", got=ascii(value[:40]))
    return value
