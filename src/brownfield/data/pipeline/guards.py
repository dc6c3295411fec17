"""What stops a run before it does harm: a source that changed its shape, shrank, or is refused too often.

Each guard raises before anything is committed. A person who looked may accept it for one run, which is audited.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from brownfield.errors import RejectionCode, RunPaused, SourceChanged, SourceUnavailable

if TYPE_CHECKING:
    from brownfield.integration import IntegrationSpec, SourceSpec
    from brownfield.store import Refused, Store

__all__ = ["Breached", "Guard", "Guards", "Shaped", "known_codes"]

Guard: TypeAlias = Literal["keys", "nulls", "parked", "refused", "shape", "volume"]

_WAITING = {RejectionCode.PARKED, RejectionCode.SHADOWED}
_FIFTH = 20.0
"""Percent that a pull may lose before it takes the place of the last good copy, unless more or less is declared."""


@runtime_checkable
class Shaped(Protocol):
    """A source that knows what its fields look like."""

    def shape(self) -> Mapping[str, str]:
        """Give each field's description, such as ``INTEGER NOT NULL`` or ``packed 5 digits at byte 0``."""
        ...


class Breached(Exception):
    """Too many records of a feed are refused that is declared to go to quarantine as a whole then."""


class Guards:
    """The guards of one source in one run.

    Parameters
    ----------
    where
        ``integration.source``, for messages.
    spec
        The declared source, with its shares.
    accepted
        Guards that a person lets pass in this run.
    known
        Rejection codes with which records of this source were refused before.
    shadow
        Why its records go to quarantine as a whole, so that none of them is judged any more; empty where they do not.
    """

    def __init__(
        self,
        where: str,
        spec: "SourceSpec",
        accepted: Collection[Guard],
        known: Collection[str] = (),
        shadow: str = "",
    ) -> None:
        self.where = where
        self.spec = spec
        self.passed: dict[Guard, str] = {}
        self.shadow = shadow
        self._accepted = accepted
        self._known = known
        self._changed = "no field of it changed its shape"
        self._records = 0
        self._refused = 0
        self._by_code: Counter[str] = Counter()

    def shape(self, was: Mapping[str, str], now: Mapping[str, str], wanted: Collection[str]) -> None:
        """Compare the fields that the contract names with those of the last committed run.

        Raises
        ------
        SourceChanged
            For the first field that is gone or other than it was.
        """
        different = [name for name in dict.fromkeys((*was, *now)) if was.get(name) != now.get(name)]
        if was and different:
            self._changed = "; ".join(
                f"{name}: {was.get(name, 'new')} -> {now.get(name, 'gone')}" for name in different
            )
        for name in wanted:
            if name in was and now.get(name) != was[name]:
                new = [other for other, text in now.items() if other not in was and text == was[name]]
                gone = (
                    f"no such field any more (others of its type: {', '.join(new)})"
                    if new
                    else "no such field any more"
                )
                self._stop(
                    "shape", f"{name}: was {was[name]}, is {now.get(name, gone)}", name, was[name], now.get(name, gone)
                )
                return

    def volume(self, last: int, rows: int) -> None:
        """Hold a pull against the one before.

        Raises
        ------
        RunPaused
            When it has fewer records by more than the declared share.
        """
        share = self.spec.max_drop_percent
        if share is not None and rows < last * (1 - share / 100):
            self._stop("volume", f"{rows:,} records, {last:,} the last time; at most {share:g} % fewer are admitted")

    def copied(self, rows: tuple[int, int], lost: int, null_percent: Mapping[str, tuple[float, float]]) -> None:
        """Hold a whole pull of a lookup against its last good copy, before it takes its place.

        Parameters
        ----------
        rows
            Of the copy, and of the pull.
        lost
            Keys of the copy that the pull lacks.
        null_percent
            How often each field is missing: in the copy, and in the pull.

        Raises
        ------
        RunPaused
            When it lost more rows or keys, or misses more values, than is declared (a fifth unless declared).
        """
        drop, keys, nulls = (
            _FIFTH if share is None else share
            for share in (self.spec.max_drop_percent, self.spec.max_lost_keys_percent, self.spec.max_null_jump_percent)
        )
        before, now = rows
        if now < before * (1 - drop / 100):
            what = f"{now:,} records, {before:,} in the last good copy"
            self._stop("volume", f"{what}; at most {drop:g} % fewer are admitted")
        if lost > before * keys / 100:
            self._stop("keys", f"{lost:,} of {before:,} keys are gone; at most {keys:g} % are admitted")
        for name, (was, is_now) in null_percent.items():
            if is_now - was > nulls:
                what = f"{name} is missing in {is_now:.1f} % of the records, {was:.1f} % in the last good copy"
                self._stop("nulls", f"{what}; at most {nulls:g} points more are admitted", name)

    def refused(self, records: int, refused: "Collection[Refused]") -> None:
        """Take note of a batch, and judge when a window is full; records that only wait are none of the refused.

        Raises
        ------
        RunPaused
            When more of the records are refused than is tolerated.
        SourceUnavailable
            In its place for a lookup with a way out.
        Breached
            In its place for a feed that goes to quarantine then.
        """
        codes = [{each.code for each in entry.violations} - _WAITING for entry in refused]
        bad = sum(map(bool, codes))
        if bad and self.spec.tolerance == "none":
            self._stop("refused", f"{bad:,} records refused, and none is tolerated")
        self._records += records
        self._refused += bad
        self._by_code.update(str(code) for each in codes for code in each)
        if self._records >= self.spec.refused_window_rows:
            self.judge()

    def files(self, refused: int) -> None:
        """Take note of files that are refused as a whole; raises as :meth:`refused`."""
        if refused and self.spec.tolerance == "none":
            self._stop("refused", f"{refused:,} files refused as a whole, and none is tolerated")

    def judge(self) -> None:
        """Judge the records since the last window; raises as :meth:`refused`."""
        if self.shadow:
            return
        share, new = self.spec.max_refused_percent, self.spec.max_new_code_percent
        if share is not None and self._refused * 100 > share * self._records:
            self._breach(f"{self._refused:,} of {self._records:,} records refused; at most {share:g} % are admitted")
        for code, rows in self._by_code.items():
            if new is not None and code not in self._known and rows * 100 > new * self._records:
                self._stop(
                    "refused",
                    f"the source seems to have changed: {code}, never seen before, refuses {rows:,} of "
                    f"{self._records:,} records; {self._changed}",
                )
        self._records = self._refused = 0
        self._by_code.clear()

    def parked(self, beyond: str) -> None:
        """Stop when records wait longer, or are more, than declared; raises :class:`RunPaused`."""
        if beyond:
            self._stop("parked", beyond)

    def _breach(self, what: str) -> None:
        if "refused" not in self._accepted and self.spec.on_breach == "shadow":
            raise Breached(what)
        if "refused" not in self._accepted and self.spec.on_breach == "fallback":
            raise SourceUnavailable(what, where=self.where, next_step="Mend the source; nothing of it was kept.")
        self._stop("refused", what)

    def _stop(self, guard: Guard, what: str, path: str | None = None, was: str = "", now: str = "") -> None:
        if guard in self._accepted:
            self.passed[guard] = what
            return
        if guard == "shape":
            raise SourceChanged(
                where=self.where,
                path=path,
                expected=f"{was}, as in the run before",
                got=now,
                next_step="See what it means now, correct contract and layout, then let it pass: --accept shape.",
            )
        raise RunPaused(
            what,
            where=self.where,
            next_step=f"Nothing was kept. Mend the source, or look and let it pass for one run: --accept {guard}.",
        )


def known_codes(integration: "IntegrationSpec", store: "Store", source: str) -> set[str]:
    """Give the rejection codes that a source was refused with before, where new ones are looked for."""
    looked_for = integration.sources[source].max_new_code_percent is not None
    return store.ledger.codes(integration.name, source) if looked_for else set()
