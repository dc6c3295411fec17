"""What a request is for."""

from enum import IntEnum
from typing import Self

__all__ = ["Priority"]


class Priority(IntEnum):
    """What a request is for; a lower number goes first.

    Attributes
    ----------
    share
        Part of its deadline that a request of this priority may have to wait at most: what is less is shed first. Never
        all: others may overtake, and the machine has other work.
    """

    INTERACTIVE = 0, 0.8
    BATCH = 1, 0.5
    SHADOW = 2, 0.25

    share: float

    def __new__(cls, number: int, share: float) -> Self:
        """Make a member that is its number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.share = share
        return member
