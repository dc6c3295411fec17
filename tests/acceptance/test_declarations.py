"""Declarations that are wrong, as a person meets them in ``brownfield check``: B-66 to B-73, and many integrations."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from brownfield.cli import main
from brownfield.integration import load_workspace

SECRET = "canary-hunter2-canary"  # noqa: S105 (it is there to be looked for)


@pytest.fixture(scope="module")
def begun(run, tmp_path_factory) -> Path:
    """What ``init`` writes."""
    folder = tmp_path_factory.mktemp("begun") / "shop"
    assert run("init", folder).returncode == 0
    return folder


@pytest.fixture
def shop(begun, tmp_path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(begun, tmp_path / "shop")


@pytest.fixture
def ask(monkeypatch, capsys):
    """Runs a verb in this process, as its entry point does; exit code and output."""

    def ask(*arguments):
        monkeypatch.setattr(sys, "argv", ["brownfield", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, "".join(capsys.readouterr())

    return ask


DECLARATION = "integrations/shop/integration.yaml"
MISTAKES = {
    "B-66 unknown key": (DECLARATION, "fallback:", "falback:", "did you mean fallback?"),
    "B-66 unknown key deeper": (DECLARATION, "deadline_ms:", "deadline_sm:", "did you mean deadline_ms?"),
    "B-67 deadline and constraint": (
        DECLARATION,
        "fallback:",
        "constraints: {latency_p99_ms: 5000}\nfallback:",
        "deadline",
    ),
    "B-68 no unit": (DECLARATION, "deadline_ms:", "deadline:", "deadline_ms"),
    "B-68 negative": (DECLARATION, "deadline_ms: 1000", "deadline_ms: -5", "deadline_ms"),
    "B-68 overflow": (DECLARATION, "deadline_ms: 1000", "deadline_ms: 1e400", "1e400"),
    "B-68 text": (DECLARATION, "deadline_ms: 1000", "deadline_ms: 10s", "deadline_ms"),
    "B-69 dots": (DECLARATION, "integration: shop", "integration: ../shop", "a-z, 0-9 and dashes"),
    "B-69 control": (DECLARATION, "integration: shop", 'integration: "sh\\u202eop"', "a-z, 0-9 and dashes"),
    "B-69 long": (DECLARATION, "integration: shop", f"integration: {'a' * 300}", "63"),
    "B-69 device": (DECLARATION, "integration: shop", "integration: con", "con"),
    "B-70 environment in a path": (
        DECLARATION,
        "contract: contract.odcs.yaml",
        "contract: ${HOME}/c.yaml",
        "${home}/c.yaml",
    ),
    "B-71 secret": (
        "brownfield.yaml",
        "serving:",
        f"access: {{tokens: [{{name: till, role: caller, token: {SECRET}}}]}}\nserving:",
        "env",
    ),
    "B-73 out of the folder": (DECLARATION, "contract: contract.odcs.yaml", "contract: ../../../c.yaml", "folder"),
    "B-73 include": (DECLARATION, "integration: shop", "integration: !include x.yaml", "tag"),
    "syntax": (DECLARATION, "integration: shop", "integration: [", ":"),
    "duplicate": (DECLARATION, "integration: shop", "integration: shop\nintegration: shop", "every key once"),
}


@pytest.mark.full
@pytest.mark.parametrize(("file", "old", "new", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_place_and_what_to_do(ask, shop, file, old, new, told):
    """Exit code 2 and a finding with file and line, what was expected, what was found; a secret is not repeated."""
    path = shop / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    code, output = ask("check", shop)
    assert code == 2, output
    assert re.search(rf"{re.escape(file)}:\d+: error: .*expected ", output)
    assert told in output.lower()
    assert SECRET not in output
    assert "\u202e" not in output


@pytest.mark.full
def test_b71_no_verb_repeats_a_secret(run, shop):
    """B-71: a token written out is refused by ``check`` and ``serve`` alike, and neither shows it."""
    path = shop / "brownfield.yaml"
    token = f"access: {{tokens: [{{name: till, role: caller, token: {SECRET}}}]}}\n"
    path.write_text(path.read_text() + token, encoding="utf-8")
    for verb in (["check", shop], ["serve", shop, "--port", "0"]):
        done = run(*verb)
        assert done.returncode == 2, (verb, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_b70_text_is_data(ask, shop):
    """B-70: templates and format directives in a sentence for people are neither expanded nor refused."""
    path = shop / DECLARATION
    odd = "{{7*7}} %s%n ${HOME} $(id)"
    path.write_text(path.read_text().replace("Score a purchase.", f"'{odd}'"), encoding="utf-8")
    assert ask("check", shop)[0] == 0
    assert load_workspace(shop).integrations["shop"].purpose == odd


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x",
        "http://user:pw@x/",
        "http://169.254.169.254/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_b72_no_url_leads_to_a_model(ask, shop, url):
    """B-72: a model is a folder of the workspace; an address in its place is refused."""
    path = shop / DECLARATION
    path.write_text(path.read_text() + f"model: {{path: '{url}'}}\n", encoding="utf-8")
    code, output = ask("check", shop, "--json")
    assert code == 2
    assert any(finding["path"].startswith("model") for finding in json.loads(output)["findings"])


@pytest.mark.full
def test_two_hundred_integrations_load_and_check(run, shop):
    """Two hundred integrations pass one ``check``, each read (benchmarks/declaration.py states the seconds)."""
    for number in range(199):
        home = shutil.copytree(shop / "integrations/shop", shop / f"integrations/shop-{number}")
        declaration = home / "integration.yaml"
        declaration.write_text(declaration.read_text().replace("integration: shop", f"integration: shop-{number}"))
    checked = run("check", shop, "--json")
    assert checked.returncode == 0, checked.stdout[:500]
    assert len(json.loads(checked.stdout)["integrations"]) == 200
