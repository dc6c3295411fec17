"""The last resort: the same declared answer for every record."""

from typing import TYPE_CHECKING, Any

import numpy as np

from brownfield.errors import DeclarationError, InputRefused

if TYPE_CHECKING:
    from brownfield.contract import Schema
    from brownfield.types import Columns, Record

__all__ = ["Constant"]


class Constant:
    """Answers every record with one declared record.

    Parameters
    ----------
    record
        Values by response field; checked against ``response`` here, so that it can be given at any time.
    response
        Schema of the response.

    Raises
    ------
    DeclarationError
        The record breaks the response contract.

    Examples
    --------
    >>> from brownfield.contract import Field, Schema
    >>> response = Schema("response", (Field(name="risk", kind="number", dtype="float64", required=True),))
    >>> Constant({"risk": 0.5}, response).answer({}, 2)
    {'risk': [0.5, 0.5]}
    """

    source = "constant"
    ready = True

    def __init__(self, record: "Record", response: "Schema") -> None:
        try:
            checked = response.rows.check([record])
        except InputRefused as refused:
            raise DeclarationError(
                f"the constant fallback breaks the response contract: {refused}",
                path="fallback.chain",
                next_step="Declare a constant that the contract admits.",
            ) from refused
        self._whole: dict[str, Any] = {name: checked.columns[name] for name in checked.whole}
        own = {name: column for name, column in checked.columns.items() if name not in checked.whole}
        self._arrays = {name: column for name, column in own.items() if isinstance(column, np.ndarray)}
        self._values = {name: column[0] for name, column in own.items() if name not in self._arrays}

    def answer(self, columns: "Columns", rows: int) -> "Columns":  # noqa: ARG002 (a constant does not look at the question)
        """Repeat the record ``rows`` times."""
        repeated: dict[str, Any] = {name: [value] * rows for name, value in self._values.items()}
        for name, array in self._arrays.items():
            repeated[name] = array if rows == 1 else np.broadcast_to(array, (rows, *array.shape[1:]))
        return {**repeated, **self._whole}
