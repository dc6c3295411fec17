"""A request and a response without a transport: what every HTTP front hands to the handler and gets back."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from brownfield.errors import BrownfieldError

__all__ = ["DoorHandler", "Headers", "Limits", "Opened", "Response"]

Headers = Mapping[bytes, bytes]
"""Header fields by lower-case name; of repeated ones the last, but all of what Cache-Control and Connection list."""


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


class Limits(NamedTuple):
    """What one request may bring at most.

    Parameters
    ----------
    body_bytes
        Longest body.
    rows
        Most records.
    """

    body_bytes: int = 8 * 2**20
    rows: int = 10_000


Opened: TypeAlias = Any
"""A request that was opened: the handler's own, and no business of a door."""


class DoorHandler(Protocol):
    """What a door needs of the handler under it."""

    limits: Limits
    draining: bool
    encrypted: bool

    @property
    def now_ns(self) -> Callable[[], int]:
        """Monotonic nanoseconds, when called."""
        ...

    def open(
        self,
        method: str,
        path: bytes,
        headers: Headers,
        *,
        peer: str | None = None,
        started_ns: int = 0,
        head: object = None,
    ) -> Opened | Response:
        """Admit a request by its header fields, or refuse it."""
        ...

    def answer(self, call: Opened, body: bytes, reply: Callable[[Response], None]) -> None:
        """Answer an admitted request: ``reply`` is told once."""
        ...

    def cancel(self, call: Opened) -> None:
        """Forget a call: its caller has left."""
        ...

    def refuse(self, error: "BrownfieldError", path: bytes = b"") -> Response:
        """Make the refusal of a request that was not opened."""
        ...

    def too_large(self, call: Opened) -> Response:
        """Make the refusal of a body that is too long."""
        ...
