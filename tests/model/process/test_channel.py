import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvloop

from brownfield.errors import DeadlineExceeded, ModelFailed, Overloaded, WorkerUnavailable
from brownfield.model.process import AnswerLate, Caller, ModelChannel, ModelProcess, RunFailed, call
from brownfield.model.process.frames import ERROR, HELLO, REQUEST, RESPONSE, Decoder, encode_message, encode_tensors


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request, monkeypatch):
    """Run a coroutine on the loop of either kind, and close every channel at its end, whatever happens."""
    opened: list[ModelChannel] = []
    connected = ModelChannel.connection_made

    def remember(channel: ModelChannel, transport: asyncio.BaseTransport) -> None:
        opened.append(channel)
        connected(channel, transport)

    monkeypatch.setattr(ModelChannel, "connection_made", remember)

    async def tidy(coroutine) -> None:
        try:
            await coroutine
        finally:
            for channel in opened:
                channel.close()
            await asyncio.sleep(0)

    def run_on_loop(coroutine) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(tidy(coroutine))

    return run_on_loop


def _soon_ns(seconds: float) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


def test_f23_a_request_that_no_frame_holds_is_one_too_large_for_the_memory(start, run) -> None:
    """F-23: it says so without being sent, and the process answers others."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        with pytest.raises(RunFailed, match="too large for one frame") as failed:
            channel.infer({"x": np.empty((2**25, 2), "f4")}, _soon_ns(60))
        assert failed.value.cause == "memory"
        assert channel.in_flight == 0
        assert (await channel.infer({"x": np.ones((1, 2), "f4")}, _soon_ns(60)))["y"].tolist() == [[11.0, 11.0]]

    run(main())


def test_every_caller_gets_its_own_answer(start, run) -> None:
    """Of thousands of interleaved requests of several sizes on two connections, each gets its own answer."""
    process = start("batched")

    async def caller(channel: ModelChannel, number: int) -> None:
        for turn in range(40):
            rows = 1 + (number + turn) % 5
            question = np.full((rows, 2), number * 1000 + turn, "f4")
            answer = await channel.infer({"x": question}, _soon_ns(60))
            assert answer["y"].tolist() == (question * 10 + 1).tolist()

    async def main() -> None:
        channels = [await ModelChannel.connect(process.socket_path) for _ in range(2)]
        await asyncio.gather(*(caller(channels[number % 2], number) for number in range(32)))
        assert [channel.in_flight for channel in channels] == [0, 0]

    run(main())


def test_what_arrives_together_is_computed_together_up_to_the_row_cap(start, run) -> None:
    """Requests of one turn share calls of at most the declared rows; a request above the cap goes alone and whole."""
    process = start("rows", max_batch_rows=8)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        requests = [channel.infer({"x": np.zeros((2, 1), "f4")}) for _ in range(16)]
        answers = await asyncio.gather(*requests)
        shared = [int(answer["y"][0, 0]) for answer in answers]
        assert max(shared) == 8
        assert all(len(answer["y"]) == 2 for answer in answers)
        large = await channel.infer({"x": np.zeros((20, 1), "f4")})
        assert large["y"][:, 0].tolist() == [20.0] * 20

    run(main())


def test_no_batch_where_none_is_wanted(start, run) -> None:
    """With a cap of one row every request is computed alone."""
    process = start("rows", max_batch_rows=1)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        answers = await asyncio.gather(*(channel.infer({"x": np.zeros((1, 1), "f4")}) for _ in range(16)))
        assert [float(answer["y"][0, 0]) for answer in answers] == [1.0] * 16

    run(main())


def test_models_without_rows_answer_one_by_one(start, run) -> None:
    """A graph without a common free first dimension takes its full shapes, several inputs and outputs in any order."""
    process = start("alone")
    assert not process.hello.batched

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = [channel.infer({"w": np.ones(n, "f4"), "x": np.full((2, 2), n, "f4")}) for n in range(4)]
        for n, answer in enumerate(await asyncio.gather(*asked)):
            assert answer["total"].tolist() == [2.0 * n, 2.0 * n]
            assert answer["twice"].tolist() == [2.0] * n

    run(main())


def test_texts_travel_both_ways(start, run) -> None:
    """String tensors of several requests are batched, computed and given back to their callers."""
    process = start("text")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = [channel.infer({"s": np.array([f"kö{n}", "x" * n], dtype=object)}) for n in range(1, 5)]
        for n, answer in enumerate(await asyncio.gather(*asked), start=1):
            assert answer["t"].tolist() == [f"Kö{n}", "X" * n]

    run(main())


def test_large_tensors_pass_in_pieces(start, run) -> None:
    """Tensors of megabytes, many at once, arrive whole."""
    process = start("batched", max_batch_rows=10**6)
    question = np.arange(400_000, dtype="f4").reshape(-1, 2) % 1000

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        for answer in await asyncio.gather(*(channel.infer({"x": question + n}) for n in range(5))):
            first = answer["y"][0, 0]
            assert np.array_equal(answer["y"], question * 10 + first)

    run(main())


def test_what_is_too_large_to_travel_fails_that_request_alone(start, run) -> None:
    """A request or an answer above the longest frame is an error of its own; what else is in flight is answered."""
    process = start("square", max_batch_rows=1)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        too_large = channel.infer({"x": np.ones(2**13, "f4")})
        other = channel.infer({"x": np.full(2, 3, "f4")})
        with pytest.raises(ModelFailed, match="too large"):
            channel.infer({"x": np.zeros(2**26, "f4")})
        with pytest.raises(RunFailed, match="too large") as refusal:
            await too_large
        assert refusal.value.cause == "memory"
        assert (await other)["y"].tolist() == [[9, 9], [9, 9]]
        assert channel.connected

    run(main())


def test_f05_one_bad_request_does_not_harm_its_batch_mates(start, run) -> None:
    """F-05: in a batch whose call fails, only the request at fault gets the error, which holds no value of it."""
    process = start("picky")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = [channel.infer({"i": np.array([n])}) for n in (0, 1, 99173, 2)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [answers[n]["y"].tolist() for n in (0, 1, 3)] == [[5.0], [6.0], [7.0]]
        assert isinstance(answers[2], RunFailed)
        assert answers[2].cause == "run"
        assert "INVALID_ARGUMENT in operator Gather" in str(answers[2])
        assert "99173" not in str(answers[2])

    run(main())
    assert "99173" not in process.complaints


def test_f12_memory_beyond_the_limit_fails_one_request(start, run) -> None:
    """F-12: a request that asks for more memory than the process may have gets an error; the process answers on."""
    process = start("hungry", memory_mib=700)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        with pytest.raises(RunFailed) as refusal:
            await channel.infer({"size": np.array([10**9])})
        assert refusal.value.cause == "memory"
        assert (await channel.infer({"size": np.array([10])}))["total"].tolist() == 0.0

    run(main())
    assert process.alive


UNREAD = 120


def _asking(process: ModelProcess, times: int) -> socket.socket:
    """A caller that has asked for answers of 1 MiB and has not read any, once the process has done what it will."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(process.socket_path))
    questions = (encode_tensors(REQUEST, number, 0, [np.array([2**18])]) for number in range(times))
    connection.sendall(b"".join(part for question in questions for part in question))
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert call(process.socket_path, {"size": np.array([2])})["y"].tolist() == [0, 0]
    return connection


def _answered(connection: socket.socket, times: int) -> list[int]:
    """Identifiers of the answers that come, in their order, until so many have come or there is an end."""
    decoder = Decoder()
    frames = []
    while len(frames) < times and (data := connection.recv(2**20)):
        frames += [frame for frame in decoder.feed(data) if frame.kind != HELLO]
    assert all(frame.kind == RESPONSE and frame.tensors()[0].shape == (2**18,) for frame in frames)
    return [frame.request_id for frame in frames]


def test_f12_a_caller_that_does_not_read_takes_no_memory(start) -> None:
    """F-12: answers that nobody reads stay few; others are answered, and the caller gets all once it reads."""
    process = start("zeros", memory_mib=300, max_batch_rows=1)
    with _asking(process, UNREAD) as connection:
        before_mib = process.resident_mib
        with _asking(process, UNREAD) as another:
            assert process.resident_mib - before_mib < 32
            assert _answered(another, UNREAD) == list(range(UNREAD))
        assert _answered(connection, UNREAD) == list(range(UNREAD))
        connection.sendall(b"".join(encode_tensors(REQUEST, 7, 0, [np.array([2**18])])))  # it is heard again
        assert _answered(connection, 1) == [7]
    assert process.alive


def test_f12_a_caller_that_goes_without_reading_is_forgotten(start) -> None:
    """F-12: what was kept for it is given up, nothing is computed for it, and the process has nothing to do."""
    process = start("zeros", memory_mib=300, max_batch_rows=1)
    _asking(process, UNREAD).close()
    assert call(process.socket_path, {"size": np.array([2])})["y"].tolist() == [0, 0]
    before_s = _cpu_s(process)
    time.sleep(0.5)
    assert _cpu_s(process) - before_s < 0.1


def _cpu_s(process: ModelProcess) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_f16_sigterm_finishes_what_waits_for_its_caller_to_read(start) -> None:
    """F-16: requests that were heard and held back, as their caller did not read, are answered when it reads."""
    process = start("zeros", memory_mib=300, max_batch_rows=1)
    with _asking(process, UNREAD) as connection:
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.1)
        assert _answered(connection, UNREAD) == list(range(UNREAD))
    assert process.wait(60) == "exit 0"


def test_f12_a_request_that_does_not_fit_closes_its_connection_only(start) -> None:
    """F-12: a request longer than the memory that is left ends its connection; the process answers others."""
    process = start("square", memory_mib=200, max_batch_rows=1)
    with pytest.raises(WorkerUnavailable), Caller(process.socket_path) as caller:
        caller.ask({"x": np.ones(45 * 2**20, "f4")})
    assert call(process.socket_path, {"x": np.full(2, 3, "f4")})["y"].tolist() == [[9, 9], [9, 9]]


def test_wrong_tensors_are_the_callers_error(start, run) -> None:
    """A missing tensor, a wrong type and one that cannot travel fail that request alone."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        with pytest.raises(ModelFailed, match="x: a tensor is missing"):
            await channel.infer({"z": np.zeros((1, 2), "f4")})
        with pytest.raises(ModelFailed, match="complex64"):
            await channel.infer({"x": np.zeros((1, 2), "c8")})
        with pytest.raises(RunFailed, match="INVALID_ARGUMENT"):
            await channel.infer({"x": np.zeros((1, 2), "f8")})
        with pytest.raises(RunFailed, match="INVALID_ARGUMENT"):
            await channel.infer({"x": np.zeros((1, 3), "f4")})
        assert (await channel.infer({"x": np.zeros((1, 2), "f4")}))["y"].tolist() == [[1.0, 1.0]]

    run(main())


def test_f01_f02_a_killed_process_fails_every_caller_at_once(start, run) -> None:
    """F-01, F-02, R-02: kill -9 under 32 callers fails each long before its deadline; see benchmarks/hop.py."""
    process = start("slow")

    async def main() -> None:
        lost: list[bool] = []
        channel = await ModelChannel.connect(process.socket_path, on_lost=lambda: lost.append(True))
        asked = [channel.infer({"times": np.array([10**12])}, _soon_ns(100)) for _ in range(32)]
        await asyncio.sleep(0.1)
        assert channel.in_flight == 32
        os.kill(process.pid, signal.SIGKILL)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, WorkerUnavailable) for answer in answers)  # and not DeadlineExceeded
        assert len(lost) == 1
        assert channel.in_flight == 0
        assert not channel.connected
        with pytest.raises(WorkerUnavailable, match="gone"):
            channel.infer({"times": np.array([1])})

    run(main())
    assert process.wait(60) == "SIGKILL"


def test_r04_a_stopped_process_costs_no_more_than_the_deadline(start, run) -> None:
    """F-06, R-04: with the process stopped by SIGSTOP, every request ends by its deadline, the later ones later."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        limits = [0.15, 0.05, 0.1]
        asked = [channel.infer({"x": np.zeros((1, 2), "f4")}, _soon_ns(limit)) for limit in limits]

        async def taken(future) -> float:
            with pytest.raises(DeadlineExceeded):
                await future
            return time.monotonic() - began

        for limit, seconds in zip(limits, await asyncio.gather(*map(taken, asked)), strict=True):
            assert limit <= seconds + 0.001
        os.kill(process.pid, signal.SIGCONT)
        assert (await channel.infer({"x": np.zeros((1, 2), "f4")}, _soon_ns(60)))["y"].tolist() == [[1.0, 1.0]]

    run(main())


def test_f06_what_comes_after_its_deadline_still_tells_how_long_it_took(start, run) -> None:
    """F-06: of an answer the times alone; nothing of a refusal, nor where the process ends first."""
    process = start("slow")

    async def later(asked, then=lambda: None):
        with pytest.raises(AnswerLate) as raised:
            await asked
        then()
        return await asyncio.wait_for(raised.value.later, 60)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        run_us = (await channel.infer({"times": np.array([2_000_000])})).run_us
        soon_s = run_us / 10e6
        refused = []

        def ask_another():
            refused.append(asyncio.ensure_future(later(channel.infer({"times": np.array([3])}, _soon_ns(0.001)))))

        answered = await later(channel.infer({"times": np.array([2_000_000])}, _soon_ns(soon_s)), ask_another)
        assert answered == {}
        assert answered.run_us > 1e6 * soon_s
        assert (await refused[0]).run_us == 0
        lost = channel.infer({"times": np.array([10**12])}, _soon_ns(0.05))
        assert await later(lost, then=lambda: os.kill(process.pid, signal.SIGKILL)) is None

    run(main())


def test_requests_past_their_deadline_are_not_computed(start, run) -> None:
    """A request whose deadline passes while the model is busy is refused by the process without a call."""
    process = start("slow")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        first = channel.infer({"times": np.array([200_000])})
        os.kill(process.pid, signal.SIGSTOP)  # wherever it is, it goes on only when the deadline has passed
        late = channel.infer({"times": np.array([10**12])}, _soon_ns(0.001))
        await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGCONT)
        assert (await first)["y"].tolist() == [400_000]
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await channel.infer({"times": np.array([3])}, _soon_ns(60)))["y"].tolist() == [6]

    run(main())


def test_a_cancelled_caller_costs_nothing(start, run) -> None:
    """Callers that leave are forgotten; their late answers are dropped and the others' arrive."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = [channel.infer({"x": np.full((1, 2), n, "f4")}) for n in range(10)]
        for future in asked[::2]:
            future.cancel()
        answers = await asyncio.gather(*asked[1::2])
        assert [float(answer["y"][0, 0]) for answer in answers] == [11.0, 31.0, 51.0, 71.0, 91.0]
        await channel.infer({"x": np.zeros((1, 2), "f4")})
        assert channel.in_flight == 0

    run(main())


def test_a_process_that_does_not_read_is_overloaded_not_queued(start, run) -> None:
    """When the process does not read, requests are refused at once instead of piling up in memory."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        os.kill(process.pid, signal.SIGSTOP)
        question = np.zeros((10**6, 2), "f4")
        asked = []
        with pytest.raises(Overloaded):  # noqa: PT012 (which of them is refused depends on the kernel's buffers)
            for _ in range(10):
                asked.append(channel.infer({"x": question}))
                await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGCONT)
        assert 2 <= len(await asyncio.gather(*asked)) < 10
        assert channel.infer({"x": np.zeros((1, 2), "f4")}) is not None

    run(main())


@pytest.mark.full
def test_f16_sigterm_finishes_what_has_arrived(start, run) -> None:
    """F-16: after SIGTERM every request that had been sent is answered, and the exit status is 0."""
    process = start("slow", max_batch_rows=1)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = [channel.infer({"times": np.array([50_000])}) for _ in range(5)]
        await asyncio.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        for answer in await asyncio.gather(*asked):
            assert answer["y"].tolist() == [100_000]

    run(main())
    assert process.wait(60) == "exit 0"


def test_f16_sigterm_finishes_a_request_that_has_arrived_in_part(start, run) -> None:
    """F-16: a request longer than what is read at once, sent behind a running call, is read to its end and answered."""
    process = start("slow", max_batch_rows=1)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        running = channel.infer({"times": np.array([200_000])}, _soon_ns(60))
        await asyncio.sleep(0.02)
        large = channel.infer({"times": np.ones(200_000, "i8")}, _soon_ns(60))
        await asyncio.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        assert (await running)["y"].tolist() == [400_000]
        assert (await large)["y"].tolist() == [2] * 200_000

    run(main())
    assert process.wait(60) == "exit 0"


def test_f08_garbage_closes_that_connection_only(start) -> None:
    """F-08: a connection that sends no frames, or frames that are no requests, is closed; the others are served on."""
    process = start("batched")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n" * 10, encode_message(ERROR, 1, {}), b"\xff" * 64):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(process.socket_path))
            connection.sendall(garbage)
            received = b""
            while piece := _receive(connection):
                received += piece
            assert b'"inputs"' in received
    assert call(process.socket_path, {"x": np.zeros((1, 2), "f4")})["y"].tolist() == [[1.0, 1.0]]


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


HELLO_OF_A_LIAR = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": [None]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": [None]}],
    "batched": True,
    "engine": "liar",
    "engine_version": "1",
    "threads": 1,
    "max_batch_rows": 1,
    "pid": 1,
    "resident_mib": 1.0,
    "sandbox": {"layers": {}, "warnings": []},
}


HELLO_OF_A_TALKER = {**HELLO_OF_A_LIAR, "outputs": [{"name": "y", "dtype": "str", "shape": [None]}]}


def _answer(*arrays: np.ndarray) -> bytes:
    return b"".join(encode_tensors(RESPONSE, 1, 0, list(arrays)))


@pytest.mark.parametrize(
    ("greeting", "answer", "error"),
    [
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), b"\xff" * 64, WorkerUnavailable),
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), b"", WorkerUnavailable),
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), _answer(), ModelFailed),
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), _answer(np.zeros(1, "f4"), np.zeros(1, "f4")), WorkerUnavailable),
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), _answer(np.zeros(1, "f8")), ModelFailed),
        (encode_message(HELLO, 0, HELLO_OF_A_LIAR), _answer(np.array(["a"], dtype=object)), ModelFailed),
        (encode_message(HELLO, 0, HELLO_OF_A_TALKER), _answer(np.full(2**18 + 1, b"", dtype=object)), RunFailed),
        (encode_message(HELLO, 0, {"pid": 1}), b"", WorkerUnavailable),
        (encode_message(ERROR, 0, {}), b"", WorkerUnavailable),
        (b"", b"", WorkerUnavailable),
    ],
    ids=[
        *("garbage", "silence", "too few tensors", "too many tensors", "another type", "texts", "too many texts"),
        *("half a greeting", "no greeting", "nothing"),
    ],
)
def test_f08_a_process_that_lies_is_unavailable(greeting, answer, error, tmp_path, run) -> None:
    """F-08: garbage, silence or half a greeting from the process becomes a typed error for the caller."""
    path = tmp_path / "liar.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def lie() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(BrokenPipeError):
                connection.sendall(greeting)
                if len(greeting) > 100:
                    connection.recv(4096)
                connection.sendall(answer)

        liar = threading.Thread(target=lie)
        liar.start()

        async def main() -> None:
            async def ask() -> None:
                channel = await ModelChannel.connect(path)
                await channel.infer({"x": np.zeros(1, "f4")}, _soon_ns(5))

            with pytest.raises(error):
                await ask()

        run(main())
        liar.join()


@pytest.mark.parametrize(
    ("deadline_s", "answers", "stays"), [(5.0, 1, True), (5.0, 2, False), (0.05, 1, True), (0.05, 2, False)]
)
def test_f08_who_answers_more_than_was_asked_is_heard_no_more(deadline_s, answers, stays, tmp_path, run) -> None:
    """F-08: one answer for each request, be it late; with one more the connection ends, or a flood fills the loop."""
    path = tmp_path / "liar.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        late = threading.Event()

        def lie() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(encode_message(HELLO, 0, HELLO_OF_A_LIAR))
                connection.recv(4096)
                late.wait(5)
                for _ in range(answers):
                    connection.sendall(_answer(np.zeros(1, "f4")))
                connection.recv(4096)

        liar = threading.Thread(target=lie)
        liar.start()

        async def main() -> None:
            channel = await ModelChannel.connect(path)
            waiting = channel.infer({"x": np.zeros(1, "f4")}, _soon_ns(deadline_s))
            if deadline_s > 1:
                late.set()
                assert (await waiting)["y"].tolist() == [0.0]
            else:
                with pytest.raises(DeadlineExceeded):
                    await waiting
                late.set()
            await asyncio.sleep(0.2)
            assert channel.connected is stays
            channel.close()

        run(main())
        liar.join()


def test_as_many_texts_as_a_request_can_need_are_taken(tmp_path) -> None:
    """26 texts for each of 10,000 records are an answer."""
    path = tmp_path / "talker.sock"
    texts = np.full((10_000, 26), "é", dtype=object)
    with _lying(path, encode_message(HELLO, 0, HELLO_OF_A_TALKER), [_answer(texts)]):
        assert (call(path, {"x": np.zeros(1, "f4")})["y"] == texts).all()


def test_a_caller_waits_no_longer_than_it_said(tmp_path) -> None:
    """An answer that comes byte by byte is late when its time has passed, though something comes all the time."""
    path = tmp_path / "dribbler.sock"
    answer = _answer(np.zeros(2**16, "f4"))
    began = time.monotonic()
    with (
        _lying(
            path, encode_message(HELLO, 0, HELLO_OF_A_LIAR), (answer[at : at + 1] for at in range(len(answer))), 1e-4
        ),
        pytest.raises(DeadlineExceeded),
    ):
        call(path, {"x": np.zeros(1, "f4")}, timeout_s=0.3)
    assert time.monotonic() - began < 5


@contextlib.contextmanager
def _lying(path: Path, greeting: bytes, pieces: Iterable[bytes], pause_s: float = 0.0) -> Iterator[None]:
    """A socket that greets one caller and answers in pieces, whatever it is asked."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def lie() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(BrokenPipeError):
                connection.sendall(greeting)
                connection.recv(4096)
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause_s)

        liar = threading.Thread(target=lie)
        liar.start()
        yield
        liar.join()


def test_who_stops_waiting_for_a_greeting_leaves_no_connection(tmp_path, run) -> None:
    """A connection whose greeting nobody awaits any more is closed."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        async def main() -> None:
            connecting = asyncio.create_task(ModelChannel.connect(path))
            accepted, _ = await asyncio.to_thread(listener.accept)
            with accepted:
                accepted.settimeout(5)
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                assert await asyncio.to_thread(accepted.recv, 1) == b""

        run(main())


def test_nobody_there_is_unavailable(tmp_path, run) -> None:
    """Connecting to a socket that is not there is a typed error, with and without an event loop."""

    async def main() -> None:
        with pytest.raises(WorkerUnavailable):
            await ModelChannel.connect(tmp_path / "nobody.sock")

    run(main())
    with pytest.raises(WorkerUnavailable):
        call(tmp_path / "nobody.sock", {})


def test_paths_longer_than_an_address_work_on_a_loop(model_folder, tmp_path, run) -> None:
    """A channel reaches a socket whose path is longer than the 107 bytes of an address."""
    with ModelProcess.start(model_folder("batched"), runtime_folder=tmp_path / ("deep" * 30)) as process:

        async def main() -> None:
            channel = await ModelChannel.connect(process.socket_path)
            assert (await channel.infer({"x": np.zeros((1, 2), "f4")}))["y"].tolist() == [[1.0, 1.0]]

        run(main())


def test_an_answer_says_where_the_time_went(start, run) -> None:
    """A reply carries the microseconds spent waiting and in the engine."""
    process = start("slow", max_batch_rows=1)

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        asked = (channel.infer({"times": np.array([20_000])}) for _ in range(3))
        _, second, third = await asyncio.gather(*asked)  # the first goes at once, the others together behind it
        assert second.run_us > 100
        assert third.queue_us >= second.run_us * 0.9

    run(main())


def test_an_answer_says_with_how_many_rows_it_was_computed(start, run) -> None:
    """Its time in the engine is that of all the rows of a call, of which others asked for some."""
    process = start("rows")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        replies = await asyncio.gather(*(channel.infer({"x": np.zeros((1 + n % 3, 1), "f4")}) for n in range(200)))
        assert all((reply["y"] == reply.call_rows).all() for reply in replies)
        assert max(reply.call_rows for reply in replies) > 3

    run(main())


def test_a_model_without_batches_says_no_rows(start, run) -> None:
    """A first dimension that is no number of records is not taken for one."""
    process = start("alone")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        reply = await channel.infer({"x": np.ones((2, 2), "f4"), "w": np.ones(2, "f4")})
        assert reply.call_rows == 0

    run(main())


def test_an_answer_is_taken_in_the_middle_of_a_turn(start, run) -> None:
    """Who looks has what came although the loop did not turn, nothing is taken twice, and the loop tells of an end."""
    process = start("batched")

    async def main() -> None:
        channel = await ModelChannel.connect(process.socket_path)
        channel.look()
        first, second = (channel.infer({"x": np.full((1, 2), n, "f4")}, _soon_ns(60)) for n in (1, 2))
        until = time.monotonic() + 30
        while not (first.done() and second.done()) and time.monotonic() < until:
            channel.look()
        assert [future.result()["y"].tolist() for future in (first, second)] == [[[11, 11]], [[21, 21]]]
        assert channel.in_flight == 0
        after = await channel.infer({"x": np.full((1, 2), 3, "f4")}, _soon_ns(60))
        assert after["y"].tolist() == [[31, 31]]
        last = channel.infer({"x": np.full((1, 2), 4, "f4")}, _soon_ns(60))
        process.kill()
        process.wait(30.0)
        for _ in range(3):
            channel.look()
        if last.done():  # the answer was quicker than the end
            assert last.result()["y"].tolist() == [[41, 41]]
        else:
            with pytest.raises(WorkerUnavailable):
                await last
        channel.close()
        channel.look()

    run(main())
