"""How long a sleeping CPU takes to wake: bounded while there is work. The standard library alone is used here.

Comes in: the longest wake that is wanted. Goes out: a request to the kernel (PM QoS) that ends with its process.
Refused is what the host does not let this user do.
"""

import os
import sys
from pathlib import Path

__all__ = ["DEVICE", "WakeBound"]

DEVICE = Path("/dev/cpu_dma_latency")
"""Where Linux takes such requests; root's alone unless the host's owner gives it to a group."""

_ANY_US = 2_000_000_000  # as the kernel spells that nothing is asked for


class WakeBound:
    """A bound on how long idle CPUs may take to wake, for all of the host.

    A virtual CPU that sleeps is given back to the host below, and to wake it takes tens of microseconds, also of the
    CPU time of whoever wakes it. With 0 an idle CPU looks for work instead of sleeping: power for time.

    Parameters
    ----------
    longest_us
        Longest wake in microseconds, ``>= 0``.
    device
        Where to ask.

    Attributes
    ----------
    holds
        Whether the bound is asked for now.

    Raises
    ------
    OSError
        When there is no such device, or this user may not write to it.

    References
    ----------
    The Linux kernel documentation, "PM Quality Of Service Interface".

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as device:
    ...     bound = WakeBound(0, Path(device.name))
    ...     bound.hold()
    ...     bound.holds
    True
    """

    def __init__(self, longest_us: int, device: Path = DEVICE) -> None:
        self._longest_us = longest_us
        self._file = os.open(device, os.O_WRONLY)
        self.holds = False

    def hold(self) -> None:
        """Ask for the bound, unless it is asked for already."""
        if not self.holds:
            self._ask(self._longest_us)
            self.holds = True

    def release(self) -> None:
        """Ask for nothing until the next :meth:`hold`."""
        if self.holds:
            self._ask(_ANY_US)
            self.holds = False

    def close(self) -> None:
        """Ask for nothing any more."""
        os.close(self._file)

    def _ask(self, longest_us: int) -> None:
        os.pwrite(self._file, longest_us.to_bytes(4, sys.byteorder), 0)
