"""Asks a model's process without an event loop, one request at a time (probes, measurements, the command line)."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from brownfield.errors import DeadlineExceeded, ModelFailed, WorkerUnavailable
from brownfield.model.process.address import local_address
from brownfield.model.process.frames import REQUEST, Decoder, Frame, FrameError, encode_tensors
from brownfield.model.process.replies import Reply, announced, reply_of
from brownfield.model.process.spawn import parse_hello

__all__ = ["Caller", "call"]

Tensors: TypeAlias = Mapping[str, NDArray[Any]]


class Caller:
    """One connection to a model's process without an event loop, one request at a time (probes, measurements).

    Parameters
    ----------
    socket_path
        Of a :class:`~brownfield.model.process.ModelProcess`.
    timeout_s
        For connecting and the greeting.

    Attributes
    ----------
    hello
        What the process said of itself.

    Raises
    ------
    WorkerUnavailable, DeadlineExceeded
        When there is nobody, or no greeting in time.
    """

    def __init__(self, socket_path: Path, *, timeout_s: float = 30.0) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        try:
            with self._errors(timeout_s):
                self._connection.settimeout(timeout_s)
                with local_address(socket_path) as address:
                    self._connection.connect(address)
                self.hello = parse_hello(self._receive(time.monotonic() + timeout_s))
                self._decoder.max_tensors = len(self.hello.outputs)
        except BaseException:
            self.close()
            raise

    def ask(self, tensors: Tensors, *, timeout_s: float = 30.0) -> Reply:
        """Send one request and wait for its answer; after an error the connection is of no more use.

        Parameters
        ----------
        tensors
            Every input of the graph by name.
        timeout_s
            For the whole answer.

        Raises
        ------
        WorkerUnavailable
            When the process ends before it has answered.
        DeadlineExceeded
            When the time runs out.
        ModelFailed
            When the process answers with an error.
        """
        with self._errors(timeout_s):
            until = time.monotonic() + timeout_s
            arrays = [np.asarray(tensors[tensor.name]) for tensor in self.hello.inputs]
            self._connection.settimeout(timeout_s)
            self._connection.sendall(b"".join(encode_tensors(REQUEST, 1, 0, arrays)))
            return reply_of(self._receive(until), *announced(self.hello))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, until: float) -> Frame:
        while not self._frames:
            left_s = until - time.monotonic()
            if left_s <= 0:  # also where a byte comes now and then
                raise TimeoutError
            self._connection.settimeout(left_s)
            data = self._connection.recv(2**20)
            if not data:
                raise WorkerUnavailable("the model process ended before it answered")
            self._frames.extend(self._decoder.feed(data))
        return self._frames.pop(0)

    @staticmethod
    @contextlib.contextmanager
    def _errors(timeout_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise DeadlineExceeded(f"the model did not answer within {timeout_s:g} s") from error
        except KeyError as error:
            raise ModelFailed("a tensor is missing", path=str(error.args[0])) from error
        except (OSError, FrameError) as error:
            raise WorkerUnavailable("the model process cannot be spoken to", got=type(error).__name__) from error


def call(socket_path: Path, tensors: Tensors, *, timeout_s: float = 30.0) -> Reply:
    """Ask a model's process once, without an event loop (probes, the command line).

    Parameters
    ----------
    socket_path
        Of a :class:`~brownfield.model.process.ModelProcess`.
    tensors
        Every input of the graph by name.
    timeout_s
        For connecting, and again for the answer.

    Raises
    ------
    WorkerUnavailable
        When the process is not there or ends before it has answered.
    DeadlineExceeded
        When the time runs out.
    ModelFailed
        When the process answers with an error.
    """
    with Caller(socket_path, timeout_s=timeout_s) as caller:
        return caller.ask(tensors, timeout_s=timeout_s)
