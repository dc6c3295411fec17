"""Which bundle was admitted to answer, when, and what its probe showed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from brownfield.clock import Clock
from brownfield.store.access import Access
from brownfield.store.schema import admission, plain

__all__ = ["Admission", "Registry"]


@dataclass(frozen=True, slots=True)
class Admission:
    """One bundle admitted to answer for one integration.

    Parameters
    ----------
    admission_id
        Ascending in the order of admission.
    digest
        SHA-256 of the bundle's manifest, hexadecimal.
    admitted_utc
        Aware time.
    probe
        What the probe measured, as JSON values.
    """

    admission_id: int
    integration: str
    name: str
    version: str
    digest: str
    admitted_utc: datetime
    probe: Mapping[str, Any]


class Registry:
    """Admissions, newest last; "which version answered at that minute" is read from here."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def admit(self, *, integration: str, name: str, version: str, digest: str, probe: Mapping[str, Any]) -> None:
        """Enter a bundle that passed its probe and begins to answer now."""
        with self._access.write() as connection:
            connection.execute(
                admission.insert().values(
                    integration=integration,
                    name=name,
                    version=version,
                    digest=digest,
                    admitted_utc=self._clock.now_utc(),
                    probe=dict(probe),
                )
            )

    def admissions(self, integration: str) -> list[Admission]:
        """Every admission of an integration, oldest first."""
        query = sa.select(admission).where(admission.c.integration == integration).order_by(admission.c.admission_id)
        with self._access.read() as connection:
            return [Admission(**plain(row)) for row in connection.execute(query).mappings()]

    def answering_at(self, integration: str, at_utc: datetime) -> Admission | None:
        """Return the admission in force at a time; None before the first."""
        query = (
            sa.select(admission)
            .where(admission.c.integration == integration, admission.c.admitted_utc <= at_utc)
            .order_by(admission.c.admission_id.desc())
            .limit(1)
        )
        with self._access.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else Admission(**plain(row))
