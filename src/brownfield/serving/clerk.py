"""The process for what takes a database or a reader of graphs: started when there is something to do, ended after it.

So the processes that stay hold neither SQLAlchemy nor onnx, and a graph that breaks its reader breaks nothing else.
An errand goes in as a line of JSON; out comes that it was taken, and an answer or a refusal as another line. It ends
when its stdin does.
"""

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import msgspec

from brownfield import errors
from brownfield.errors import BrownfieldError, BundleRefused, StoreError, WorkerUnavailable
from brownfield.host import give_way, readable_within
from brownfield.logs import configure_logs

__all__ = ["Answering", "Clerk"]

_GONE_WITHIN_S = 5.0  # for it to end when it is told that there is no more to do
_WITHIN_S = 300.0  # for the longest migration of a store, or the largest graph
_TAKEN = b" "  # said before an errand is begun; white space to the reader of its answer


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What answers for an integration from now on, as it is entered in the store.

    Parameters
    ----------
    integration
        Its name.
    declaration, contract
        Digest of the one, reference of the other.
    digest, name, version
        Of its bundle; empty where none answers.
    probe
        What the bundle's probe found; None where it was not probed.
    """

    integration: str
    declaration: str
    contract: str
    digest: str = ""
    name: str = ""
    version: str = ""
    probe: Mapping[str, float | None] | None = None


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the audit log."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


class _Check(msgspec.Struct, frozen=True, tag="check"):
    folder: str


class _Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    store: str
    integration: str


class _Append(msgspec.Struct, frozen=True, tag="append"):
    store: str
    entry: _Entry


class _Serve(msgspec.Struct, frozen=True, tag="serve"):
    store: str
    actor: str
    action: str
    answering: tuple[Answering, ...]


_Errand: TypeAlias = _Check | _Admitted | _Append | _Serve


class _Done(msgspec.Struct, frozen=True):
    """What came of an errand: an answer, or the name and attributes of an error."""

    answer: Any = None
    error: str = ""
    attributes: Mapping[str, Any] = {}


class Clerk:
    """Has errands done by a process that is there while there are any; from any thread, one at a time.

    Parameters
    ----------
    store
        The workspace's database.

    Examples
    --------
    >>> with Clerk(Path("var/brownfield.db")) as clerk:
    ...     clerk.pid
    0
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._used_s = 0.0

    @property
    def pid(self) -> int:
        """Its process identifier; 0 while there is none."""
        process = self._process
        return process.pid if process is not None else 0

    def check(self, folder: Path) -> str:
        """Verify a bundle, all of it, and give its digest; raises what :func:`~brownfield.model.open_bundle` does."""
        return str(self._have_done(_Check(str(folder))))

    def admitted(self, integration: str) -> list[str]:
        """Give the digests of the bundles that answered for an integration, oldest first; raises StoreError."""
        if not self._store.is_file():
            return []
        answer: list[str] = self._have_done(_Admitted(str(self._store), integration))
        return answer

    def append(self, *, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Append to the audit log; raises StoreError."""
        entry = _Entry(actor=actor, action=action, subject=subject, detail=detail)
        self._have_done(_Append(str(self._store), entry))

    def enter(self, actor: str, action: str, answering: tuple[Answering, ...]) -> None:
        """Enter what answers from now on: an audit entry for each, an admission where it is new; raises StoreError."""
        self._have_done(_Serve(str(self._store), actor, action, answering))

    def rest(self, idle_s: float = 0.0) -> None:
        """End the process if it has had nothing to do for so long; the next errand starts another."""
        with self._lock:
            if time.monotonic() - self._used_s >= idle_s:
                self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def _have_done(self, errand: _Errand) -> Any:
        line = msgspec.json.encode(errand) + b"\n"
        with self._lock:
            try:
                answer = self._asked(line) or self._asked(line)  # somebody killed it while it had nothing to do
                done = msgspec.json.decode(answer, type=_Done)
                self._used_s = time.monotonic()
            except (OSError, EOFError, msgspec.DecodeError) as error:
                if self._process is not None:
                    self._process.kill()
                self._end()
                raise _failed(errand, "the process that does it ended, or took too long") from error
        if done.error:
            raise _refusal(done)
        return done.answer

    def _asked(self, line: bytes) -> bytes:
        """Give its answer; nothing if it ended before it took the errand, and then a second asking does no harm."""
        process = self._process or self._start()
        if process.stdin is None or process.stdout is None:  # pragma: no cover (they are pipes)
            raise AssertionError
        answer = b""
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = _line(process.stdout.fileno())
        except BrokenPipeError:
            pass
        if not answer:
            self._end()
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # else its niceness would count among us alone; see give_way
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(_GONE_WITHIN_S)
        except subprocess.TimeoutExpired:  # it hangs, or somebody stopped it: the next errand has another
            process.kill()
            process.wait()


def _line(source: int) -> bytes:
    """Read what is said to an errand: that it was taken, and its answer; nothing where the first is not said."""
    said = b""
    while not said.endswith(b"\n"):
        if not readable_within(source, _WITHIN_S):
            raise TimeoutError
        more = os.read(source, 1 << 16)
        if said and not more:
            raise EOFError
        if not more:
            break
        said += more
    return said


def _failed(errand: _Errand, why: str) -> BrownfieldError:
    if isinstance(errand, _Check):
        return WorkerUnavailable(f"the bundle could not be read: {why}", where=errand.folder)
    return StoreError(why, where=errand.store)


def _refusal(done: _Done) -> BrownfieldError:
    """Make the error that the process met."""
    error: BrownfieldError = getattr(errors, done.error)(**done.attributes)
    return error


# --- the process itself ---


def _check(errand: _Check) -> str:
    from brownfield.model import open_bundle

    return open_bundle(Path(errand.folder)).digest


def _admitted(errand: _Admitted) -> list[str]:
    from brownfield.store import open_store

    with open_store(Path(errand.store)) as store:
        return [each.digest for each in store.registry.admissions(errand.integration)]


def _append(errand: _Append) -> None:
    _let_requests_go_first()
    from brownfield.store import open_store

    with open_store(Path(errand.store)) as store:
        store.audit.append(**msgspec.structs.asdict(errand.entry))


def _serve(errand: _Serve) -> None:
    _let_requests_go_first()
    from brownfield.store import open_store

    with open_store(Path(errand.store)) as store:
        for one in errand.answering:
            admissions = store.registry.admissions(one.integration)
            if one.probe is not None and (not admissions or admissions[-1].digest != one.digest):
                store.registry.admit(
                    integration=one.integration, name=one.name, version=one.version, digest=one.digest, probe=one.probe
                )
            store.audit.append(
                actor=errand.actor,
                action=errand.action,
                subject=one.integration,
                detail={"declaration": one.declaration, "contract": one.contract, "bundle": one.digest},
            )


@functools.cache
def _let_requests_go_first() -> None:
    """Give way, once: what is entered here is served already, and opening a store takes a second of one core."""
    give_way()


_DO: dict[type, Callable[[Any], Any]] = {_Check: _check, _Admitted: _admitted, _Append: _append, _Serve: _serve}


def _do(line: bytes) -> _Done:
    errand = msgspec.json.decode(line, type=_Errand)
    try:
        return _Done(answer=_DO[type(errand)](errand))
    except OSError as error:
        refusal = _failed(errand, type(error).__name__)
    except BrownfieldError as error:
        refusal = error
    kind = next(each for each in type(refusal).__mro__ if each.__module__ == errors.__name__)
    names = ["what", "where", "path", "expected", "got", "next_step"]
    if isinstance(refusal, BundleRefused):
        names.append("rule")
    return _Done(error=kind.__name__, attributes={name: getattr(refusal, name) for name in names})


def main() -> None:
    """Do errands until nobody has any more."""
    configure_logs()
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anything prints is no answer
    with contextlib.suppress(BrokenPipeError):  # who asked was killed meanwhile
        for line in sys.stdin.buffer:
            os.write(out, _TAKEN)
            os.write(out, msgspec.json.encode(_do(line)) + b"\n")


if __name__ == "__main__":
    main()
