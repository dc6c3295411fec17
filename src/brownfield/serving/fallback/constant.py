"""The last resort: the same declared answer for every record."""

from brownfield.types import Columns, Record

__all__ = ["Constant"]


class Constant:
    """Answers every record with one declared record.

    Parameters
    ----------
    record
        Values by response field.

    Examples
    --------
    >>> Constant({"items": ["MILK"]}).answer({}, 2)
    {'items': [['MILK'], ['MILK']]}
    """

    source = "constant"

    def __init__(self, record: Record) -> None:
        self._record = dict(record)

    def answer(self, columns: Columns, rows: int) -> Columns:  # noqa: ARG002 (a constant does not look at the question)
        """Repeat the record ``rows`` times."""
        return {field: [value] * rows for field, value in self._record.items()}
