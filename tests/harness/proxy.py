"""A TCP proxy that counts connections and breaks them: refuses, falls silent, cuts an answer or at a statement."""

import socket
import threading
import time
from contextlib import suppress

HERE = "127.0.0.1"


class Proxy:
    """Stands on a port of its own before a server.

    ``cut_after``: bytes of answer after which a connection is cut. ``cut_at``: bytes of a statement at which it is
    cut: before it arrives or, when it ``delivers``, before its answer does. ``refusing`` and ``silent`` do as they say.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.listener = socket.create_server((HERE, 0))
        self.port = self.listener.getsockname()[1]
        self.opened_at: list[float] = []
        self.spans: list[list[float]] = []
        self.cut_after: int | None = None
        self.cut_at = b""
        self.delivers = True
        self.refusing = False
        self.asked = b""
        self.silent = False
        self._swallows = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.silent = False
        self.listener.close()

    def most_open(self) -> int:
        """Most connections at one time."""
        with self._lock:
            spans = [(begin, end) for begin, end in self.spans]
        return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.opened_at.append(time.monotonic())
                if self.refusing:
                    client.close()
                    continue
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        span = [time.monotonic(), float("inf")]
        with self._lock:
            self.spans.append(span)
        with client, socket.create_connection(self.target) as upstream:
            forth = threading.Thread(target=self._pump, args=(client, upstream, False), daemon=True)
            forth.start()
            self._pump(upstream, client, True)
            for end in (client, upstream):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            forth.join()
        span[1] = time.monotonic()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:  # noqa: FBT001 (our own two calls)
        try:
            self._relay(source, sink, answers)
        except OSError:  # reset by the one who was killed: the other end hears of it too
            with suppress(OSError):
                source.shutdown(socket.SHUT_RDWR)
        finally:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _relay(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:  # noqa: FBT001 (our own two calls)
        while data := source.recv(65536):
            while answers and self.silent:
                time.sleep(0.05)
            if not answers:
                self.asked += data
            if not answers and self.cut_at and self.cut_at in data:
                self.cut_at = b""
                if not self.delivers:
                    source.shutdown(socket.SHUT_RDWR)
                    return
                self._swallows = True
            if answers and self._swallows:
                self._swallows = False
                return
            if answers and self.cut_after is not None:
                self.cut_after -= len(data)
                if self.cut_after < 0:
                    self.cut_after = None
                    return
            sink.sendall(data)
