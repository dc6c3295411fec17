"""The reference page says what the code does."""

import re
from pathlib import Path

from brownfield.clock import SystemClock
from brownfield.serving.figures import manager_lines
from brownfield.serving.gateway import ROUTES
from brownfield.serving.gateway.latency import STAGE_NAMES
from brownfield.serving.gateway.metrics import HttpMeter, exposition
from brownfield.serving.gateway.problem import TITLES
from brownfield.serving.journals import Journals
from brownfield.serving.residence import Residence

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table
    return [[cell.strip(" `") for cell in line.strip("|\n").split(" | ")] for line in table[0].splitlines()[2:]]


def test_the_page_lists_the_table_of_routes():
    """Method, path and permission, in the order of the table."""
    assert [tuple(row[:3]) for row in rows("Routes")] == [
        (route.method, route.path, route.permission or "none") for route in ROUTES
    ]


def test_the_page_lists_the_stages():
    """Every stage of Server-Timing, in order."""
    assert [row[0] for row in rows("Server-Timing")] == list(STAGE_NAMES)


def test_the_page_lists_the_statuses_of_refusals():
    """Every status that a refusal can have."""
    assert [int(row[0]) for row in rows("Refusals")] == sorted(TITLES)


def test_the_page_lists_the_metrics(served, tmp_path):
    """Own names with their types in the table, the others' names in the text below."""
    journals = Journals(tmp_path, SystemClock())
    families = dict(re.findall(r"# TYPE (\S+) (\S+)", exposition({"till": served}, HttpMeter(), journals.lines())))
    own = {name: kind for name, kind in families.items() if name.startswith("brownfield_")}
    assert {row[0]: row[1] for row in rows("Metrics")} == own
    for name in families.keys() - own.keys():
        assert f"`{name}`" in PAGE


def test_the_page_lists_the_metrics_of_the_manager():
    """Name and type of each, in order."""
    residence = Residence(lambda: None, used_mib=lambda: 0.0)
    families = re.findall(r"# TYPE (\S+) (\S+)", "\n".join(manager_lines(residence, {}, 1)))
    section = PAGE.split("### Metrics of the manager\n", 1)[1]
    assert re.findall(r"^\| `(\w+)` \| (\w+) \|", section.split("\n### ", 1)[0], re.MULTILINE) == families


def test_the_page_names_every_cause():
    """Those that a decision can carry."""
    from brownfield.serving.gateway.causes import CAUSES

    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE.split("| cause |")[1].split("\n\n")[0], re.MULTILINE)) == {
        *CAUSES.values(),
        "breaker",
        "no_model",
        "poison",
    }


def test_the_page_for_operators_lists_the_events_of_serving():
    """Every code that a line of the log can carry, in order."""
    root = Path(__file__).parents[2]
    known = {"BF-LOG-DROPPED"}
    for room in ("serving", "model"):
        for path in (root / "src" / "brownfield" / room).rglob("*.py"):
            known.update(re.findall(r'"(BF-(?:GTW|SRV|WRK)-[A-Z-]+)"', path.read_text(encoding="utf-8")))
    page = (root / "docs" / "how-to" / "operate-a-workspace.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(BF-[A-Z-]+)` \|", page, re.MULTILINE) == sorted(known)
