"""Whether a model finds its way back from callers who ask again at once, whoever answered them: too many, then fewer.

    python benchmarks/coming_back.py [--rounds 3] [--crowd 32] [--callers 16]

wrk keeps so many connections asking M3 (MiniLM, two threads, deadline 150 ms) without a pause: first a crowd of whom
the fallback has to answer some, then as many as the model can answer alone. The fallback takes next to no time, so
whoever it answers comes back thousands of times a second, on the cores that the model computes on. Printed for every
second: answers of the model, and of the fallback.
"""

import argparse
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from brownfield.serving import serve_workspace
from served_mlp import SCRIPT
from serving_models import MODELS, lay_out

CROWD_S, CALLERS_S = 4, 12


def answers(url: str) -> tuple[float, float]:
    """Answers by the model so far, and by others."""
    by_model = by_others = 0.0
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:  # noqa: S310 (our own server)
        for line in page.read().decode().splitlines():
            if line.startswith("brownfield_answers_total"):
                count = float(line.rpartition(" ")[2])
                if 'source="model"' in line:
                    by_model += count
                else:
                    by_others += count
    return by_model, by_others


def phase(url: str, script: Path, connections: int, seconds: int) -> None:
    """Load it, and print what was answered in each second."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"{url}/v2/models/m3/infer"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
        before, shown = answers(url), []
        while wrk.poll() is None:
            time.sleep(1)
            now = answers(url)
            shown.append(f"{now[0] - before[0]:.0f}+{now[1] - before[1]:.0f}")
            before = now
    print(f"{connections:4} callers:", *shown, flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crowd", type=int, default=32)
    parser.add_argument("--callers", type=int, default=16)
    options = parser.parse_args()
    model = MODELS["m3"]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "post.lua"
        script.write_text(SCRIPT % model.body().decode(), encoding="utf-8")
        lay_out(folder / "workspace", model)
        with serve_workspace(folder / "workspace") as served:
            print("answers of the model + of the fallback, in each second")
            for _ in range(options.rounds):
                phase(served.url, script, options.crowd, CROWD_S)
                phase(served.url, script, options.callers, CALLERS_S)


if __name__ == "__main__":
    main()
