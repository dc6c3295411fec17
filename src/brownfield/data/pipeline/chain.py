"""Where a lookup stands in its chain of places: each is used, failed and come back to by the rule of fail-over.

Where it stands is kept in the store, for the next run and for people; one process at a time probes the way back.
"""

import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from brownfield.data.pipeline.failover import Failover, Policy, Standing, State
from brownfield.errors import SourceUnavailable
from brownfield.store import private_folder

if TYPE_CHECKING:
    from datetime import datetime

    from brownfield.clock import Clock
    from brownfield.data.sources import Source
    from brownfield.integration import IntegrationSpec, Location
    from brownfield.store import Store

__all__ = ["Bind", "Chain", "lookup_folder"]

_LONGEST_PAUSE_S = 1.0

Bind: TypeAlias = "Callable[[Location, int], Source]"
"""Makes a source of a place of the chain."""

_Result = TypeVar("_Result")


class Chain:
    """The places of one lookup, and where it stands.

    Parameters
    ----------
    integration, name
        Whose lookup.
    bind
        Makes a source of a place.
    store
        Keeps where it stands, and each change.
    clock
        Whose time counts.
    """

    def __init__(self, integration: "IntegrationSpec", name: str, bind: Bind, store: "Store", clock: "Clock") -> None:
        spec = integration.sources[name]
        self.integration = integration
        self.name = name
        self.where = f"{integration.name}.{name}"
        self.places = spec.chain
        self.bind = bind
        self.store = store
        self.clock = clock
        policy = Policy(**msgspec.structs.asdict(spec.failover))
        self.failover = Failover((_kind(place, index) for index, place in enumerate(spec.chain)), policy)
        self.pause_s = min(policy.window_s / (2 * policy.failures), _LONGEST_PAUSE_S)
        kept = store.lookups.state(integration.name, name)
        self.standing = Standing() if kept is None else msgspec.convert(kept.standing, Standing)
        self._entered = kept is not None

    @property
    def state(self) -> State:
        """What the lookup is read from."""
        return self.failover.state(self.standing)

    def use(self, act: "Callable[[Location], _Result]") -> _Result:
        """Do something with the place where the lookup stands, and with the next ones while they fail.

        Raises
        ------
        SourceUnavailable
            When no place is left; with the last place's reason.
        """
        self._come_back()
        reason = "every place of its chain has failed; the way back is tried after its cool-down"
        error: SourceUnavailable | None = None
        while self.standing.place < len(self.places):
            place = self.places[self.standing.place]
            try:
                return within(place.deadline_ms, lambda place=place: act(place), self.where)  # type: ignore[misc]  # a default binds this place
            except SourceUnavailable as failed:
                error, reason = failed, failed.what or str(failed)
                was = self.standing.place
                for_good = place.connection is None
                self.enter(self.failover.failed(self.standing, self._now_s(), for_good=for_good), reason)
                if self.standing.place == was:
                    self._pause()
        raise SourceUnavailable(
            reason, where=self.where, next_step="Every place of its chain is out of use; mend one of them."
        ) from error

    def leave(self, reason: str) -> None:
        """Go on to the next place at once: what this one gave cannot be used."""
        self.enter(self.failover.failed(self.standing, self._now_s(), for_good=True), reason)

    def enter(self, standing: Standing, reason: str = "", as_of_utc: "datetime | None" = None) -> None:
        """Keep where the lookup stands, and why; the moment is that of the records that were read just now."""
        if self._entered and standing == self.standing and as_of_utc is None:
            return
        self.standing = standing
        self._entered = True
        self.store.lookups.enter(
            self.integration.name,
            self.name,
            state=str(self.state),
            standing=msgspec.structs.asdict(standing),
            as_of_utc=as_of_utc,
            reason=reason,
        )

    def _come_back(self) -> None:
        """Probe the better places, when it is time and nobody else does."""
        if not self.failover.may_return(self.standing, self._now_s()):
            return
        with _alone(lookup_folder(self.integration, self.name) / ".probe") as alone:
            for attempt in range(self.failover.policy.good_probes if alone else 0):
                if attempt:
                    self._pause()
                answered = self._first_that_answers()
                self.enter(self.failover.probed(self.standing, answered, self._now_s()), "it answers again")
                if answered is None or self.standing.place <= answered:
                    return

    def _first_that_answers(self) -> int | None:
        for index, place in enumerate(self.places[: self.standing.place]):
            if place.connection is None:
                continue

            def probe(place: "Location" = place, index: int = index) -> None:
                self.bind(place, index).probe()

            try:
                within(place.deadline_ms, probe, self.where)
            except SourceUnavailable:
                continue
            return index
        return None

    def _now_s(self) -> float:
        return self.clock.now_utc().timestamp()

    def _pause(self) -> None:
        time.sleep(self.pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)


def _kind(place: "Location", index: int) -> State:
    if place.is_last_resort:
        return State.FALLBACK
    if place.snapshot is not None:
        return State.SNAPSHOT
    return State.REPLICA if index else State.PRIMARY


def within(deadline_ms: int | None, act: Callable[[], _Result], where: str) -> _Result:
    """Do something before a deadline; what comes later is left to end by itself, and is not waited for."""
    if deadline_ms is None:
        return act()
    outcome: list[tuple[_Result | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((act(), None))
        except BaseException as error:  # noqa: BLE001 (raised again by the caller)
            outcome.append((None, error))

    thread = threading.Thread(target=run, name=f"read-{where}", daemon=True)
    thread.start()
    thread.join(deadline_ms / 1_000)
    if not outcome:
        raise SourceUnavailable(f"it did not answer within {deadline_ms} ms", where=where)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there is a result where there is no error


@contextmanager
def _alone(file: Path) -> Iterator[bool]:
    """Tell whether nobody else is here; a process that is killed lets go."""
    private_folder(file.parent)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def lookup_folder(integration: "IntegrationSpec", name: str) -> Path:
    """Give the folder in which the copies of a lookup lie, and what is kept of it beside the store."""
    return integration.folder.parents[1] / "var" / "lookups" / integration.name / name
