"""Figures of several gateways as if one had answered all: Prometheus texts and statistics added up."""

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Figures", "counters", "merged_exposition", "merged_statistics", "states"]

_LEAST = frozenset({"brownfield_model_ready", "brownfield_ready"})  # ready is what every gateway finds ready
_COUNTERS = frozenset({"counter", "histogram"})
_OF = re.compile(r'[{,](?:integration|model|model_name)="([^"]*)"')


class Figures:
    """What gateways told last: those that have gone, or keep silent just now, go on counting with it.

    A sum that falls by a gateway's share is a counter that began anew to whoever computes rates: all that the others
    ever counted would be an increase.
    """

    def __init__(self) -> None:
        self._texts: dict[Hashable, str] = {}
        self._gone = ""
        self._statistics: dict[Hashable, Sequence[Mapping[str, Any]]] = {}
        self._gone_statistics: list[dict[str, Any]] = []

    def exposition(self, told: Mapping[Any, str], here: Collection[Hashable], further: Iterable[str] = ()) -> str:
        """Add up expositions.

        Parameters
        ----------
        told
            What gateways tell now.
        here
            The gateways that there are.
        further
            Lines of what is no gateway's.
        """
        for one in [each for each in self._texts if each not in here]:
            self._gone = merged_exposition([self._gone, counters(self._texts.pop(one))])
        silent = [counters(text) for one, text in self._texts.items() if one not in told]
        self._texts |= told
        texts = [*told.values(), *silent]
        if told:  # what is served no more is not told of any more
            served = {name for text in texts for name in _OF.findall(text)}
            self._gone = "".join(
                line + "\n" for line in self._gone.splitlines() if served.issuperset(_OF.findall(line.split("} ")[0]))
            )
        return merged_exposition([*texts, self._gone, "\n".join(further)])

    def statistics(
        self, told: Mapping[Any, Sequence[Mapping[str, Any]]], here: Collection[Hashable]
    ) -> list[dict[str, Any]]:
        """Add up statistics of models, likewise; of versions that are served."""
        for one in [each for each in self._statistics if each not in here]:
            self._gone_statistics = merged_statistics([self._gone_statistics, self._statistics.pop(one)])
        silent = [each for one, part in self._statistics.items() if one not in told for each in part]
        self._statistics |= told
        if told:
            served = {_model(each) for part in told.values() for each in part}
            self._gone_statistics = [each for each in self._gone_statistics if _model(each) in served]
            silent = [each for each in silent if _model(each) in served]
        return merged_statistics([*told.values(), silent, self._gone_statistics])


def counters(text: str) -> str:
    """Give what only grows of an exposition."""
    return _of_kinds(text, counting=True)


def states(text: str) -> str:
    """Give all but what only grows of an exposition."""
    return _of_kinds(text, counting=False)


def _of_kinds(text: str, *, counting: bool) -> str:
    kept, head, keeps = [], "", False
    for line in text.splitlines():
        if line.startswith("# HELP "):
            head = line
            continue
        if line.startswith("# TYPE "):
            keeps = (line.rpartition(" ")[2] in _COUNTERS) == counting
            if keeps:
                kept.append(head)
        if keeps:
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def _model(statistics: Mapping[str, Any]) -> tuple[str, str]:
    return statistics["name"], statistics["version"]


def merged_exposition(texts: Sequence[str]) -> str:
    r"""Add up expositions that were made by the same release; states are those of the gateway that is worst off.

    Parameters
    ----------
    texts
        In Prometheus' text format 0.0.4.

    Examples
    --------
    >>> one = "# HELP a Things.\n# TYPE a counter\na{b=\"c d\"} 1\n"
    >>> print(merged_exposition([one, one]), end="")
    # HELP a Things.
    # TYPE a counter
    a{b="c d"} 2
    """
    families: dict[str, list[str]] = {}
    values: dict[str, dict[str, float]] = {}
    for text in texts:
        name = ""
        for line in text.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                heads = families.setdefault(name, [])
                values.setdefault(name, {})
                if line not in heads:
                    heads.append(line)
                continue
            series, _, number = line.rpartition(" ")
            known = values[name]
            value = float(number) if not number.isdigit() else int(number)
            if series not in known:
                known[series] = value
            elif name in _LEAST:
                known[series] = min(known[series], value)
            else:
                known[series] += value
    lines: list[str] = []
    for name, heads in families.items():
        lines += heads
        lines += [f"{series} {value!r}" for series, value in values[name].items()]
    return "\n".join(lines) + "\n" if lines else ""


def merged_statistics(parts: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Add up the statistics of models, by name and version; of ``last_inference`` the latest is taken.

    Examples
    --------
    >>> one = {"name": "m", "version": "1", "last_inference": 7, "inference_stats": {"success": {"count": 2, "ns": 9}}}
    >>> merged_statistics([[one], [one | {"last_inference": 8}]])[0]["inference_stats"]["success"]["count"]
    4
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for part in parts:
        for model in part:
            key = _model(model)
            found[key] = _added(found[key], model) if key in found else dict(model)
    return list(found.values())


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name, value in one.items():
        also = other[name]
        if isinstance(value, Mapping):
            total[name] = _added(value, also)
        elif name == "last_inference":
            total[name] = max(value, also)
        else:
            total[name] = value + also if isinstance(value, int) else value
    return total
