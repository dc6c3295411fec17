"""Refused records of a workspace, listed, tried again or closed; who did it is in the audit log."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline import ReplayReport, custody_of, discard_quarantined, park_key, replay_quarantined
from brownfield.errors import DeclarationError, NotFound, there_are
from brownfield.integration import IntegrationSpec, load_workspace
from brownfield.store import QuarantineState, Selection, Store, open_store
from brownfield.workspace.pull import actor, find_integration

__all__ = ["QuarantineSummary", "Reason", "SourceStates", "replay", "summarise"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Open records of one source that were refused for one reason, and what its rule asks for as it stands now."""

    source: str
    code: str
    rule: str
    records: int
    expected: str


@dataclass(frozen=True, slots=True)
class SourceStates:
    """What became of the refused records of one source; ``waiting`` are open ones behind others of their key."""

    source: str
    open: int
    waiting: int
    replayed: int
    fixed: int
    discarded: int
    expired: int
    oldest_open_utc: datetime | None


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """What is in quarantine of one integration: by source and state, and open records by reason.

    A record that was refused for several reasons counts under each of them.
    """

    integration: str
    sources: tuple[SourceStates, ...]
    reasons: tuple[Reason, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def summarise(workspace: Path, *, integration: str | None = None, source: str | None = None) -> QuarantineSummary:
    """Say what is in quarantine; raises as :func:`replay`.

    Parameters
    ----------
    workspace
        Its folder.
    integration
        Needed where the workspace has more than one.
    source
        Only of this source or table.
    """
    chosen = find_integration(load_workspace(workspace), integration)
    with _store(workspace) as store:
        names = sorted({name for name, _ in store.quarantine.count_by_state(chosen.name)})
        if source is not None:
            known = {*chosen.sources, *chosen.unified, *names}  # records of what is declared no more stay there
            if source not in known:
                raise NotFound(f"there is no source {source}", where=str(workspace), next_step=there_are(sorted(known)))
            names = [source]
        rules = store.quarantine.count_by_rule(chosen.name)
        return QuarantineSummary(
            chosen.name,
            tuple(_states(store, chosen.name, name) for name in names),
            tuple(Reason(*key, records, _expected(chosen, *key)) for key, records in rules.items() if key[0] in names),
        )


def _expected(integration: IntegrationSpec, source: str, _code: str, rule: str) -> str:
    schema = integration.contract.schemas.get(source)  # records of what is declared no more stay in quarantine
    return "" if schema is None else schema.expected.get(rule, "")


def _states(store: Store, integration: str, source: str) -> SourceStates:
    def count(state: QuarantineState, code: str | None = None) -> int:
        return store.quarantine.count(integration, Selection(source=source, state=state, code=code))

    is_open = QuarantineState.OPEN
    oldest = store.quarantine.oldest(integration, Selection(source=source, state=is_open))
    return SourceStates(
        source,
        open=count(is_open),
        waiting=count(is_open, "BF-QUA-001"),
        replayed=count(QuarantineState.REPLAYED),
        fixed=count(QuarantineState.FIXED),
        discarded=count(QuarantineState.DISCARDED),
        expired=count(QuarantineState.EXPIRED),
        oldest_open_utc=oldest,
    )


def replay(  # noqa: PLR0913 (what a person may choose)
    workspace: Path,
    source: str,
    *,
    integration: str | None = None,
    code: str | None = None,
    rule: str | None = None,
    contract: str | None = None,
    key: tuple[str, ...] = (),
    min_age_h: float = 0.0,
    max_age_h: float | None = None,
    discard: bool = False,
    apply: bool = False,
    clock: Clock | None = None,
) -> ReplayReport:
    """Try refused records again under the contract of today, or close them; a dry run unless `apply`.

    Parameters
    ----------
    workspace
        Its folder.
    source
        A source, or a unified table for the records that its own rules refused.
    integration
        Needed where the workspace has more than one.
    code, rule
        Only records with this rejection code, or this rule, among their reasons.
    contract
        Only records that were refused last under this ``id@version``.
    key
        Only records of this key of a feed that keeps the order within a key: a value for each of its fields.
    min_age_h, max_age_h
        Only records first seen at least, or at most, so many hours ago.
    discard
        Close them instead.
    apply
        Do it.
    clock
        The system's unless given.

    Raises
    ------
    NotFound
        When there is no such integration, or no store yet.
    DeclarationError
        When there is no such source, or a key is given for one that keeps no order.
    """
    spec = load_workspace(workspace)
    chosen = find_integration(spec, integration)
    now = (clock or SystemClock()).now_utc()
    wanted = Selection(
        code=code,
        rule=rule,
        contract=contract,
        park_key=_key(chosen, source, key) if key else None,
        seen_from_utc=None if max_age_h is None else now - timedelta(hours=max_age_h),
        seen_until_utc=now - timedelta(hours=min_age_h),
    )
    with _store(workspace) as store:
        if discard:
            return discard_quarantined(chosen, store, source=source, wanted=wanted, apply=apply, actor=actor())
        return replay_quarantined(
            chosen,
            spec.connections,
            store,
            workspace / "var" / "data" / chosen.name,
            source=source,
            wanted=wanted,
            apply=apply,
            actor=actor(),
            custody=custody_of(spec),
        )


def _store(workspace: Path) -> Store:
    path = workspace / "var" / "brownfield.db"
    if not path.exists():
        raise NotFound("this workspace has no store yet", where=str(path), next_step="It begins with the first run.")
    return open_store(path)


def _key(integration: IntegrationSpec, source: str, values: tuple[str, ...]) -> str:
    spec = integration.sources.get(source)
    if spec is None or spec.park is None or len(spec.park.keys) != len(values):
        expected = "a feed with park" if spec is None or spec.park is None else f"a value for each of {spec.park.keys}"
        raise DeclarationError(path=f"sources.{source}.park", expected=expected, got="another")
    return park_key(f"{integration.name}\0{source}", values)
