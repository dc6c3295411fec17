"""Refused records once more, under the contract and layout of today: each has at most one effect.

The bytes that were kept are decoded again, with nothing of their source but its declaration. What is accepted now is
added to the tables and closed as ``replayed`` in one transaction, which also moves it in the counts of the run that
had refused it; what is refused again stays open.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brownfield.clock import Clock, SystemClock
from brownfield.data.pipeline.attempt import Attempt
from brownfield.data.pipeline.begun import begin, settle_all
from brownfield.data.pipeline.custody import Custody
from brownfield.data.pipeline.parts import one_run, settle
from brownfield.data.pipeline.plan import reading_order
from brownfield.data.pipeline.running import Run
from brownfield.errors import DeclarationError, StoreError
from brownfield.store import QuarantineState, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from brownfield.data.pipeline.guards import Guard
    from brownfield.data.pipeline.streams import SourceStream
    from brownfield.integration import ConnectionSpec, IntegrationSpec
    from brownfield.store import Quarantined, Store

__all__ = ["ReplayReport", "discard_quarantined", "replay_quarantined"]

_ALL = 2**31 - 1
_ACCEPTED: "tuple[Guard, ...]" = ("keys", "nulls", "parked", "refused", "shape", "volume")
"""A replay takes nothing from the feed itself, and what its lookups are was judged by the runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did, or would do.

    Parameters
    ----------
    source
        The source or unified table.
    applied
        False for a dry run, which changes nothing.
    selected, accepted, still_bad
        Open records that were tried; those that are accepted now; those that are refused again.
    unreadable
        Records that cannot be tried, for their bytes were not kept or are no record under today's format; they stay
        open.
    already_applied
        Records of the same selection that an earlier replay brought in.
    discarded
        Records that were closed without another try.
    by_rule_before, by_rule
        Records tried by rule, and records refused again by rule; a record that breaks several counts under each.
    expected
        What those of these rules that stand in the contract ask for, in words.
    """

    source: str
    applied: bool
    selected: int
    accepted: int = 0
    still_bad: int = 0
    unreadable: int = 0
    already_applied: int = 0
    discarded: int = 0
    by_rule_before: Mapping[str, int] = field(default_factory=dict)
    by_rule: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def replay_quarantined(  # noqa: PLR0913 (what a replay is made of)
    integration: "IntegrationSpec",
    connections: "Mapping[str, ConnectionSpec]",
    store: "Store",
    output: Path,
    *,
    source: str,
    wanted: Selection | None = None,
    apply: bool = False,
    actor: str = "local",
    clock: Clock | None = None,
    custody: Custody | None = None,
) -> ReplayReport:
    """Try the open records of a source or unified table again; without ``apply`` nothing is changed.

    Where a feed keeps the order within a key, all open records of a touched key are tried, in their order.

    Parameters
    ----------
    integration, connections, store, output
        As :func:`run_pipeline` takes them.
    source
        A source, or a unified table for the records that its own rules refused. Records of a lookup, and of a table
        that is made from one, are only tried: the next run pulls the lookup whole and brings them in.
    wanted
        Which of its open records; ``source`` and ``state`` of the selection are not looked at.
    apply
        Bring in what is accepted now.
    actor
        Who does it, for the audit log.
    clock
        The system's unless given.
    custody
        Holds the keys of encrypted records.

    Raises
    ------
    DeclarationError
        When there is no such source, or a lookup's records are to be brought in.
    DecryptionFailed
        When the key of an encrypted record is not declared.
    SourceUnavailable
        When a lookup that the records refer to cannot be read.
    Unavailable
        When a run is writing the tables.
    """
    clock = clock or SystemClock()
    custody = custody or Custody()
    feed = _source_of(integration, source)
    if apply and not integration.sources[feed].feed:
        raise _not_a_feed(integration, source)
    wanted = replace(wanted or Selection(), source=source, state=QuarantineState.OPEN)
    with one_run(output):
        settle_all(output, store.parts.listed(integration.name))
        entries = _with_their_keys(store, integration.name, wanted)
        done = store.quarantine.count(integration.name, replace(wanted, state=QuarantineState.REPLAYED))
        begun = begin(integration, store, "replay" if apply else None)
        try:
            with ExitStack() as writers:
                run = Run(
                    integration, store, output, begun=begun, rebuild=False, accept=_ACCEPTED, clock=clock,
                    writers=writers, custody=custody,
                )  # fmt: skip
                stream = _prepare(run, connections, feed)
                attempt = Attempt(run, stream, source, entries)
                if apply:
                    attempt.commit(actor)
        except BaseException:
            if apply:
                with suppress(StoreError):  # what went wrong first is what is told
                    store.ledger.finish_run(begun.run_id, "failed")
            raise
        if apply:
            for table in stream.datasets:
                settle(table.folder, table.files())
    before = _by_rule({rule for _, _, rule in entry.violations} for entry in entries)
    after = _by_rule({each.rule for each in entry.violations} for entry in attempt.refused)
    return ReplayReport(
        source=source,
        applied=apply,
        selected=len(entries),
        accepted=len(attempt.accepted),
        still_bad=len(attempt.refused),
        unreadable=len(entries) - len(attempt.accepted) - len(attempt.refused),
        already_applied=done,
        by_rule_before=before,
        by_rule=after,
        expected=integration.contract.schema(source).expected_of({**before, **after}),
    )


def discard_quarantined(
    integration: "IntegrationSpec",
    store: "Store",
    *,
    source: str,
    wanted: Selection | None = None,
    apply: bool = False,
    actor: str = "local",
) -> ReplayReport:
    """Close open records without another try; parameters and errors as :func:`replay_quarantined`.

    Records that wait behind a discarded one stay open: the next replay of the source lets them in, in their order.
    """
    _source_of(integration, source)
    name = integration.name
    wanted = replace(wanted or Selection(), source=source, state=QuarantineState.OPEN)
    entries = store.quarantine.select(name, wanted, limit=_ALL)
    if apply:
        with store.commit() as tx:
            tx.quarantine.set_state(name, source, [each.record_id for each in entries], QuarantineState.DISCARDED)
            detail = {"records": len(entries), "code": wanted.code or "", "rule": wanted.rule or ""}
            tx.audit.append(actor=actor, action="quarantine.discard", subject=f"{name}.{source}", detail=detail)
    return ReplayReport(source=source, applied=apply, selected=len(entries), discarded=len(entries))


def _source_of(integration: "IntegrationSpec", name: str) -> str:
    """Give the source, or the one that a unified table is made from."""
    if name in integration.sources:
        return name
    if name in integration.unified:
        return integration.unified[name].from_
    raise DeclarationError(
        path=f"sources.{name}",
        expected=f"one of {', '.join([*integration.sources, *integration.unified]) or 'none, for none is declared'}",
        got="no source of this name",
    )


def _not_a_feed(integration: "IntegrationSpec", source: str) -> DeclarationError:
    feeds = [name for name, spec in integration.sources.items() if spec.feed]
    return DeclarationError(
        path=f"sources.{source}",
        expected=f"a feed ({', '.join(feeds) or 'there is none'})",
        got="a lookup" if source in integration.sources else "a table that is made from a lookup",
        next_step="A lookup is pulled whole by the next run, and checked anew.",
    )


def _with_their_keys(store: "Store", integration: str, wanted: Selection) -> "list[Quarantined]":
    """Select records, and with them all open ones of their keys, in the order in which they came."""
    chosen = {each.record_id: each for each in store.quarantine.select(integration, wanted, limit=_ALL)}
    for key in {each.park_key for each in chosen.values()} - {""}:
        of_key = Selection(source=wanted.source, state=QuarantineState.OPEN, park_key=key)
        chosen |= {each.record_id: each for each in store.quarantine.select(integration, of_key, limit=_ALL)}
    return sorted(chosen.values(), key=lambda each: each.seq)


def _prepare(run: Run, connections: "Mapping[str, ConnectionSpec]", source: str) -> "SourceStream":
    """Read the lookups that the source needs; other feeds are what earlier runs remember of them."""
    for name in reading_order(run.integration):
        if name == source:
            break
        if run.integration.sources[name].feed:
            run.recall(name)
        else:
            run.read(name, run.binding(name, connections))
    return run.begin(source)


def _by_rule(rules: "Iterable[set[str]]") -> dict[str, int]:
    return dict(sorted(Counter(rule for each in rules for rule in each).items()))
