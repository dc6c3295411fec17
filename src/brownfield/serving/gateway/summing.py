"""Figures of several gateways as if one had answered all: Prometheus texts and statistics added up."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["merged_exposition", "merged_statistics"]

_LEAST = frozenset({"brownfield_model_ready", "brownfield_ready"})  # ready is what every gateway finds ready


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
            key = (model["name"], model["version"])
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
