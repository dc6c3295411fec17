"""Who is to blame for the end of a model's process, judged over all gateways: each knows only its own requests.

In go reports of the gateways: which requests a process took with it, and whether one of them was there alone, as far as
that gateway knows, or was on trial. Reports of one moment are one death. Out goes, to every gateway, whom to suspect,
and whom to count as guilty: one that was alone for all gateways, or the only one that was on trial. Where several were
on trial at different gateways, all but one rest for a while, so that the next death has one to blame.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from brownfield.serving.workers.poison import News, Report

__all__ = ["Deaths"]

_ONE_MOMENT_S = 0.05  # in which all gateways notice the same end; starting another process takes longer

_Version = tuple[str, str]


class Deaths:
    """The ends of processes that are being judged.

    Parameters
    ----------
    tell
        Tells every gateway integration, fingerprint, news and digests.
    """

    def __init__(self, tell: Callable[[tuple[str, str, News, list[bytes]]], None]) -> None:
        self._tell = tell
        self._reports: dict[_Version, list[tuple[int, Report, list[bytes]]]] = {}

    def take(self, gateway: int, name: str, fingerprint: str, report: Report, digests: list[bytes]) -> None:
        """Take in a report of a gateway about requests of one model version."""
        if report == "answered":
            self._tell((name, fingerprint, "answered", digests))
            return
        reports = self._reports.setdefault((name, fingerprint), [])
        if not reports:
            asyncio.get_running_loop().call_later(_ONE_MOMENT_S, self._judge, (name, fingerprint))
        reports.append((gateway, report, digests))

    def _judge(self, version: _Version) -> None:
        reports = self._reports.pop(version)
        lost = {digest for *_, digests in reports for digest in digests}
        guilty = _guilty(reports)
        self._tell((*version, "lost", sorted(lost)))
        if guilty:
            self._tell((*version, "lost alone", guilty))
        others = sorted(_on_trial(reports))[1:]
        if others:
            self._tell((*version, "rest", others))


def _guilty(reports: list[tuple[int, Report, Any]]) -> list[bytes]:
    """Give the one to blame, if there is one.

    Examples
    --------
    >>> _guilty([(0, "alone", [b"a"]), (1, "lost", [b"b", b"c"])])
    []
    >>> _guilty([(0, "on trial", [b"a"]), (1, "lost", [b"b", b"c"])])
    [b'a']
    """
    on_trial = _on_trial(reports)
    if on_trial:
        return list(on_trial) if len(on_trial) == 1 else []
    alone = [digests[0] for _, report, digests in reports if report == "alone"]
    of_one_gateway = len({gateway for gateway, *_ in reports}) == 1
    return alone if len(alone) == 1 and of_one_gateway else []


def _on_trial(reports: list[tuple[int, Report, Any]]) -> set[bytes]:
    return {digests[0] for _, report, digests in reports if report == "on trial"}
