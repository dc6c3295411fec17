"""What the README shows is what a person gets."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from brownfield.serving import serve_workspace

pytestmark = pytest.mark.full

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Serve the workspace of the README's tour."""
    folder = tmp_path_factory.mktemp("tour") / "shop"
    for verb in ("init", "check"):
        subprocess.run([sys.executable, "-m", "brownfield", verb, folder], check=True, capture_output=True, timeout=60)
    with serve_workspace(folder) as running:
        yield running.url


def ask(url: str, body: str) -> tuple[int, dict]:
    request = urllib.request.Request(f"{url}/v1/shop/predict", body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def bodies() -> list[str]:
    return re.findall(r"predict --json '([^']*)'", README)


def test_the_tour_s_first_answer_is_as_shown(shop):
    """The fallback answers as the README prints it, but for the identifier."""
    shown = json.loads(re.search(r"```json\n(.*?)```", README, re.DOTALL)[1])
    status, answer = ask(shop, bodies()[0])
    assert status == 200
    answer["decision"]["id"] = shown["decision"]["id"]
    assert answer == shown


def test_the_tour_s_wrong_request_is_refused_by_field_and_rule(shop):
    """The wrong request is told which fields broke which rules, and does not hear its value back."""
    status, refusal = ask(shop, bodies()[1])
    assert status == 422
    assert {violation["field"] for violation in refusal["violations"]} == {"store_id", "amount"}
    assert "seven" not in json.dumps(refusal)
