"""Ports for servers that must be told one."""

import random
import socket
from pathlib import Path

__all__ = ["free_port"]


def free_port() -> int:
    """Find a port that nobody listens on, of those that the kernel gives to no connection and to no port 0.

    One of the kernel's own would be given out again in the moment in which it is let go.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = range(10_000, first) or range(last + 1, 65_536) or range(10_000, 65_536)  # some brokers add to theirs
    while True:
        with socket.socket() as probe:
            port = random.SystemRandom().choice(ports)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
