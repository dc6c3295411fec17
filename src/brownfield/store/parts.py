"""Which files make up each table: a table grows by whole files, and a file that is not listed here is no part of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from brownfield.errors import StoreError
from brownfield.store.access import Access
from brownfield.store.schema import part, plain

__all__ = ["Part", "Parts"]


@dataclass(frozen=True, slots=True)
class Part:
    """One immutable file of a table.

    Parameters
    ----------
    file
        Its name in the folder of the table.
    rows
        Rows in it.
    """

    file: str
    rows: int


class Parts:
    """The files of every table, oldest first."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def listed(self, integration: str) -> Mapping[str, list[Part]]:
        """Return the parts of every table of an integration."""
        query = sa.select(part.c.dataset, part.c.file, part.c.rows).where(part.c.integration == integration)
        found: dict[str, list[Part]] = {}
        with self._access.read() as connection:
            for row in connection.execute(query.order_by(part.c.dataset, part.c.number)).mappings():
                values = plain(row)
                found.setdefault(values.pop("dataset"), []).append(Part(**values))
        return found

    def add(self, run_id: str, integration: str, dataset: str, new: Part) -> None:
        """List one more file behind the others."""
        own = (part.c.integration == integration, part.c.dataset == dataset)
        number = sa.select(sa.func.coalesce(sa.func.max(part.c.number) + 1, 0)).where(*own).scalar_subquery()
        with self._access.write() as connection:
            connection.execute(
                part.insert().values(
                    integration=integration, dataset=dataset, number=number, file=new.file, rows=new.rows, run_id=run_id
                )
            )

    def replace(self, run_id: str, integration: str, dataset: str, old: Sequence[str], new: Part) -> None:
        """List one file in the place of some that follow each other.

        Raises
        ------
        StoreError
            When the table does not list all of them.
        """
        chosen = (part.c.integration == integration, part.c.dataset == dataset, part.c.file.in_(old))
        with self._access.write() as connection:
            number = connection.execute(sa.select(sa.func.min(part.c.number)).where(*chosen)).scalar_one()
            if connection.execute(part.delete().where(*chosen)).rowcount != len(old):
                raise StoreError("the parts of this table were changed meanwhile", where=f"{integration}.{dataset}")
            connection.execute(
                part.insert().values(
                    integration=integration, dataset=dataset, number=number, file=new.file, rows=new.rows, run_id=run_id
                )
            )

    def clear(self, integration: str, dataset: str) -> None:
        """List no file any more, as before a table is made anew."""
        with self._access.write() as connection:
            connection.execute(part.delete().where(part.c.integration == integration, part.c.dataset == dataset))
