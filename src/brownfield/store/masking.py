"""Values made unreadable but still recognisable in shape, by the contract's classification.

Comes in: a value and the classification of its field. Goes out: the value itself, or its pattern.
"""

from typing import Any

__all__ = ["is_masked", "mask_value"]

_OPEN = frozenset({"", "public", "internal", "none"})
_CHARACTERS = 32


def is_masked(classification: str | None) -> bool:
    """Say whether values of this classification are masked: every word but ``public``, ``internal`` and ``none`` masks.

    Examples
    --------
    >>> is_masked("pii"), is_masked("Public"), is_masked("a word of the site's own")
    (True, False, True)
    """
    return (classification or "").strip().lower() not in _OPEN


def mask_value(value: Any, classification: str | None) -> Any:
    """Return a value as it may be kept: unchanged, or its pattern when its classification masks.

    Parameters
    ----------
    value
        Any plain value; lists are masked item by item, at most 32 items.
    classification
        The word of the contract's field.

    Returns
    -------
    object
        Digits as ``9``, letters as ``x`` and ``X``, at most 32 characters of a text; None stays None.

    Examples
    --------
    >>> mask_value("Ann-Lee 1984", "pii")
    'Xxx-Xxx 9999'
    >>> mask_value(4711, "confidential"), mask_value(None, "pii"), mask_value(4711, "public")
    ('9999', None, 4711)
    """
    return _pattern(value) if is_masked(classification) else value


def _pattern(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_pattern(item) for item in value[:_CHARACTERS]]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    masked = "".join(_masked_character(character) for character in text[:_CHARACTERS])
    return masked if len(text) <= _CHARACTERS else f"{masked}..."


def _masked_character(character: str) -> str:
    if character.isdigit():
        return "9"
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return character if character.isascii() and character.isprintable() else "?"
