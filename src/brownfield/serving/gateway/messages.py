"""A request and a response without a transport: what every HTTP front hands to the handler and gets back."""

from collections.abc import Mapping

__all__ = ["Headers", "Response"]

Headers = Mapping[bytes, bytes]
"""Header fields by lower-case name; of repeated ones the last."""


class Response:
    """Status, header fields and body; the front adds the length and connection handling.

    Parameters
    ----------
    status
        HTTP status.
    headers
        Pairs of lower-case name and value.
    body
        The whole body.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
