"""Do features, golden records and graph agree: names, types, sizes, and as many labels as scores."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from brownfield.data.features import Argmax, Features, TopK
from brownfield.model.golden import Golden
from brownfield.model.rules import refused
from brownfield.model.signature import Signature, TensorSpec

__all__ = ["check_features", "check_golden"]


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
