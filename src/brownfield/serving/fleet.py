"""The gateways of a workspace, seen from the manager: told and asked all together, known by their links."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from brownfield.errors import Unavailable
from brownfield.serving.link import Link
from brownfield.serving.local import listen_locally

__all__ = ["Fleet", "Gateway"]

_log = logging.getLogger(__name__)

_ACKNOWLEDGED_WITHIN_S = 10.0
_PREPARED_WITHIN_S = 300.0  # all tables of a declaration are read again; a gateway that hangs is replaced meanwhile
_FIGURES_WITHIN_S = 2.0


class Gateway:
    """One connected gateway.

    Attributes
    ----------
    index, pid
        Which it is, and its process.
    declaration
        Digest of the declaration that it began with.
    """

    def __init__(self, link: Link, index: int, pid: int, declaration: str) -> None:
        self.link = link
        self.index = index
        self.pid = pid
        self.declaration = declaration


class Fleet:
    """Every gateway that is connected now.

    Parameters
    ----------
    on_here
        Called when a gateway has connected and said which it is.
    on_told
        Called with subject and content of what one tells.
    on_asked
        Awaited with subject and content of what one asks.
    """

    def __init__(
        self,
        *,
        on_here: Callable[[Gateway], None],
        on_told: Callable[[str, Any], None],
        on_asked: Callable[[str, Any], Awaitable[Any]],
    ) -> None:
        self.gateways: list[Gateway] = []
        self._on_here = on_here
        self._on_told = on_told
        self._on_asked = on_asked
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        """Let gateways connect to a Unix socket."""
        self._path = path
        self._server = await asyncio.start_unix_server(self.connected, sock=listen_locally(path))

    async def keep_listening(self) -> None:
        """Listen again where somebody removed the socket: a gateway that is started again would find nobody."""
        if self._path.exists() or not self._path.parents[2].is_dir():
            return  # of a workspace that was moved nothing is made anew at its old place
        self.close()
        await self.listen(self._path)
        _log.warning("the socket of the gateways was removed and is made anew", extra={"event": "BF-SRV-SOCKET-ANEW"})

    def close(self) -> None:
        """Let no more connect; those that are stay."""
        if self._server is not None:
            self._server.close()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the link of one gateway for as long as it lives."""
        here: list[Gateway] = []

        def told(subject: str, content: Any) -> None:
            if subject == "here":
                here.append(Gateway(link, content["gateway"], content["pid"], content["declaration"]))
                self.gateways.append(here[0])
                self._on_here(here[0])
            else:
                self._on_told(subject, content)

        link = Link(reader, writer, on_told=told, on_asked=self._on_asked)
        await link.run()
        self.gateways = [each for each in self.gateways if each not in here]

    def announce(self, subject: str, content: Any) -> None:
        """Say something to every gateway that needs no answer."""
        for each in self.gateways:
            each.link.tell(subject, content)

    async def tell_all(self, subject: str, content: Any = None) -> None:
        """Have every gateway do something, and wait until it is done; one that has gone has nothing to do."""
        await asyncio.gather(*(self.tell(each, subject, content) for each in self.gateways))

    async def tell(self, gateway: Gateway, subject: str, content: Any = None) -> bool:
        """Have one gateway do something; whether it did, and a refusal is logged."""
        try:
            await gateway.link.ask(subject, content, timeout_s=_ACKNOWLEDGED_WITHIN_S)
        except Unavailable as error:
            if gateway in self.gateways:
                extra = {"event": "BF-SRV-GATEWAY-REFUSED", "gateway": gateway.index, "reason": str(error)}
                _log.error("a gateway did not do what it was told", extra=extra)
            return False
        return True

    async def require_all(self, subject: str, content: Any = None) -> None:
        """Have every gateway agree to something that takes as long as there is to read.

        Raises
        ------
        Unavailable
            One refused; one that has gone meanwhile does not count.
        """
        wanted = list(self.gateways)
        answers = await asyncio.gather(
            *(each.link.ask(subject, content, timeout_s=_PREPARED_WITHIN_S) for each in wanted),
            return_exceptions=True,
        )
        for gateway, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException) and gateway in self.gateways:
                raise answer

    async def silent(self, patience_s: float) -> list[Gateway]:
        """Give those that answer nothing at all for so long, also when they are asked a second time."""
        wanted = list(self.gateways)
        answered = await asyncio.gather(*(_answers(each.link, patience_s / 2) for each in wanted))
        return [each for each, did in zip(wanted, answered, strict=True) if not did and each in self.gateways]

    async def gather(self, subject: str) -> dict[Gateway, Any]:
        """Ask every gateway for figures; those that do not give them in time are left out."""
        asked = list(self.gateways)
        answers = await asyncio.gather(
            *(each.link.ask(subject, timeout_s=_FIGURES_WITHIN_S) for each in asked), return_exceptions=True
        )
        return {one: told for one, told in zip(asked, answers, strict=True) if not isinstance(told, BaseException)}


async def _answers(link: Link, within_s: float) -> bool:
    for _ in range(2):
        try:
            await link.ask("ping", timeout_s=within_s)
        except Unavailable:
            continue
        return True
    return False
