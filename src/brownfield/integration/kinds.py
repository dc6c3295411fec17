"""The small types that keys share: names and relative paths, each with its bounds and the words of its errors."""

import re
from typing import Annotated, TypeAlias

from msgspec import Meta

__all__ = ["FieldName", "FieldNames", "Identifier", "Line", "Port", "RelativePath", "Slug", "is_slug", "names"]

_DEVICES = "con|prn|aux|nul|com[0-9]|lpt[0-9]"
_SLUG = rf"^(?!(?:{_DEVICES})$)[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?$"

Slug: TypeAlias = Annotated[
    str,
    Meta(
        pattern=_SLUG,
        extra={"words": "a name of a-z, 0-9 and dashes, up to 63 characters, that is no Windows device"},
    ),
]
"""Name of a workspace, integration or principal: safe in a URL, a folder, a metric and a host name."""

Identifier: TypeAlias = Annotated[
    str,
    Meta(
        pattern=rf"^(?!(?:{_DEVICES})$)[a-z][a-z0-9_]{{0,62}}$",
        extra={"words": "a name of a-z, 0-9 and underscores, up to 63 characters, that begins with a letter"},
    ),
]
"""Name of a connection, a source or a unified table: safe as a file, a column and a metric."""

FieldName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255, extra={"words": "the name of a field"})]
"""Name of a column or field, as the legacy system or the contract spells it."""

FieldNames: TypeAlias = FieldName | Annotated[tuple[FieldName, ...], Meta(min_length=1)]
"""One name, or a list of names where several make the key."""

RelativePath: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(?!/)(?!(?:.*/)?\.\.(?:/|$))[^\\:\x00-\x1f\x7f]{1,1024}$",
        extra={"words": "a path inside the folder, with forward slashes and without .."},
    ),
]
"""A file below the folder of the declaration (or of the connection): never outside it."""

Line: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500, extra={"words": "one line of text"})]
"""A sentence for people."""

Port: TypeAlias = Annotated[int, Meta(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose a free one."""


def is_slug(name: str) -> bool:
    """Tell whether a name may be given to a workspace or an integration.

    Examples
    --------
    >>> [is_slug(name) for name in ("store-recommendations", "Store", "../x", "con", "a" * 64)]
    [True, False, False, False, False]
    """
    return re.fullmatch(_SLUG.removesuffix("$"), name) is not None


def names(declared: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return one name or several as a tuple.

    Examples
    --------
    >>> names("product_id"), names(("store_id", "day"))
    (('product_id',), ('store_id', 'day'))
    """
    return (declared,) if isinstance(declared, str) else declared
