"""What the prober proposes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Proposal"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A format that would read a sample.

    Parameters
    ----------
    format
        Its name in a declaration.
    options
        Its options as they are declared, those that differ from the default and those that were tried; without
        ``layout``.
    score
        From 0 to 1: the share of the sample that it explains, weighed by how well its texts read.
    evidence
        What speaks for it and against it, in sentences without values of the sample.
    """

    format: str
    options: Mapping[str, Any]
    score: float
    evidence: tuple[str, ...]
