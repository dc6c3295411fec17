"""A served workspace in storms of faults: real processes and signals, distinct questions whose answers are known.

``BROWNFIELD_ANSWERS`` and ``BROWNFIELD_STORM_S`` say how many answers are held against what is known, and for how long
processes are killed; the figure of the documents is of 100,000 answers.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import psutil
import pytest

from brownfield.store import open_store, read_journal
from harness.pipes import emptied, filled
from harness.processes import MODEL, descendants
from harness.waiting import until

pytestmark = pytest.mark.full

ANSWERS = int(os.environ.get("BROWNFIELD_ANSWERS", "6000"))
STORM_S = float(os.environ.get("BROWNFIELD_STORM_S", "20"))


class Askers(threading.Thread):
    """Callers on raw connections; each question is different, and its answer is the sum that it asks for."""

    def __init__(self, url, callers, first=0):
        super().__init__(daemon=True)
        self.port = int(url.rsplit(":", 1)[1])
        self.callers = callers
        self.answers = {"model": 0, "constant": 0}
        self.failures = []
        self.ending = threading.Event()
        self._numbers = iter(range(first, 2**22))

    def run(self):
        """Ask until told to end."""
        asyncio.run(self._all())

    async def _all(self):
        await asyncio.gather(*(self._ask() for _ in range(self.callers)))

    async def _ask(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            while not self.ending.is_set():
                number = next(self._numbers)
                body = json.dumps({"x": [number, 0, 0, 0]}).encode()
                head = f"POST /v1/risk/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                status = (await reader.readline()).split()[1]
                length = 0
                while (line := await reader.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self._judge(number, status, json.loads(await reader.readexactly(length)))
        except (OSError, asyncio.IncompleteReadError, IndexError) as error:
            self.failures.append(repr(error))
        finally:
            writer.close()

    def _judge(self, number, status, answer):
        if status != b"200":
            self.failures.append(f"{status!r} {answer}")
            return
        source = answer["decision"]["source"]
        expected = {"model": [float(number)], "constant": [0.5]}[source]
        if answer["prediction"]["y"] != expected:
            self.failures.append(f"{number}: {answer['prediction']}, expected {expected} by {source}")
        self.answers[source] += 1

    def until(self, condition, timeout_s=60):
        """Wait until the counts are as wanted."""
        until(lambda: condition(self.answers), timeout_s, lambda: (self.answers, self.failures[:3]))

    def end(self):
        """Stop, and give what failed."""
        self.ending.set()
        self.join(60)
        return self.failures


@pytest.fixture
def askers():
    """Starts callers; ends them with the test."""
    with contextlib.ExitStack() as stack:

        def start(running, callers, first=0):
            made = Askers(running.url, callers, first)
            made.start()
            stack.callback(made.end)
            return made

        yield start


def test_i6_no_reply_is_another_ones(risk, serving, askers, tmp_path):
    """I6: of thousands of distinct questions by 64 callers, shared calls and all, each answer is its own."""
    asked = askers(serving(risk.workspace(tmp_path, deadline_ms=60_000)), 64)
    asked.until(lambda answers: answers["model"] >= ANSWERS, 60 + ANSWERS / 50)
    assert asked.end() == []
    assert asked.answers["constant"] == 0


def test_f01_workers_killed_every_half_second_fail_no_request(risk, serving, askers, tmp_path):
    """F-01, R-01: a random worker dies every half second for 20 s under 32 callers; each gets a right answer.

    Nothing is quarantined, for the model is not to blame, and nobody's request is taken for poison.
    """
    running = serving(risk.workspace(tmp_path))
    asked = askers(running, 32)
    asked.until(lambda answers: answers["model"] > 100)
    draw = np.random.default_rng(7)
    killed, ends_s = 0, time.monotonic() + STORM_S
    while killed < STORM_S / 2 or time.monotonic() < ends_s:  # some find it just being replaced
        workers = running.model_pids()
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(draw.choice(workers)), signal.SIGKILL)
                killed += 1
        time.sleep(0.5)
    total = sum(asked.answers.values())
    asked.until(lambda answers: sum(answers.values()) > total + 100)
    by_model = asked.answers["model"]
    asked.until(lambda answers: answers["model"] > by_model + 100)
    assert asked.end() == []
    assert asked.answers["constant"] > 0
    assert '"killed_from_outside":true' in running.log
    assert "BF-WRK-QUARANTINED" not in running.log
    assert "BF-WRK-POISON" not in running.log


def test_f03_the_workers_of_all_models_killed_at_once_fail_no_request(risk, serving, askers, tmp_path):
    """F-03: three models lose their processes in one moment, twice; callers are answered, and all three come back."""
    folder = risk.workspace(tmp_path)
    for name in ("risk2", "risk3"):
        copy = shutil.copytree(folder / "integrations" / "risk", folder / "integrations" / name)
        declaration = copy / "integration.yaml"
        declaration.write_text(declaration.read_text().replace("integration: risk", f"integration: {name}"))
    running = serving(folder)
    asked = askers(running, 16)
    for _ in range(2):
        by_model = asked.answers["model"]
        asked.until(lambda answers, before=by_model: answers["model"] > before + 100)
        workers = running.model_pids()
        assert len(workers) == 3
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        until(lambda workers=workers: len(set(running.model_pids()) - set(workers)) >= 3)
    by_model = asked.answers["model"]
    asked.until(lambda answers: answers["model"] > by_model + 100)
    assert asked.end() == []
    assert asked.answers["constant"] > 0
    for name in ("risk2", "risk3"):
        until(lambda name=name: httpx.get(f"{running.url}/v2/models/{name}/ready", timeout=60).is_success)


def test_f67_a_suspended_host_wakes_up_without_a_storm(risk, serving, askers, tmp_path):
    """F-67: every process stops for two seconds; afterwards all are answered, and the model's process is the same."""
    running = serving(risk.workspace(tmp_path, deadline_ms=300))
    asked = askers(running, 16)
    asked.until(lambda answers: answers["model"] > 100)
    processes = [psutil.Process(running.pid), *descendants(running.pid)]
    before = running.model_pids()
    for process in processes:
        process.suspend()
    time.sleep(2)
    for process in processes:
        process.resume()
    by_model = asked.answers["model"]
    asked.until(lambda answers: answers["model"] > by_model + 500)
    assert asked.end() == []
    assert running.model_pids() == before


def test_f74_ten_restarts_in_a_row_under_load_lose_nothing(risk, serving, askers, tmp_path):
    """F-74: killed while it answers, ten times; each is ready once the model answers, and every start is entered."""
    folder = risk.workspace(tmp_path, deadline_ms=5000)
    for number in range(10):
        running = serving(folder)  # waits until it says that it is ready
        answer = running.predict([number, 0, 0, 0])
        assert (answer["decision"]["source"], answer["prediction"]) == ("model", {"y": [float(number)]})
        asked = askers(running, 4, first=100)
        asked.until(lambda answers: answers["model"] > 20)
        os.kill(running.pid, signal.SIGKILL)
        running.process.wait(20)
        assert asked.answers["constant"] == 0
        assert all("Error" in failure for failure in asked.end())  # cut off by the kill; no wrong answer
    running = serving(folder)
    given = running.predict([1, 2, 3, 4])["decision"]["id"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    with open_store(folder / "var" / "brownfield.db") as store:
        entries = store.audit.entries(after=0, limit=100)
        assert [each.action for each in entries] == ["workspace.served"] * 11
        assert store.audit.verify().sound
    assert given in read_journal(folder / "var" / "journal" / "risk")["decision"].to_pylist()


def test_f70_who_reads_its_metrics_slowly_harms_nobody(risk, serving, askers, tmp_path):
    """F-70: monitors that ask without end and read nothing; callers are answered, and nothing is kept for them."""
    running = serving(risk.workspace(tmp_path))
    asked = askers(running, 8)
    gateway = psutil.Process(running.pid_of("bf-gateway-0"))
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500

    async def monitor():
        _, writer = await asyncio.open_connection("127.0.0.1", asked.port)
        writer.write(request)
        return writer

    async def monitors():
        open_ones = [await monitor() for _ in range(8)]
        before = gateway.memory_info().rss
        total = sum(asked.answers.values())
        while sum(asked.answers.values()) < total + 2000:
            await asyncio.sleep(0.05)
            assert not asked.failures
        after = gateway.memory_info().rss
        for writer in open_ones:
            writer.transport.abort()
        return after - before

    grown_bytes = asyncio.run(monitors())
    assert asked.end() == []
    assert grown_bytes < 64 * 2**20
    assert httpx.get(f"{running.url}/metrics").status_code == 200


def test_f70_a_log_that_nobody_reads_harms_nobody(risk, tmp_path):
    """F-70: its pipe is full; models are killed and come back, and the log tells what it lost when it is read again."""
    folder = risk.workspace(tmp_path)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "brownfield", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=writer) as process:
        try:
            log = b""
            while b"BF-SRV-SERVING" not in log:
                log += os.read(reader, 65536)
            told = json.loads(next(line for line in log.splitlines() if b"BF-SRV-SERVING" in line))
            url = f"http://{told['address']}:{told['port']}/v1/risk/predict"
            filled(writer)
            for _ in range(3):
                kill_and_wait(process.pid, url)
            assert b"BF-" not in emptied(reader)
            kill_and_wait(process.pid, url)
            assert b"BF-LOG-DROPPED" in emptied(reader)
        finally:
            process.terminate()
            process.wait(60)
            os.close(writer)
            os.close(reader)
    assert process.returncode == 0


def kill_and_wait(supervisor, url):
    """Kill the model's process, and wait until another one answers; whoever asks meanwhile is answered as well."""
    [killed] = descendants(supervisor, MODEL)
    killed.kill()

    def answered_by_another():
        answer = httpx.post(url, json={"x": [1, 2, 3, 4]}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["decision"]["source"] == "model" and killed not in descendants(supervisor, MODEL)

    until(answered_by_another)
