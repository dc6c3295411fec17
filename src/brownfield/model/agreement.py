"""Do features, golden records and graph agree: names, types, sizes, and as many labels as scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from brownfield.data.features import Argmax, Features, RawInput, TopK
from brownfield.model.golden import Golden
from brownfield.model.rules import refused
from brownfield.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from brownfield.contract import Contract

__all__ = ["check_contract", "check_features", "check_golden"]


def check_features(features: Features, signature: Signature) -> None:
    """Check that features feed all the inputs of a graph, and read outputs that it has.

    Raises
    ------
    BundleRefused
        ``features-signature`` with the difference, or ``features-labels``.
    """
    fed = {spec.name: spec for spec in features.tensors}
    inputs = {spec.name: spec for spec in signature.inputs}
    if fed.keys() != inputs.keys():
        raise refused("features-signature", path="inputs", expected=_names(inputs), got=_names(fed))
    for name, spec in inputs.items():
        given = fed[name]
        if given.dtype != spec.dtype or not _fits(given.shape, spec.shape):
            raise refused(
                "features-signature",
                path=ascii(name),
                expected=f"{spec.dtype} {list(spec.shape or ())}",
                got=f"{given.dtype} {list(given.shape)}",
            )
    outputs = {spec.name: spec for spec in signature.outputs}
    for feature in features.outputs:
        if feature.tensor not in outputs:
            raise refused("features-signature", path="outputs", expected=_names(outputs), got=ascii(feature.tensor))
        shape = outputs[feature.tensor].shape
        if not isinstance(feature, TopK | Argmax) or shape is None:
            continue
        labels = len(feature.labels)
        if len(shape) != 2 or shape[1] not in (labels, None):  # noqa: PLR2004 (rows and labels)
            raise refused(
                "features-labels", path=ascii(feature.tensor), expected=f"[rows, {labels}]", got=str(list(shape))
            )


def check_contract(features: Features, contract: "Contract") -> None:
    """Check that features read and fill fields that a contract has, and that it is batched as they are.

    A contract may say more than the one a bundle was made for (ranges, descriptions, further fields), never less.
    A field that the request lacks may be one of a lookup, which the declaration joins to the request (``enrich``).

    Raises
    ------
    BundleRefused
        ``contract-fields`` with the difference.
    """
    request, response = contract.schema("request"), contract.schema("response")
    if request.batched != features.batched:
        raise refused("contract-fields", path="batched", expected=str(features.batched), got=str(request.batched))
    if features.batched and not response.batched:  # how an answer looks would depend on who else asks
        raise refused("contract-fields", path="response.batched", expected="True", got="False")
    joined = [schema for name, schema in contract.schemas.items() if name not in {"request", "response"}]
    asked = {field.name: field for schema in (*joined, request) for field in schema.fields}
    for feature in features.inputs:
        field = asked.get(feature.field)
        if field is None:
            raise refused("contract-fields", path="request", expected=ascii(feature.field), got=_names(asked))
        wanted = (feature.dtype, feature.shape)
        if isinstance(feature, RawInput) and field.kind == "tensor" and (field.dtype, field.shape) != wanted:
            raise refused(
                "contract-fields",
                path=ascii(field.name),
                expected=f"{feature.dtype} {list(feature.shape or ())}",
                got=f"{field.dtype} {list(field.shape)}",
            )
    filled = {name for feature in features.outputs for name in feature.fields}
    answered = {field.name: field for field in response.fields}
    lost = filled - answered.keys() | {name for name, field in answered.items() if field.required} - filled
    if lost:
        raise refused("contract-fields", path="response", expected=_names(dict.fromkeys(filled)), got=_names(answered))


def check_golden(golden: Golden, signature: Signature) -> None:
    """Check that golden tensors have the names, types and shapes of the graph.

    Raises
    ------
    BundleRefused
        ``golden-form``.
    """
    for tensors, specs in ((golden.inputs, signature.inputs), (golden.outputs, signature.outputs)):
        _check_tensors(tensors, {spec.name: spec for spec in specs})


def _check_tensors(tensors: Mapping[str, npt.NDArray[Any]], specs: Mapping[str, TensorSpec]) -> None:
    if tensors.keys() != specs.keys():
        raise refused("golden-form", expected=_names(specs), got=_names(tensors))
    for name, array in tensors.items():
        spec, dtype = specs[name], "str" if array.dtype.kind == "O" else array.dtype.name
        if dtype != spec.dtype or not _fits(array.shape, spec.shape):
            raise refused(
                "golden-form",
                path=ascii(name),
                expected=f"{spec.dtype} {list(spec.shape or ())}",
                got=f"{dtype} {list(array.shape)}",
            )


def _fits(shape: tuple[int | None, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        size is None or limit is None or size == limit for size, limit in zip(shape, wanted, strict=True)
    )


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(ascii(name) for name in named)
