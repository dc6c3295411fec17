"""Where the time of one request went, and how long requests take over time.

In go clock readings; out come the parts of a :class:`Split`, which always sum to its whole, and the buckets of a
:class:`Histogram`. Nothing here logs, allocates per bucket or reads a clock of its own.
"""

from bisect import bisect_left
from enum import IntEnum
from typing import Final

__all__ = ["BOUNDS_S", "STAGE_NAMES", "Histogram", "Split", "Stage"]


class Stage(IntEnum):
    """The stages of a request, in the order in which they happen."""

    NETWORK_IN = 0
    VALIDATE = 1
    ADMISSION = 2
    FEATURES = 3
    QUEUE = 4
    INFER = 5
    OUTPUT_CHECK = 6
    FALLBACK = 7
    SERIALIZE = 8


STAGE_NAMES: tuple[str, ...] = tuple(stage.name.lower() for stage in Stage)
"""Names of the stages as they stand in ``Server-Timing``, in the journal and in the metrics."""

BOUNDS_S: tuple[float, ...] = (
    *(round(step * 10.0**power, 6) for power in range(-5, 1) for step in (1.0, 2.0, 5.0)),
    10.0,
)
"""Upper bounds of the latency buckets in seconds: 1, 2, 5 per decade from 10 microseconds to 10 seconds."""

_KNOWN_US: Final = 5000  # most times are shorter, and their texts are made once
_KNOWN: Final = tuple(b"%d.%03d" % divmod(time_us, 1000) for time_us in range(_KNOWN_US))
_LABELS: Final = tuple(name.encode() + b";dur=%b" for name in STAGE_NAMES)
_TOTAL: Final = b"total;dur=%b"
_BY_THE_MODEL: Final = b", ".join([*(label for label in _LABELS if not label.startswith(b"fallback")), _TOTAL])
_FEATURES: Final = int(Stage.FEATURES)
_QUEUE: Final = int(Stage.QUEUE)
_INFER: Final = int(Stage.INFER)
_OUTPUT_CHECK: Final = int(Stage.OUTPUT_CHECK)
_FALLBACK: Final = int(Stage.FALLBACK)
_ADMISSION: Final = int(Stage.ADMISSION)
_BY_ADMISSION: Final = b"admission;dur=%b, total;dur=%b"
_KNOWN_NS: Final = (_KNOWN_US - 1) * 1000
_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS_S)


def _text(time_us: int) -> bytes:
    return _KNOWN[time_us] if time_us < _KNOWN_US else b"%d.%03d" % divmod(time_us, 1000)


class Split:
    """The latency split of one request: each :meth:`mark` gives the time since the last one to a stage.

    Parameters
    ----------
    started_ns
        Monotonic time in nanoseconds at which the first byte of the request was known to us.

    Examples
    --------
    >>> split = Split(1_000_000)
    >>> split.mark(Stage.VALIDATE, 1_500_000)
    >>> split.mark_model(2_500_000, infer_ns=400_000)
    >>> split.header()
    b'validate;dur=0.500, queue;dur=0.600, infer;dur=0.400, total;dur=1.500'
    """

    __slots__ = ("last_ns", "parts_ns", "started_ns")

    def __init__(self, started_ns: int) -> None:
        self.started_ns = started_ns
        self.last_ns = started_ns
        self.parts_ns = [0] * len(STAGE_NAMES)

    def mark(self, stage: int, now_ns: int) -> None:
        """Give the time since the last mark to ``stage``, one of :class:`Stage` or its number."""
        self.parts_ns[stage] += now_ns - self.last_ns
        self.last_ns = now_ns

    def mark_model(self, now_ns: int, infer_ns: int) -> None:
        """Part the time since the last mark into the model's own time and the wait for it."""
        waited_ns = now_ns - self.last_ns
        infer_ns = min(infer_ns, waited_ns)
        self.parts_ns[Stage.QUEUE] += waited_ns - infer_ns
        self.parts_ns[Stage.INFER] += infer_ns
        self.last_ns = now_ns

    def mark_call(self, sent_ns: int, encoded_ns: int, answered_ns: int, infer_ns: int, checked_ns: int) -> None:
        """Give the time since the last mark to queue, features, queue, infer and output check, by when each ended."""
        parts_ns, waited_ns = self.parts_ns, answered_ns - encoded_ns
        infer_ns = min(infer_ns, waited_ns)
        parts_ns[_FEATURES] += encoded_ns - sent_ns
        parts_ns[_QUEUE] += sent_ns - self.last_ns + waited_ns - infer_ns
        parts_ns[_INFER] += infer_ns
        parts_ns[_OUTPUT_CHECK] += checked_ns - answered_ns
        self.last_ns = checked_ns

    @property
    def total_ns(self) -> int:
        """Nanoseconds from the start to the last mark: exactly the sum of the parts."""
        return self.last_ns - self.started_ns

    def header(self) -> bytes:
        """Value of ``Server-Timing``: milliseconds by stage, and ``total``, the sum of the parts shown."""
        parts_ns = self.parts_ns
        if self.last_ns - self.started_ns == parts_ns[_ADMISSION] < _KNOWN_NS:  # of what is refused unread
            time = _KNOWN[(parts_ns[_ADMISSION] + 500) // 1000]
            return _BY_ADMISSION % (time, time)
        if parts_ns[_FALLBACK] or parts_ns.count(0) > 1:
            return self._header_of_some()
        # As nearly all are. One by one, because this is as long as any step of a request.
        network_in, validate, admission, features, queue, infer, output_check, _, serialize = parts_ns
        network_in, validate = (network_in + 500) // 1000, (validate + 500) // 1000
        admission, features = (admission + 500) // 1000, (features + 500) // 1000
        queue, infer = (queue + 500) // 1000, (infer + 500) // 1000
        output_check, serialize = (output_check + 500) // 1000, (serialize + 500) // 1000
        total = network_in + validate + admission + features + queue + infer + output_check + serialize
        if total >= _KNOWN_US:
            return self._header_of_some()
        known = _KNOWN
        return _BY_THE_MODEL % (
            known[network_in], known[validate], known[admission], known[features], known[queue], known[infer],
            known[output_check], known[serialize], known[total],
        )  # fmt: skip

    def _header_of_some(self) -> bytes:
        shown, total_us = [], 0
        for label, part_ns in zip(_LABELS, self.parts_ns, strict=True):
            if part_ns:
                part_us = (part_ns + 500) // 1000
                total_us += part_us
                shown.append(label % _text(part_us))
        shown.append(_TOTAL % _text(total_us))
        return b", ".join(shown)

    def in_us(self) -> list[tuple[str, int]]:
        """Stage names and their microseconds, stages without time left out: what the journal keeps."""
        return [
            (name, (part_ns + 500) // 1000) for name, part_ns in zip(STAGE_NAMES, self.parts_ns, strict=True) if part_ns
        ]


class Histogram:
    """Counts of durations in logarithmic buckets (see :data:`BOUNDS_S`), and their sum.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.observe(15_000)
    >>> histogram.observe(30_000_000_000)
    >>> histogram.count, histogram.counts[1], histogram.counts[-1]
    (2, 1, 1)
    """

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_NS) + 1)
        self.sum_ns = 0

    def observe(self, duration_ns: int) -> None:
        """Count one duration in nanoseconds."""
        self.counts[bisect_left(_BOUNDS_NS, duration_ns)] += 1
        self.sum_ns += duration_ns

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)
