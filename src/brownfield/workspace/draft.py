"""Draft a contract from the signature of an ONNX graph, so that any model can be brought.

In: what inspection found. Out: the text of an ODCS contract whose request fields are the graph's inputs and whose
response fields are its outputs, under exactly their names.
"""

import json
import re
import unicodedata

from brownfield.errors import DeclarationError
from brownfield.model import Signature, TensorSpec

__all__ = ["as_text", "draft_contract", "slug"]

_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])")
_MAX_SLUG = 63
_MISREAD = {"false", "n", "no", "null", "off", "on", "true", "y", "yes"}

_HEAD = """\
# Drafted from the model: every name, type and shape is its own.
# Say here what a model cannot say: descriptions, units, ranges, what may be missing.
apiVersion: v3.2.0
kind: DataContract
id: {name}
version: 0.1.0
status: draft
schema:
"""

_OBJECT = """\
  - name: {name}
    logicalType: object
    customProperties: [{{property: batched, value: {batched}, vendor: brownfield}}]
    properties:
"""

_PROPERTY = """\
      - name: {name}
        required: true
        customProperties: [{{property: tensor, value: {{dtype: {dtype}, shape: [{shape}]}}, vendor: brownfield}}]
"""


def draft_contract(signature: Signature, name: str, *, batched: bool | None = None) -> str:
    """Draft the contract of a model.

    Parameters
    ----------
    signature
        The graph's inputs and outputs; every output with a number of dimensions.
    name
        Identifier of the contract, a slug.
    batched
        Whether the first dimension of every tensor counts records, which then stand alone; ``None`` takes the graph's
        word for it (one common name for that dimension).

    Returns
    -------
    str
        YAML that :func:`brownfield.contract.compile_contract` compiles.

    Raises
    ------
    DeclarationError
        When an output has no number of dimensions, or a batched tensor no first one that varies.

    Examples
    --------
    >>> text = draft_contract(Signature((TensorSpec("x", "float32", (None, 4), ("n", "")),),
    ...                                 (TensorSpec("y", "float32", (None, 1), ("n", "")),), 17, 1), "iris")
    >>> print(text[text.index("      - name") :].splitlines()[2].strip())
    customProperties: [{property: tensor, value: {dtype: float32, shape: [4]}, vendor: brownfield}]
    """
    if batched is None:
        batched = signature.batched
    return _HEAD.format(name=as_text(name)) + "".join(
        _OBJECT.format(name=side, batched=str(batched).lower())
        + "".join(_property(tensor, batched=batched) for tensor in tensors)
        for side, tensors in (("request", signature.inputs), ("response", signature.outputs))
    )


def slug(name: str) -> str:
    """Make a name a slug: a-z, 0-9 and single dashes, up to 63; ``model`` when nothing is left.

    Examples
    --------
    >>> slug("Détection de fraude (v2).onnx")
    'detection-de-fraude-v2-onnx'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    made = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MAX_SLUG].strip("-") or "model"
    return f"{made}-model" if _DEVICES.fullmatch(made) else made


def as_text(name: str) -> str:
    """Write a slug as YAML: in quotes where a reader may take it for a number, a date or a truth value.

    Examples
    --------
    >>> as_text("claims-2024"), as_text("2024"), as_text("no")
    ('claims-2024', '"2024"', '"no"')
    """
    return name if name[:1].isalpha() and name not in _MISREAD else f'"{name}"'


def _property(tensor: TensorSpec, *, batched: bool) -> str:
    if tensor.shape is None or (batched and tensor.shape[:1] != (None,)):
        raise DeclarationError(
            path=ascii(tensor.name),
            expected="a tensor whose first dimension varies" if batched else "a tensor with a number of dimensions",
            got="none" if tensor.shape is None else str(list(tensor.shape)),
            next_step="Export the model with that dimension, or write the contract by hand.",
        )
    shape = ", ".join("null" if size is None else str(size) for size in tensor.shape[batched:])
    return _PROPERTY.format(name=_quoted(tensor.name), dtype=tensor.dtype, shape=shape)


def _quoted(text: str) -> str:
    """Return a YAML scalar in double quotes; what does not print is escaped."""
    return "".join(
        each if each.isprintable() else f"\\U{ord(each):08x}" for each in json.dumps(text, ensure_ascii=False)
    )
