"""Who is let in: principals known by a bearer token, and the check that stands before every route.

An Authorization header and a permission come in; a principal goes out.
Refused: no token, an unknown or expired one, a role that does not grant it, a peer that keeps guessing.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from brownfield.clock import Clock, SystemClock
from brownfield.errors import DeclarationError, Forbidden, Unauthenticated
from brownfield.integration import AccessSpec
from brownfield.security.roles import permitted
from brownfield.security.secret import Secret, resolve_secret

__all__ = ["Principal", "Principals", "authorize", "needs_token", "new_token", "why_refused"]

_SHORTEST_TOKEN = 20
_LONGEST_HEADER = 4096
_MOST_FAILURES = 20
_FAILURES_FORGOTTEN_NS = 60_000_000_000
_MOST_PEERS = 1024


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is let in.

    Parameters
    ----------
    name
        As it stands in the audit log.
    roles
        Words of :data:`brownfield.security.PERMISSIONS`.
    expires_utc
        Aware time from which the token is refused; None when it does not expire.
    priority
        Highest priority of its requests: ``interactive``, ``batch`` or ``shadow``.
    """

    name: str
    roles: frozenset[str]
    expires_utc: datetime | None = None
    priority: str = "interactive"


LOOPBACK = Principal("loopback", frozenset({"caller", "viewer", "operator"}))
"""Whoever asks on this machine, where no token is declared."""


class Principals:
    """Everyone who is let in on one listener; holds keyed hashes of the tokens, never the tokens.

    Parameters
    ----------
    entries
        Each principal with its token.
    anonymous
        Who a request without a token is; None when it is refused.
    clock
        Whose time decides over expiry and guessing.
    """

    def __init__(
        self, entries: Iterable[tuple[Principal, Secret]], *, anonymous: Principal | None, clock: Clock
    ) -> None:
        self._key = secrets.token_bytes(32)
        self._by_digest = {self._digest(token.reveal().encode()): principal for principal, token in entries}
        self._anonymous = anonymous
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._accepted: dict[tuple[str, bytes], None] = {}

    @classmethod
    def from_spec(cls, access: AccessSpec, *, folder: Path, host: str, clock: Clock | None = None) -> Self:
        """Resolve the declared tokens for a listener on `host`.

        Raises
        ------
        DeclarationError
            When a token cannot be read, is shorter than 20 characters, or belongs to two principals; or when the
            listener is open to other machines and no token is declared.
        """
        entries: list[tuple[Principal, Secret]] = []
        for index, spec in enumerate(access.tokens):
            token = resolve_secret(spec.token, folder)
            refused = why_refused(token, [other for _, other in entries])
            if refused is not None:
                refused.where, refused.path = "brownfield.yaml", f"access.tokens[{index}].token"
                raise refused
            entries.append((Principal(spec.name, frozenset({spec.role}), priority=spec.priority), token))
        if not entries and needs_token(host):
            raise DeclarationError(
                where="brownfield.yaml",
                path="access.tokens",
                expected="at least one token for a listener beyond loopback",
                got="none",
                next_step="Declare access.tokens, or listen on 127.0.0.1.",
            )
        return cls(entries, anonymous=None if entries else LOOPBACK, clock=clock or SystemClock())

    def identify(self, authorization: bytes | str | None, *, peer: str | None = None) -> Principal:
        """Return the principal of an Authorization header.

        Parameters
        ----------
        authorization
            The header's value, ``Bearer <token>``.
        peer
            Address of the caller; after 20 failures within a minute it is refused for the rest of that minute, but for
            tokens that were accepted from it before: one stale caller does not lock out all behind one address.

        Raises
        ------
        Unauthenticated
            When there is none, or it is not valid.
        """
        if authorization is None:
            if self._anonymous is not None:
                return self._anonymous
            raise Unauthenticated(
                "no token came with the request", next_step="Send the header `Authorization: Bearer <token>`."
            )
        digest = self._digest(_token(authorization))
        if peer is not None and self._guesses(peer) and (peer, digest) not in self._accepted:
            raise Unauthenticated("too many failed attempts from this address", next_step="Try again in a minute.")
        principal = self._by_digest.get(digest)
        if principal is None or self._expired(principal):
            if peer is not None:
                self._note_failure(peer)
            raise Unauthenticated("the token is not valid", next_step="Ask the workspace's administrator for one.")
        if peer is not None and (peer, digest) not in self._accepted:
            self._accepted[peer, digest] = None
            if len(self._accepted) > _MOST_PEERS:
                del self._accepted[next(iter(self._accepted))]
        return principal

    def _digest(self, token: bytes) -> bytes:
        """Keyed hash: that a lookup takes longer for some tokens tells nothing about the real ones."""
        return hmac.digest(self._key, token, hashlib.sha256)

    def _expired(self, principal: Principal) -> bool:
        return principal.expires_utc is not None and self._clock.now_utc() >= principal.expires_utc

    def _guesses(self, peer: str) -> bool:
        count, since_ns = self._failures.get(peer, (0, 0))
        return count >= _MOST_FAILURES and self._clock.monotonic_ns() - since_ns < _FAILURES_FORGOTTEN_NS

    def _note_failure(self, peer: str) -> None:
        now_ns = self._clock.monotonic_ns()
        count, since_ns = self._failures.pop(peer, (0, now_ns))
        if now_ns - since_ns >= _FAILURES_FORGOTTEN_NS:
            count, since_ns = 0, now_ns
        self._failures[peer] = (count + 1, since_ns)
        if len(self._failures) > _MOST_PEERS:
            self._failures.popitem(last=False)


def authorize(
    principals: Principals, authorization: bytes | str | None, permission: str, *, peer: str | None = None
) -> Principal:
    """Let a request in, or refuse it.

    Raises
    ------
    Unauthenticated
        When nobody is known by that header.
    Forbidden
        When their role does not grant the permission.

    Examples
    --------
    >>> caller = Principal("till", frozenset({"caller"}))
    >>> everyone = Principals([(caller, Secret("bf_0123456789abcdefghij"))], anonymous=None, clock=SystemClock())
    >>> authorize(everyone, "Bearer bf_0123456789abcdefghij", "predict").name
    'till'
    >>> authorize(everyone, "Bearer bf_0123456789abcdefghij", "operate")
    Traceback (most recent call last):
    brownfield.errors.Forbidden: the role of till does not grant operate. Ask the workspace's administrator.
    """
    principal = principals.identify(authorization, peer=peer)
    if not permitted(principal.roles, permission):
        raise Forbidden(
            f"the role of {principal.name} does not grant {permission}",
            next_step="Ask the workspace's administrator.",
        )
    return principal


def needs_token(host: str) -> bool:
    """Say whether a listener on this host can be reached from other machines.

    Examples
    --------
    >>> needs_token("127.0.0.1"), needs_token("::1"), needs_token("localhost"), needs_token("0.0.0.0")
    (False, False, False, True)
    """
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def new_token() -> Secret:
    """Make an opaque random token of 256 bits.

    Examples
    --------
    >>> new_token().reveal().startswith("bf_")
    True
    """
    return Secret("bf_" + secrets.token_urlsafe(32))


def _token(authorization: bytes | str) -> bytes:
    header = authorization.encode() if isinstance(authorization, str) else authorization
    scheme, _, token = header[:_LONGEST_HEADER].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def why_refused(token: Secret, others: list[Secret]) -> DeclarationError | None:
    """Say why a token is not taken beside others; None when it is.

    Examples
    --------
    >>> print(why_refused(Secret("guessable"), []).what)
    the token is shorter than 20 characters
    """
    if len(token.reveal()) < _SHORTEST_TOKEN:
        problem = f"the token is shorter than {_SHORTEST_TOKEN} characters"
    elif not all("!" <= character <= "~" for character in token.reveal()):
        problem = "the token has characters that no header can carry"
    elif token in others:
        problem = "another principal has the same token"
    else:
        return None
    how = "python -c 'import secrets; print(\"bf_\" + secrets.token_urlsafe(32))'"
    return DeclarationError(problem, next_step=f"Make one with `{how}`.")
