"""The format of a declared place: its options and, where it has one, its layout file.

Refused: a layout that cannot be read or makes no sense, as a mistake in the declaration to which the file belongs.
"""

from brownfield.data.formats import Format, open_format
from brownfield.errors import DeclarationError, FormatError
from brownfield.integration import IntegrationSpec, JsonFormat, Location

__all__ = ["form_of"]


def form_of(integration: IntegrationSpec, place: Location) -> Format:
    """Make the format of a place; messages are JSON unless declared otherwise.

    Parameters
    ----------
    integration
        Whose folder holds the layout.
    place
        Where the records lie, or are written.

    Raises
    ------
    DeclarationError
        When there is no such format, or its options or its layout cannot be used.
    """
    if place.format is None:
        return open_format("json", JsonFormat())
    try:
        return open_format(place.format, place.options, _layout(integration, place))
    except FormatError as error:
        raise DeclarationError(
            error.what,
            where=error.where,
            path=error.path,
            expected=error.expected,
            got=error.got,
            next_step=error.next_step,
        ) from error


def _layout(integration: IntegrationSpec, place: Location) -> str | None:
    name = getattr(place.options, "layout", None)
    if name is None:
        return None
    try:
        return integration.file(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(
            path="layout",
            expected=f"a text file {name} in UTF-8",
            got="one in another encoding" if isinstance(error, UnicodeDecodeError) else "none that can be read",
        ) from None
