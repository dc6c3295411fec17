"""Where each lookup stands in its chain, when and why it changed, and what each run read it from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from brownfield.clock import Clock
from brownfield.store.access import Access
from brownfield.store.schema import lookup_event, lookup_state, plain, run_lookup

__all__ = ["LookupEvent", "LookupState", "Lookups"]


@dataclass(frozen=True, slots=True)
class LookupState:
    """Where a lookup stands.

    Parameters
    ----------
    integration, source
        Whose.
    state
        ``PRIMARY``, ``REPLICA``, ``SNAPSHOT``, ``FALLBACK`` or ``REFUSE``.
    standing
        What the rule of fail-over keeps.
    as_of_utc
        The moment that its records showed when they were last read; None before, and in a fallback.
    updated_utc
        When this was entered.
    """

    integration: str
    source: str
    state: str
    standing: Mapping[str, Any]
    as_of_utc: datetime | None
    updated_utc: datetime


@dataclass(frozen=True, slots=True)
class LookupEvent:
    """One change of state: from what to what, when and why."""

    at_utc: datetime
    integration: str
    source: str
    was: str
    now: str
    reason: str


class Lookups:
    """States and changes of lookups; inside ``with store.commit() as tx`` all of it is one transaction."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock

    def states(self, integration: str | None = None) -> list[LookupState]:
        """Say where every lookup stands, by integration and source."""
        query = sa.select(lookup_state).order_by(lookup_state.c.integration, lookup_state.c.source)
        if integration is not None:
            query = query.where(lookup_state.c.integration == integration)
        with self._access.read() as connection:
            return [LookupState(**plain(row)) for row in connection.execute(query).mappings()]

    def state(self, integration: str, source: str) -> LookupState | None:
        """Say where one lookup stands; None before it was first read."""
        return next((each for each in self.states(integration) if each.source == source), None)

    def enter(
        self,
        integration: str,
        source: str,
        *,
        state: str,
        standing: Mapping[str, Any],
        as_of_utc: datetime | None,
        reason: str,
    ) -> None:
        """Enter where a lookup stands now; a change of state is kept as an event with its reason."""
        before = self.state(integration, source)
        values = {
            "state": state,
            "standing": dict(standing),
            "as_of_utc": as_of_utc,
            "updated_utc": self._clock.now_utc(),
        }
        entry = insert(lookup_state).values(integration=integration, source=source, **values)
        with self._access.write() as connection:
            connection.execute(
                entry.on_conflict_do_update(index_elements=["integration", "source"], set_=dict(entry.excluded))
            )
            if (before.state if before else "PRIMARY") != state:
                connection.execute(
                    lookup_event.insert().values(
                        at_utc=self._clock.now_utc(),
                        integration=integration,
                        source=source,
                        was=before.state if before else "PRIMARY",
                        now=state,
                        reason=reason[:500],
                    )
                )

    def events(self, integration: str | None = None, *, limit: int = 100) -> list[LookupEvent]:
        """Return the changes of state, newest first."""
        columns = [each for each in lookup_event.c if each.name != "seq"]
        query = sa.select(*columns).order_by(lookup_event.c.seq.desc()).limit(limit)
        if integration is not None:
            query = query.where(lookup_event.c.integration == integration)
        with self._access.read() as connection:
            return [LookupEvent(**plain(row)) for row in connection.execute(query).mappings()]

    def add_run(self, run_id: str, source: str, state: str, as_of_utc: datetime | None) -> None:
        """Enter what a run read a lookup from: the stamp of every row that it joined."""
        with self._access.write() as connection:
            connection.execute(
                run_lookup.insert().values(run_id=run_id, source=source, state=state, as_of_utc=as_of_utc)
            )

    def of_run(self, run_id: str) -> dict[str, tuple[str, datetime | None]]:
        """Give state and moment of each lookup that a run read, by source."""
        query = sa.select(run_lookup).where(run_lookup.c.run_id == run_id).order_by(run_lookup.c.source)
        with self._access.read() as connection:
            return {row.source: (row.state, row.as_of_utc) for row in connection.execute(query)}
