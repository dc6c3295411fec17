"""A served workspace to which things happen at random, in an order that the seed tells: nobody gets a wrong answer.

``BROWNFIELD_CHAOS_SEED`` and ``BROWNFIELD_CHAOS_S`` say which order, and for how long.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import threading
import time

import httpx
import numpy as np
import psutil
import pytest

from brownfield.serving import serve_workspace
from harness.processes import CLERK, MODEL, ZYGOTE, descendants
from harness.waiting import until

pytestmark = pytest.mark.full

SEED = int(os.environ.get("BROWNFIELD_CHAOS_SEED", "8"))
LASTS_S = float(os.environ.get("BROWNFIELD_CHAOS_S", "20"))
NAMES = ("risk", "later")
GONE_S = 3.0  # after a gateway was killed: who was connected to it finds out, and comes back
BACK_S = 20.0  # until all is well again by itself; some of it on a busy machine
TROUBLE = ("Traceback", '"event":"asyncio"', "REQUEST-FAILED", "LINK-FAILED", "JOURNAL-FAILED", "WENT-WRONG")


class Callers:
    """They ask distinct questions; a version's answer is the sum of the question times its number."""

    def __init__(self, url):
        self.url, self.wrong, self.by_model = url, [], 0
        self.cut_until_s = 0.0
        self._ending, self._numbers = threading.Event(), itertools.count(1)
        self._threads = [threading.Thread(target=self._ask, args=(each,), daemon=True) for each in range(6)]
        for each in self._threads:
            each.start()

    def _ask(self, which):
        with contextlib.ExitStack() as held:
            client = held.enter_context(httpx.Client(base_url=self.url, timeout=30))
            while not self._ending.wait(0.02):
                name, number, began_s = NAMES[which % 2], next(self._numbers), time.monotonic()
                try:
                    answer = client.post(f"/v1/{name}/predict", json={"x": [number, 0, 0, 0]})
                except httpx.TransportError as error:
                    if began_s > self.cut_until_s:
                        self.wrong.append(f"{name} {number}: {error!r}")
                    client = held.enter_context(httpx.Client(base_url=self.url, timeout=30))
                    continue
                self._judge(number, answer)

    def _judge(self, number, answer):
        said = answer.json()
        decision = said.get("decision", {})
        by_model = decision.get("source") == "model"
        right = number * float(decision["version"]) if by_model else 0.5
        if answer.status_code != 200 or said["prediction"]["y"] != [right]:
            self.wrong.append(f"{number}: {answer.status_code} {said}")
        self.by_model += by_model

    def end(self):
        """Ask no more."""
        self._ending.set()
        for each in self._threads:
            each.join(60)


class Chaos:
    """What happens to a served workspace."""

    def __init__(self, folder, background, callers):
        self.draw = np.random.default_rng(SEED)
        self.versions = dict.fromkeys(NAMES, 1)
        self.told = []
        self._folder, self._pid, self._callers = folder, background.process.pid, callers
        self._process = background.process

    @property
    def log(self):
        """What was logged so far."""
        return (self._folder / "var" / "serve.log").read_text()

    def one(self):
        """Let something happen."""
        what = self.draw.choice(
            (self.kill, self.kill, self.stop, self.version, self.version, self.mistake, self.cleared)
        )
        self.told.append(what.__name__)
        what()

    def _any(self):
        parts = {"gateway": "", "manager": "", "model": MODEL, "zygote": ZYGOTE, "clerk": CLERK}
        kind = str(self.draw.choice(tuple(parts)))
        found = descendants(self._pid, parts[kind])
        with contextlib.suppress(psutil.Error):
            found = [each for each in found if parts[kind] or each.name().startswith(f"bf-{kind}")]
        self.told.append(kind)
        if kind == "gateway":
            self._callers.cut_until_s = time.monotonic() + GONE_S
        return found[self.draw.integers(len(found))] if found else None

    def kill(self):
        """Somebody kills a process."""
        with contextlib.suppress(psutil.Error):
            if (process := self._any()) is not None:
                process.kill()

    def stop(self):
        """A process stands still for a while."""
        with contextlib.suppress(psutil.Error):
            if (process := self._any()) is not None:
                process.suspend()
                time.sleep(float(self.draw.choice((0.1, 1.0, 2.5))))
                process.resume()

    def version(self):
        """Another version is served, while models may be killed."""
        name = str(self.draw.choice(NAMES))
        self.versions[name] = 3 - self.versions[name]
        declare(self._folder, name, self.versions[name])
        self._process.send_signal(signal.SIGHUP)
        if self.draw.random() < 0.5:
            self.kill()

    def mistake(self):
        """Somebody reloads a declaration that is none."""
        path = self._folder / "integrations" / "risk" / "integration.yaml"
        text = path.read_text()
        path.write_text(text + "nonsense: [\n")
        self._process.send_signal(signal.SIGHUP)
        time.sleep(self.draw.random())
        path.write_text(text)

    def cleared(self):
        """Somebody makes room in ``var/``."""
        shutil.rmtree(self._folder / "var" / str(self.draw.choice(("run", "journal"))), ignore_errors=True)

    def get_well(self, url):
        """Wait until all that is declared, whole again after the last mistake, is served."""
        self._process.send_signal(signal.SIGHUP)
        until(lambda: self.is_well(url), BACK_S, lambda: f"seed {SEED}: {self.told}\n{self.log[-3000:]}")

    def is_well(self, url):
        """Whether all that is declared is served and told."""
        try:
            if httpx.get(f"{url}/v2/health/ready").status_code != 200:
                return False
            listed = httpx.post(f"{url}/v2/repository/index").raise_for_status().json()
            index = {each["name"]: each for each in listed}
            said = {name: httpx.post(f"{url}/v1/{name}/predict", json={"x": [1, 2, 3, 4]}).json() for name in NAMES}
        except (httpx.HTTPError, json.JSONDecodeError):
            return False
        served = {name: (one["decision"]["source"], one["decision"]["version"]) for name, one in said.items()}
        declared = {name: ("model", str(version)) for name, version in self.versions.items()}
        told = {name: (one["state"], one["version"]) for name, one in index.items()}
        return served == declared and told == {name: ("READY", version) for name, (_, version) in declared.items()}


def declare(folder, name, version):
    """Write the declaration of one integration, whole."""
    path = folder / "integrations" / name / "integration.yaml"
    model = f"{{path: bundles/v{version}, keep_loaded: {str(name == 'risk').lower()}}}"
    lines = [f"integration: {name}", "contract: contract.odcs.yaml", f"model: {model}"]
    lines += ["fallback: {deadline_ms: 500, chain: [{constant: {y: [0.5]}}]}"]
    path.with_suffix(".new").write_text("\n".join(lines) + "\n")
    path.with_suffix(".new").replace(path)


def test_f01_f03_f13_f15_whatever_happens_no_answer_is_wrong_and_all_is_well_again(risk, tmp_path):
    """F-01, F-03, F-13, F-15: processes die and stand still, declarations change, ``var/`` is cleared, in any order."""
    folder = risk.workspace(tmp_path / "workspace")
    for version in (1, 2):
        risk.write_model(folder, f"v{version}", str(version), risk.model(float(version)), float(version))
    shutil.copytree(folder / "integrations" / "risk", folder / "integrations" / "later")
    for name in NAMES:
        declare(folder, name, 1)
    (folder / "brownfield.yaml").write_text("workspace: risk\nserving: {gateways: 2}\n")
    with serve_workspace(folder) as background:
        callers = Callers(background.url)
        chaos = Chaos(folder, background, callers)
        ends_s = time.monotonic() + LASTS_S
        while time.monotonic() < ends_s:
            chaos.one()
            time.sleep(chaos.draw.random())
            if chaos.draw.random() < 0.5:  # else the next thing happens before that was mended
                chaos.get_well(background.url)
        chaos.get_well(background.url)
        callers.end()
        left = descendants(background.process.pid)
        background.process.terminate()
        assert background.process.wait(15) == 0
    assert callers.wrong == [], f"seed {SEED}: {chaos.told}"
    assert callers.by_model > 100
    assert [line for line in chaos.log.splitlines() if any(each in line for each in TROUBLE)] == []
    until(lambda: not any(each.is_running() and each.status() != "zombie" for each in left))
    assert list((folder / "var" / "run").glob("*.sock")) == []
