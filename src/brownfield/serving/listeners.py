"""The ports of a workspace, held for as long as it is served: callers wait on them while a gateway is started again."""

import contextlib
import socket

from brownfield.errors import DeclarationError
from brownfield.serving.gateway.last_calls import begin_connections_again

__all__ = ["Listeners"]

_BACKLOG = 2048


class Listeners(contextlib.AbstractContextManager["Listeners"]):
    """The port of the door, and the one for health alone where it is declared; closed at the end of its context.

    Parameters
    ----------
    host, port
        Where to listen; port 0 is a free one.
    health_port
        The second port, if there is to be one.

    Attributes
    ----------
    door, health
        The sockets that listen.
    address
        Of the door: address and port.

    Raises
    ------
    DeclarationError
        One of them is taken, or it is no address of this host.
    """

    def __init__(self, host: str, port: int, health_port: int | None) -> None:
        self.door = _bind(host, port)
        self.address: tuple[str, int] = self.door.getsockname()[:2]
        try:
            self.health = None if health_port is None else _bind(host, health_port)
        except DeclarationError:
            self.door.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold them no longer: they end with the last process that does."""
        for each in self._all():
            each.close()

    def begin_again(self) -> None:
        """Let connections begin: a gateway that somebody else told to end has closed the port to all."""
        for each in self._all():
            begin_connections_again(each)

    def _all(self) -> list[socket.socket]:
        return [each for each in (self.door, self.health) if each is not None]


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, TypeError) as error:  # the second of what can be no name of a host
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise DeclarationError(
            where="brownfield.yaml",
            path="serving",
            expected="a free address and port",
            got=f"{ascii(host)[1:-1]}:{port} ({reason})",
            next_step="Name another port with --port, or end what listens there.",
        ) from error
    listener.setblocking(False)
    return listener
