"""What would help where nothing fits: ways out in a fixed order, each with its price and how it is known.

In: rows, limits, times by threads, what the recorded requests show, and the site's price book. Out: an :class:`Advice`.
Pure. Nothing is priced that the book does not price, and what was not measured here says so.
"""

from collections.abc import Iterator, Sequence
from math import ceil, inf

import msgspec

from brownfield.fit.choose import UTILISATION, Choice, Row, Wanted
from brownfield.fit.scaling import MOST_THREADS, Scaling
from brownfield.integration import MachinePrice, Price, PriceBook
from brownfield.statistics import Interval

__all__ = ["Advice", "Facts", "Option", "Turn", "advise"]

MEMORY_HEADROOM = 1.2
"""Memory to plan for, as a multiple of the measured peak of all processes together."""

_INT8 = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "amx_int8"})
_MILLION = 1_000_000


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured beside the table.

    Parameters
    ----------
    scaling
        Of the nearest candidate; None where none ran.
    repeats
        Share of the recorded requests that came before, word for word; None without recorded requests.
    rule
        Accuracy of always giving the most frequent answer, on the rows that judge; None without labels.
    int8
        Whether this processor multiplies int8 fast.
    """

    scaling: Scaling | None = None
    repeats: float | None = None
    rule: Interval | None = None
    int8: bool = True


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One way out.

    Parameters
    ----------
    kind
        ``rule``, ``batch``, ``cache``, ``smaller_model``, ``machine``, ``nodes`` or ``gpu``.
    name
        Tells options of a kind apart.
    meets
        Whether every limit would be kept; None where that cannot be said here.
    known
        ``measured``, ``estimated`` (from measurements, by a stated rule) or ``unknown``.
    what
        In a sentence or two.
    p99_ms, cores, memory_mib
        With it; None where they do not follow.
    capacity_per_s
        Requests a second that one of it carries within the limits.
    monthly
        Price of a month, from the book; None where the book has none.
    lead_time_days, risk
        From the book.
    """

    kind: str
    name: str
    meets: bool | None
    known: str
    what: str
    p99_ms: float | None = None
    cores: int | None = None
    memory_mib: int | None = None
    capacity_per_s: float | None = None
    monthly: float | None = None
    lead_time_days: int | None = None
    risk: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """From which demand on another option is cheaper."""

    option: str
    rate_per_s: float


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Ways out, in the order in which to think of them.

    Parameters
    ----------
    about
        Candidate that the figures are about; empty where none ran.
    options
        From the one that changes least to the one that changes most.
    cheapest
        Name of the cheapest option that keeps every limit; empty where the book prices none.
    then
        What is cheaper at a higher demand, and from where on.
    currency
        Of the prices; empty without a book.
    example
        Whether the prices are an example's.
    scaling
        Times by threads, see :class:`~brownfield.fit.scaling.Scaling`.
    """

    about: str
    options: tuple[Option, ...]
    cheapest: str = ""
    then: Turn | None = None
    currency: str = ""
    example: bool = False
    scaling: Scaling | None = None


def advise(rows: Sequence[Row], wanted: Wanted, choice: Choice, facts: Facts, prices: PriceBook | None) -> Advice:
    """List the ways out of a search in which nothing fits.

    Parameters
    ----------
    rows, wanted, choice
        Of the search.
    facts
        See :class:`Facts`.
    prices
        The site's book; None without one.
    """
    nearest = next((row for row in rows if row.candidate.name == choice.nearest), None)
    needs = _Needs(nearest, wanted, choice, facts)
    options = [_priced(option, price, prices) for option, price in _options(rows, needs, prices) if option is not None]
    working = [each for each in options if each.meets and each.monthly is not None]
    cheapest = min(working, key=lambda each: each.monthly or 0.0, default=None)
    return Advice(
        about=choice.nearest,
        options=tuple(options),
        cheapest=cheapest.name if cheapest else "",
        then=_turn(cheapest, working, wanted) if cheapest else None,
        currency=prices.currency if prices else "",
        example=prices is not None and prices.kind == "example",
        scaling=facts.scaling,
    )


class _Needs:
    """What the nearest candidate would take of some machine to keep the limits."""

    def __init__(self, row: Row | None, wanted: Wanted, choice: Choice, facts: Facts) -> None:
        self.row, self.wanted, self.facts, self.scaling = row, wanted, facts, facts.scaling
        self.short = {each.resource: each for each in choice.shortfalls}
        self.limit_ms = wanted.latency_p99_ms or inf
        self.rate = wanted.expected_rate_per_s or 0.0
        self.memory_mib = self.short["memory_mib"].needed if "memory_mib" in self.short else 0.0
        self.joined = 1.0  # time of a row in the best batch, as a share of its time alone
        if row is not None and row.timing is not None and row.isolated and row.curve_us:
            best = min(taken / int(count) for count, taken in row.curve_us.items())
            self.joined = min(1.0, best / row.timing.mean_us)

    def capacity(self, threads: int, cores: int, speed: float = 1.0) -> float:
        """Give the requests a second of so many cores in processes of so many threads; 0 where each is too slow."""
        if self.scaling is None or self.scaling.at(threads).p99_ms / speed > self.limit_ms:
            return 0.0
        return (cores // threads) * UTILISATION * 1000 * speed / (self.scaling.at(threads).mean_ms * self.joined)

    def best_threads(self, cores: int, speed: float = 1.0) -> int:
        """Threads of one process with which so many cores carry most."""
        return max(range(1, cores + 1), key=lambda threads: self.capacity(threads, cores, speed))

    def carries(self, cores: int, speed: float = 1.0) -> float:
        return self.capacity(self.best_threads(cores, speed), cores, speed)

    def enough(self, cores: int, speed: float = 1.0) -> bool:
        carried = self.carries(cores, speed)
        return carried > 0 and carried >= self.rate

    def memory(self, cores: int, threads: int) -> int:
        """MiB for as many processes as the demand takes."""
        each = self.row.timing.peak_mib if self.row is not None and self.row.timing is not None else self.memory_mib
        one = self.capacity(threads, threads)
        processes = min(max(1, cores // threads), max(1, ceil(self.rate / one))) if one else 1
        return ceil(max(self.memory_mib, each * processes) * MEMORY_HEADROOM)

    @property
    def fewest(self) -> int | None:
        if self.scaling is None:
            return None
        return next((cores for cores in range(1, MOST_THREADS + 1) if self.enough(cores)), None)

    @property
    def factor(self) -> float:
        times = [self.short[name].factor for name in ("latency_p99_ms", "cpu_cores") if name in self.short]
        return max(times, default=1.0)


def _options(
    rows: Sequence[Row], needs: _Needs, prices: PriceBook | None
) -> Iterator[tuple[Option | None, Price | None]]:
    yield _rule(rows, needs), prices.rule if prices else None
    yield _batch(needs), prices.batch if prices else None
    yield _cache(needs), prices.cache if prices else None
    for each in _smaller(rows, needs):
        yield each, prices.smaller_model if prices else None
    yield _cores(needs), None
    for name, machine in prices.machines.items() if prices else ():
        yield _machine(name, machine, needs), machine
    yield _nodes(needs), prices.node if prices else None
    yield _gpu(needs), prices.gpu if prices else None


def _rule(rows: Sequence[Row], needs: _Needs) -> Option:
    model = next((row.accuracy for row in rows if row.candidate.name == "fp32" and row.accuracy), None)
    if needs.facts.rule is None or model is None:
        what = "Not measured: with labels, the most frequent answer is compared with the model here."
        return Option(kind="rule", name="a rule instead of the model", meets=None, known="unknown", what=what)
    value, lower, upper = needs.facts.rule
    what = (
        f"Always the most frequent answer is right in {value:.1%} ({lower:.1%} to {upper:.1%}) of the rows that judge, "
        f"the model in {model.value:.1%}."
    )
    meets = model.value - lower <= needs.wanted.max_drop
    return Option(kind="rule", name="a rule instead of the model", meets=meets, known="measured", what=what)


def _batch(needs: _Needs) -> Option | None:
    if needs.row is None or needs.row.timing is None:
        return None
    hours = needs.row.timing.mean_us * needs.joined * _MILLION / 3.6e9
    what = (
        f"A million rows take {hours:.2g} hours of one core. Where it is known beforehand who will be asked about, "
        "their answers are kept in a table, and no limit is left to miss."
    )
    return Option(kind="batch", name="batches ahead of the requests", meets=None, known="measured", what=what)


def _cache(needs: _Needs) -> Option:
    name, repeats = "a cache of answers", needs.facts.repeats
    if repeats is None:
        what = "Not measured: recorded requests show how many repeat."
        return Option(kind="cache", name=name, meets=None, known="unknown", what=what)
    what = f"{repeats:.1%} of the recorded requests came before; a cache answers those at once."
    if repeats == 0.0:
        return Option(kind="cache", name=name, meets=False, known="measured", what=what)
    short = needs.short
    rate = "cpu_cores" not in short or short["cpu_cores"].needed * (1 - repeats) <= needs.wanted.cpu_cores
    time = "latency_p99_ms" not in short or repeats >= 0.99  # noqa: PLR2004 (the percentile that is promised)
    meets = rate and time and "memory_mib" not in short
    return Option(kind="cache", name=name, meets=meets, known="estimated", what=what)


def _smaller(rows: Sequence[Row], needs: _Needs) -> Iterator[Option]:
    """Candidates that would be fast enough and are wrong; then what a model would have to be like."""
    for row in rows:
        if row.timing is None or row.accuracy is None or not row.candidate.recipe.quantised:
            continue
        p99_ms = row.timing.p99_us[0] / 1000
        if p99_ms <= needs.limit_ms and (row.accuracy.drop.upper > needs.wanted.max_drop):
            value, lower, upper = row.accuracy.drop
            what = (
                f"Fast enough, and its {row.accuracy.metric} falls by {value:.3g} ({lower:.3g} to {upper:.3g}); "
                f"at most {needs.wanted.max_drop:g} is declared."
            )
            name = row.candidate.name
            yield Option(kind="smaller_model", name=name, meets=False, known="measured", what=what, p99_ms=p99_ms)
    if needs.factor > 1:
        what = (
            f"It may do at most {1 / needs.factor:.0%} of the present arithmetic for one answer; how right it is, "
            "labels must tell. Declare it under fit.candidates, and it is measured beside the others."
        )
        yield Option(kind="smaller_model", name="a smaller model", meets=None, known="estimated", what=what)


def _cores(needs: _Needs) -> Option | None:
    """Cores like the present ones, by measured scaling."""
    scaling, name = needs.scaling, "more cores like these"
    if scaling is None:
        if not needs.memory_mib:
            return None
        memory = ceil(needs.memory_mib)
        what = f"fp32 answers within {memory} MiB."
        return Option(kind="machine", name="more memory", meets=True, known="measured", what=what, memory_mib=memory)
    fewest = needs.fewest
    if fewest is None:
        what = (
            f"No number of cores helps: {scaling.serial_share:.0%} of the time does not fall with threads, and "
            f"{needs.limit_ms:g} ms is the limit."
        )
        return Option(kind="machine", name=name, meets=False, known="estimated", what=what)
    threads = needs.best_threads(fewest)
    measured = scaling.measured(threads) and fewest == threads
    tried = ", ".join(str(point.threads) for point in scaling.points)
    what = (
        f"{fewest} cores in processes of {threads} threads; {tried} threads were measured, "
        f"{scaling.serial_share:.0%} of the time does not fall with them."
    )
    return Option(
        kind="machine",
        name=f"{fewest} cores like these",
        meets=True,
        known="measured" if measured else "estimated",
        what=what,
        p99_ms=scaling.at(threads).p99_ms,
        cores=fewest,
        memory_mib=needs.memory(fewest, threads),
        capacity_per_s=needs.carries(fewest),
    )


def _machine(name: str, machine: MachinePrice, needs: _Needs) -> Option:
    threads = needs.best_threads(machine.cores, machine.speed)
    memory = needs.memory(machine.cores, threads)
    enough = needs.enough(machine.cores, machine.speed) and memory <= machine.memory_mib
    p99_ms = needs.scaling.at(threads).p99_ms / machine.speed if needs.scaling else None
    what = f"{machine.cores} cores of {machine.speed:g} times the speed, {machine.memory_mib} MiB."
    if needs.scaling is None:
        enough = 0 < needs.memory_mib * MEMORY_HEADROOM <= machine.memory_mib
        what += " Its speed says nothing here: the model did not run."
    if not needs.facts.int8 and _INT8 & set(machine.instructions):
        what += " Its int8 instructions may admit static int8: measure it there with --pack-probe."
    return Option(
        kind="machine",
        name=name,
        meets=enough,
        known="estimated",
        what=what,
        p99_ms=p99_ms,
        cores=machine.cores,
        memory_mib=machine.memory_mib,
        capacity_per_s=needs.carries(machine.cores, machine.speed) or None,
    )


def _nodes(needs: _Needs) -> Option | None:
    if needs.scaling is None or "memory_mib" in needs.short:
        return None
    each = needs.carries(max(1, int(needs.wanted.cpu_cores)))
    if not each:
        what = "Another node makes no single answer faster."
        return Option(kind="nodes", name="more nodes", meets=False, known="measured", what=what)
    count = max(2, ceil(needs.rate / each))
    what = f"{count} nodes of {needs.wanted.cpu_cores:g} cores, each for {each:.3g} requests a second."
    return Option(
        kind="nodes", name=f"{count} nodes", meets=True, known="estimated", what=what, capacity_per_s=each, cores=count
    )


def _gpu(needs: _Needs) -> Option:
    helps = "No number of these cores keeps the limits." if needs.fewest is None else "Cores alone keep the limits."
    what = f"{helps} An accelerator was not measured."
    return Option(kind="gpu", name="an accelerator", meets=None, known="unknown", what=what)


def _priced(option: Option, price: Price | None, prices: PriceBook | None) -> Option:
    if price is None or prices is None:
        return option
    monthly = prices.monthly(price) * ((option.cores or 2) - 1 if option.kind == "nodes" else 1)
    return msgspec.structs.replace(option, monthly=monthly, lead_time_days=price.lead_time_days, risk=price.risk or "")


def _turn(cheapest: Option, working: Sequence[Option], wanted: Wanted) -> Turn | None:
    """Lowest demand above the expected one at which another option costs less, each bought as often as it takes."""
    if not wanted.expected_rate_per_s or not cheapest.capacity_per_s:
        return None
    others = [each for each in working if each is not cheapest and each.capacity_per_s]
    first = ceil(wanted.expected_rate_per_s / cheapest.capacity_per_s)
    for times in range(max(1, first), max(1, first) + 64):
        rate = cheapest.capacity_per_s * times
        costs = [(_cost(each, rate), each.name) for each in others]
        if costs and min(costs)[0] < _cost(cheapest, rate):
            return Turn(option=min(costs)[1], rate_per_s=rate)
    return None


def _cost(option: Option, rate: float) -> float:
    """Monthly cost just above a demand."""
    monthly, capacity = option.monthly or 0.0, option.capacity_per_s or inf
    units = int(rate / capacity + 1e-9) + 1
    if option.kind == "nodes":
        return monthly / ((option.cores or 2) - 1) * (units - 1)
    return monthly * units
