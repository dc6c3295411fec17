"""Features: request columns to tensors and tensors to response columns, frozen at fit time and kept in the bundle.

In: columns that the contract has checked. Out: C-contiguous tensors by graph input name, and response columns.
The same object, read from the same JSON, works at fit and at serving, so the two cannot differ.
"""

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from brownfield.data.features.inputs import InputFeature, RawInput, SequenceInput
from brownfield.data.features.outputs import Decoded, OutputFeature, RawOutput
from brownfield.data.features.spec import tensor_dtype
from brownfield.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brownfield.contract import Schema
    from brownfield.types import Columns

__all__ = ["Features", "identity"]


class Fed(NamedTuple):
    """A tensor that features give: its name, dtype (``str`` for texts) and shape, ``None`` where any size goes."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Everything between a request and the tensors of one model.

    Parameters
    ----------
    inputs
        Features that feed the graph; those of one tensor stand side by side in it, in this order.
    outputs
        Features that fill the response.
    batched
        Whether the first dimension of every tensor counts records.
    schema_version
        Layout of the JSON, for readers to come.
    """

    inputs: tuple[InputFeature, ...]
    outputs: tuple[OutputFeature, ...]
    batched: bool = True
    schema_version: int = 1

    def encode(self, columns: "Columns", rows: int) -> dict[str, npt.NDArray[Any]]:
        """Turn checked request columns into the graph's inputs.

        Parameters
        ----------
        columns
            Lists or arrays of ``rows`` values each; ``None`` (NaN in an array) is a missing value.
        rows
            Number of records.

        Returns
        -------
        dict
            C-contiguous tensors by the name of the graph input.

        Raises
        ------
        InputRefused
            When a value is missing or unknown and the feature refuses that, or leaves the range of its tensor.
        """
        tensors: dict[str, npt.NDArray[Any]] = {}
        for name, (parts, width) in self._layout.items():
            first = parts[0]
            if first.alone:
                tensors[name] = first.tensor_of(columns[first.field], rows, batched=self.batched)
                continue
            tensor = np.zeros((rows, width), dtype=first.dtype)
            start = 0
            for part in parts:
                part.write(columns[part.field], tensor[:, start : start + part.width])
                start += part.width
            tensors[name] = tensor if first.shape is None else tensor[:, 0]
        return tensors

    def decode(self, tensors: "Mapping[str, npt.NDArray[Any]]", columns: "Columns", rows: int) -> Decoded:
        """Turn the graph's outputs into response columns.

        Parameters
        ----------
        tensors
            The graph's outputs by name.
        columns
            The request columns that the tensors answer.
        rows
            Number of records.

        Returns
        -------
        dict
            Response columns, lists or arrays of ``rows`` values (a whole tensor where the contract is not batched).

        Raises
        ------
        OutputRefused
            When a tensor is not there, has the wrong shape, or holds NaN where values are compared.
        """
        decoded: Decoded = {}
        for output in self.outputs:
            decoded.update(output.decode(tensors, columns, rows))
        return decoded

    def to_json(self) -> bytes:
        """Return the JSON text that :meth:`from_json` reads back to an equal object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> "Features":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        DeclarationError
            When it is not that, or contradicts itself.
        """
        try:
            features = msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DeclarationError("the features of the bundle cannot be read", got=str(error)) from error
        if features.schema_version != 1:
            raise DeclarationError(path="schema_version", expected="1", got=str(features.schema_version))
        return features

    @cached_property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json`, in hexadecimal."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def tensors(self) -> "tuple[Fed, ...]":
        """The tensors that :meth:`encode` gives: name, dtype, and shape with ``None`` for any size."""
        rows = (None,) if self.batched else (1,)
        fed = []
        for name, (parts, width) in self._layout.items():
            first = parts[0]
            shape: tuple[int | None, ...] = (*rows, width)
            if isinstance(first, SequenceInput):
                shape = (*rows, first.length)
            elif isinstance(first, RawInput):
                shape = (*rows, *(first.shape or ())) if self.batched else (first.shape or ())
            elif first.shape is not None:
                shape = rows
            fed.append(Fed(name, first.dtype, shape))
        return tuple(fed)

    @cached_property
    def fixed_width(self) -> bool:
        """Whether the tensors of a record have the same shape whatever records stand beside it."""
        return self.batched and all(
            feature.length is not None if isinstance(feature, SequenceInput) else None not in (feature.shape or ())
            for feature in self.inputs
        )

    @cached_property
    def _layout(self) -> dict[str, tuple[tuple[Any, ...], int]]:
        parts: dict[str, list[InputFeature]] = {}
        for feature in self.inputs:
            parts.setdefault(feature.tensor, []).append(feature)
        return {name: (tuple(some), sum(getattr(one, "width", 0) for one in some)) for name, some in parts.items()}


def identity(request: "Schema", response: "Schema") -> Features:
    """Features of a contract whose fields are the graph's inputs and outputs themselves.

    Parameters
    ----------
    request, response
        The two sides of the contract; the names of their fields are the names of the tensors.
    """
    return Features(
        inputs=tuple(
            RawInput(field=field.name, tensor=field.name, dtype=tensor_dtype(field), shape=tuple(field.shape or ()))
            for field in request.fields
        ),
        outputs=tuple(RawOutput(field=field.name, tensor=field.name) for field in response.fields),
        batched=request.batched,
    )
