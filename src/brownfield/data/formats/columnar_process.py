"""Columnar files of foreign origin, read in a process of their own that is confined and may be lost.

In: a stream and the wanted columns. Out: Arrow batches, validated in the child before they are sent and again here.
Whatever the file does to the child (crash, endless work, memory) is a :class:`FormatError` here, and nothing else.
"""

import base64
import contextlib
import importlib
import io
import json
import mmap
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Literal

import pyarrow as pa

from brownfield.endings import how_it_ended
from brownfield.errors import FormatError

__all__ = ["Container", "batches_aside", "main", "schema_aside"]

Container = Literal["parquet", "file", "stream"]
"""How the columns are packed: Parquet, Arrow's file, Arrow's stream."""

_MEMORY_MIB = 2048
_MAX_CPU_S = 3600
_MAX_SILENCE_S = 60.0
"""How long the child may go on without a byte while we wait for one."""
_MAX_MESSAGE_BYTES = 1 << 31
_MAX_WORDS_BYTES = 1 << 16
_REFUSED = 3
_WORDS = ("path", "expected", "got", "next_step")
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from brownfield.data.formats import columnar_process as it; it.main()"
)
_ROOT = str(Path(__file__).resolve().parents[3])


def batches_aside(
    container: Container, stream: BinaryIO, wanted: pa.Schema, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Read the wanted columns of a file in a process of its own.

    Parameters
    ----------
    container
        How the columns are packed.
    stream
        The file; it stands at its end afterwards.
    wanted
        Names the columns; the batches have them in this order and in the types of the file.
    batch_rows
        Most rows of a batch.

    Raises
    ------
    FormatError
        When the file is refused, or the process that read it ended, fell silent or grew beyond its bounds.
    """
    with _child(container, stream, wanted, batch_rows) as answers:
        yield from pa.ipc.open_stream(answers)


def schema_aside(container: Container, stream: BinaryIO) -> pa.Schema:
    """Read names and types of a file's columns in a process of its own; raises as :func:`batches_aside` does."""
    with _child(container, stream, None, 0) as answers:
        return pa.ipc.open_stream(answers).schema


@contextmanager
def _child(
    container: Container, stream: BinaryIO, wanted: pa.Schema | None, batch_rows: int
) -> Iterator[pa.PythonFile]:
    """Start the child on a stream, and turn its end into ours."""
    task = {
        "container": container,
        "wanted": None if wanted is None else base64.b64encode(wanted.serialize()).decode(),
        "batch_rows": batch_rows,
        "memory_mib": _MEMORY_MIB,
    }
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_as_file(stream))
        process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-I", "-c", _START, _ROOT, str(file.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[file.fileno()], cwd="/",
            env={"LC_ALL": "C.UTF-8", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"},
        )  # fmt: skip
        stack.callback(_end, process)
        answers = _Answers(process)
        try:
            with contextlib.suppress(BrokenPipeError):
                _given(process.stdin).write(json.dumps(task).encode())
                _given(process.stdin).close()
            yield pa.PythonFile(answers, "r")
            if process.wait(_MAX_SILENCE_S) != 0:
                raise _refusal(process, answers)
        except (pa.ArrowException, OSError, MemoryError, subprocess.TimeoutExpired):
            answers.drain()
            raise _refusal(process, answers) from None
        stream.seek(0, io.SEEK_END)


class _Answers:
    """The child's stdout: never waited for longer than it may be silent, never more than a message may hold."""

    closed = False

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.silent = False
        self._process = process
        self._pipe = _given(process.stdout).fileno()

    def read_buffer(self, count: int) -> pa.Buffer:
        if not 0 <= count <= _MAX_MESSAGE_BYTES:
            raise OSError("a longer message than any of ours")
        whole = pa.allocate_buffer(count)  # not touched before it is filled
        have = 0
        while have < count:
            readable, _, _ = select.select([self._pipe], [], [], _MAX_SILENCE_S)
            if not readable:
                self.silent = True
                raise OSError("silent")
            part = os.readv(self._pipe, [memoryview(whole)[have:]])
            if part == 0:
                break
            have += part
        return whole.slice(0, have)

    def read(self, count: int) -> bytes:
        return bytes(self.read_buffer(count))

    def drain(self) -> None:
        """Let a child that refuses say so; one that goes on for long is ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self.silent else 5)

    def close(self) -> None:
        """Leave it to the one who started the child."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


@contextmanager
def _as_file(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Give the stream as a file that is read-only and has a place of its own in it."""
    with contextlib.ExitStack() as stack:
        if not isinstance(stream, io.BufferedReader | io.BufferedRandom):
            copy = stack.enter_context(tempfile.TemporaryFile())
            stream.seek(0)
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
            stream = copy
        yield stack.enter_context(open(f"/proc/self/fd/{stream.fileno()}", "rb"))  # noqa: PTH123 (no path of any folder)


def _refusal(process: "subprocess.Popen[bytes]", answers: _Answers) -> FormatError:
    """Say why there is no more, in the child's words where it has some."""
    code = process.poll()
    process.kill()
    last = _given(process.stderr).read(_MAX_WORDS_BYTES).strip().rpartition(b"\n")[2]
    if code == _REFUSED:
        with contextlib.suppress(ValueError):
            told = json.loads(last)
            if isinstance(told, dict) and all(isinstance(text, str) for text in told.values()):
                return FormatError(
                    **{name: told[name] for name in ("path", "expected", "got", "next_step") if name in told}
                )
    if answers.silent:
        got = f"no answer for {_MAX_SILENCE_S:g} s from the process that read it"
    elif code is not None and code < 0:
        got = f"the process that read it ended by {how_it_ended(code)}"
    else:
        got = "one that is refused"
    return FormatError(expected="an undamaged file", got=got)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            _given(pipe).close()


def _given(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:  # pragma: no cover (each is a pipe)
        raise AssertionError
    return pipe


def main() -> None:
    """Read one file in the child, from the number of its descriptor and the task on stdin; ends the process."""
    task = json.loads(sys.stdin.buffer.read())
    confine(task["memory_mib"], mapped_bytes=os.fstat(int(sys.argv[2])).st_size)
    columnar = importlib.import_module("brownfield.data.formats.columnar")
    try:
        file = pa.py_buffer(mmap.mmap(int(sys.argv[2]), 0, prot=mmap.PROT_READ))
        with os.fdopen(1, "wb") as out:
            if task["wanted"] is None:
                pa.ipc.new_stream(out, columnar.schema_of(task["container"], file)).close()
            else:
                wanted = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(task["wanted"])))
                schema, batches = columnar.read_columns(task["container"], file, wanted, task["batch_rows"])
                with pa.ipc.new_stream(out, schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
    except FormatError as error:
        _give_up({name: getattr(error, name) for name in _WORDS})
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        _give_up({"expected": "an undamaged file", "got": f"one that is refused ({type(error).__name__})"})


def confine(memory_mib: int, *, mapped_bytes: int) -> None:
    """Give up, for good, all that reading one open file does not need."""
    from brownfield.confinement import SandboxPolicy, apply, readable_by_default

    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_S, _MAX_CPU_S))
    apply(SandboxPolicy(), readable_by_default(), memory_mib, mapped_bytes=mapped_bytes)


def _give_up(told: dict[str, str | None]) -> None:
    os.write(2, b"\n" + json.dumps({name: text for name, text in told.items() if text is not None}).encode())
    os._exit(_REFUSED)
