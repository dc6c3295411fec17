"""What an entry of a fallback chain is."""

from typing import Protocol

from brownfield.types import Columns

__all__ = ["Fallback"]


class Fallback(Protocol):
    """Answers instead of the model, from memory, without waiting for anything."""

    @property
    def source(self) -> str:
        """Name under which it stands in ``decision.source``."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can answer just now; looking changes nothing."""
        ...

    def answer(self, columns: Columns, rows: int) -> Columns | None:
        """Answer ``rows`` records.

        Parameters
        ----------
        columns
            The checked request, column by column.
        rows
            Number of records, at least 1.

        Returns
        -------
        Columns or None
            Columns of the response, one value per record; ``None`` passes on to the next in the chain.
        """
        ...
