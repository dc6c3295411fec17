"""Redis streams (redis-py): a consumer group that is there; written once for each message, by a script of the server.

A group hands an entry out once; what a killed run took is asked for again first, and what another consumer left for a
minute is claimed.
"""

import hashlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from brownfield.data.brokers.base import (
    ACCOUNT,
    RECORD_ID,
    BrokerAddress,
    BrokerRefused,
    Incoming,
    Outgoing,
    Unreachable,
    driver,
)

__all__ = ["Redis"]

_BODY = "body"
_ABANDONED_MS = 60_000
_TOGETHER = 500
_REMEMBERED_S = 14 * 86_400
_APPEND_ONCE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local place = 2
for _ = 1, tonumber(ARGV[1]) do
  local fields = {}
  local count = tonumber(ARGV[place])
  for i = place + 1, place + count do fields[#fields + 1] = ARGV[i] end
  place = place + count + 1
  redis.call('XADD', KEYS[1], '*', unpack(fields))
end
redis.call('SET', KEYS[2], '1', 'EX', ARGV[place])
return 1
"""


class Redis:
    """One stream with its consumer group, or one stream that is written.

    Parameters
    ----------
    address
        Where the server is.
    stream
        Key of the stream.
    group
        Consumer group, made by the stream's owner; None to write.
    id_header
        Field that holds the producer's identifier; the entry's own identifier unless given.
    """

    def __init__(
        self, address: BrokerAddress, stream: str, group: str | None = None, id_header: str | None = None
    ) -> None:
        self._redis = driver("redis")
        self._address = address
        self._stream = stream
        self._group = group
        self._id_header = id_header
        self._consumer = f"brownfield-{socket.gethostname()}"
        self._client: Any = None
        self._own: bytes | None = b"0"
        self._others: bytes | None = b"0-0"

    def depth(self) -> int | None:
        """Give the entries that the group has not been told are safe, as far as the server knows (:class:`Broker`)."""
        with self._errors():
            client = self._opened()
            if self._group is None:
                return int(client.xlen(self._stream))
            for group in client.xinfo_groups(self._stream):
                if group["name"] == self._group.encode():
                    lag = group.get("lag")
                    return None if lag is None else int(lag) + int(group["pending"])
        raise self._no_group()

    def receive(self, limit: int, wait_s: float) -> Sequence[Incoming]:
        """Take entries: first those of an earlier run, then what others abandoned, then new ones (:class:`Broker`)."""
        taken: list[Incoming] = []
        with self._errors():
            client = self._opened()
            while len(taken) < limit:
                wanted = limit - len(taken)
                if self._own is not None:
                    found = self._read(client, self._own, wanted, None)
                    self._own = found[-1][0] if found else None
                elif self._others is not None:
                    following, found, *_ = client.xautoclaim(
                        self._stream, self._group, self._consumer, _ABANDONED_MS, self._others, wanted
                    )
                    self._others = None if following == b"0-0" else following
                else:
                    found = self._read(client, b">", wanted, max(1, int(wait_s * 1000)))
                    if not found:
                        break
                taken += [self._incoming(name, fields) for name, fields in found]
        return taken

    def confirm(self, tags: Sequence[Any]) -> None:
        """Tell the group that entries are safe (:class:`Broker`)."""
        with self._errors():
            for start in range(0, len(tags), _TOGETHER):
                self._opened().xack(self._stream, self._group, *tags[start : start + _TOGETHER])

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Append messages, each few hundred in one step with the mark that they are there (:class:`Broker`)."""
        with self._errors():
            client = self._opened()
            append = client.register_script(_APPEND_ONCE)
            for start in range(0, len(messages), _TOGETHER):
                some = messages[start : start + _TOGETHER]
                arguments: list[Any] = [len(some)]
                for each in some:
                    fields = {_BODY: each.body, RECORD_ID: each.identifier, **each.headers}
                    flat = [part for pair in fields.items() for part in pair]
                    arguments += [len(flat), *flat]
                named = hashlib.sha256("\n".join(each.identifier for each in some).encode()).hexdigest()
                append([self._stream, f"bf-sent:{{{self._stream}}}:{named}"], [*arguments, _REMEMBERED_S])

    def close(self) -> None:
        """Let go of the connection; what was not acknowledged stays ours in the group (:class:`Broker`)."""
        client, self._client = self._client, None
        self._own, self._others = b"0", b"0-0"
        if client is not None:
            with suppress(Exception):  # it is given up either way
                client.close()
                client.connection_pool.disconnect()

    def _read(self, client: Any, after: bytes, count: int, block_ms: int | None) -> list[tuple[bytes, Any]]:
        found = client.xreadgroup(self._group, self._consumer, {self._stream: after}, count, block_ms)
        return list(found[0][1]) if found else []

    def _incoming(self, name: bytes, fields: Any) -> Incoming:
        """Read an entry; the stream's owner may have cut it off the stream while it waited."""
        fields = fields or {}
        identifier = fields.get(self._id_header.encode()) if self._id_header else name
        return Incoming(
            None if identifier is None else identifier.decode("utf-8", "replace"), fields.get(_BODY.encode()), name
        )

    def _opened(self) -> Any:
        if self._client is None:
            address = self._address

            class Connection(self._redis.Connection):  # type: ignore[name-defined,misc]  # loaded when needed
                def _connect(self) -> Any:
                    opened = address.open_socket()
                    opened.settimeout(self.socket_timeout)
                    return opened

            pool = self._redis.ConnectionPool(
                Connection, max_connections=1, host=address.host, port=address.port, db=int(address.space or 0),
                username=address.user or None, password=address.password or None, socket_timeout=70, protocol=2,
            )  # fmt: skip
            self._client = self._redis.Redis(connection_pool=pool)
        return self._client

    def _no_group(self) -> BrokerRefused:
        return BrokerRefused(
            f"a stream {self._stream} with a consumer group {self._group}",
            "none of this name",
            f"Its owner runs: XGROUP CREATE {self._stream} {self._group} 0 MKSTREAM.",
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        wrong = self._redis.exceptions
        try:
            yield
        except wrong.AuthenticationError as error:
            self.close()
            raise BrokerRefused("an account that the server admits", "one that it does not", ACCOUNT) from error
        except wrong.NoPermissionError as error:
            raise BrokerRefused("leave to use the stream", "none") from error
        except (wrong.ConnectionError, wrong.TimeoutError, OSError) as error:
            self.close()
            raise self._address.failed(error) from error
        except wrong.ResponseError as error:
            if str(error).startswith("NOGROUP") or "no such key" in str(error):
                raise self._no_group() from error
            self.close()
            raise Unreachable("it refused the command") from error
