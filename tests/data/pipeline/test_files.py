"""Feeds of files through whole runs, from a folder and over SFTP: committed once, whatever breaks or is killed."""

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from brownfield.data.pipeline import run_pipeline
from brownfield.errors import DeclarationError, RunPaused, SourceUnavailable
from brownfield.integration import load_workspace
from brownfield.store import open_store
from brownfield.workspace.check import check
from harness.proxy import Proxy
from harness.shop import head

KILLS = int(os.environ.get("BROWNFIELD_KILLS", "20"))

FOLDER = "drop: {kind: folder, path: drop}"
SFTP = (
    "drop: {kind: sftp, host: {file: host}, port: {file: port}, user: USER, private_key: {file: key}, "
    "host_keys: {file: host_keys}, folder: {file: folder}, timeout_s: 2, MORE}"
)
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales: {feed: true, connection: drop, path: "in/*.csv", format: csv, tolerance: TOLERANCE, intake: {INTAKE}}
unified:
  lines: {from: sales}
fallback: {chain: [{constant: {items: []}}]}
"""
CONTRACT = (
    head()
    + """  - &sales
    name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, required: true}
      - {name: price, logicalType: number, required: true, logicalTypeOptions: {maximum: 10}}
  - {<<: *sales, name: lines}
""".replace("  - &sales\n", "  -\n").replace(
        "  - {<<: *sales, name: lines}\n",
        "  - name: lines\n    logicalType: object\n    properties:\n"
        "      - {name: line_id, logicalType: integer, required: true}\n"
        "      - {name: price, logicalType: number, required: true}\n",
    )
)


def declare(shop: Path, connection: str = FOLDER, *, intake: str = "claim: rename", tolerance: str = "data") -> None:
    """Write the declaration."""
    (shop / "integrations/reco").mkdir(parents=True, exist_ok=True)
    (shop / "brownfield.yaml").write_text(f"workspace: shop\nconnections:\n  {connection}\n")
    text = INTEGRATION.replace("INTAKE", intake).replace("TOLERANCE", tolerance)
    (shop / "integrations/reco/integration.yaml").write_text(text)
    (shop / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)
    (shop / "drop/in").mkdir(parents=True, exist_ok=True)


def declare_sftp(shop: Path, server, port: int, more: str = "", **options) -> None:
    """Write a declaration that reaches the folder over SFTP."""
    text = SFTP.replace("USER", server.user).replace(", MORE", f", {more}" if more else "")
    declare(shop, text, **options)
    values = {"host": "127.0.0.1", "port": port, "folder": shop / "drop", "host_keys": server.host_keys}
    for name, value in {**values, "key": (server.home / "client").read_text()}.items():
        (shop / name).write_text(f"{value}\n")
        (shop / name).chmod(0o600)


@pytest.fixture
def shop(tmp_path):
    """A workspace whose feed is a folder."""
    declare(tmp_path)
    return tmp_path


@pytest.fixture
def far(tmp_path, sftp_server):
    """The same over SFTP, through a proxy."""
    proxy = Proxy("127.0.0.1", sftp_server.port)
    declare_sftp(tmp_path, sftp_server, proxy.port)
    yield tmp_path, proxy
    proxy.close()


def sell(shop: Path, name: str, lines, *, price: float = 1.5, **said) -> None:
    """Leave a file of lines, then its marker, as a careful writer does."""
    data = b"line_id,price\n" + b"".join(b"%d,%.2f\n" % (line, price) for line in lines)
    part = shop / "drop/in" / f".{name}"
    part.write_bytes(data)
    part.rename(shop / "drop/in" / name)
    told = {"count": len(list(lines)), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **said}
    marker = shop / "drop/in" / f".{name}.done"
    marker.write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    marker.rename(shop / "drop/in" / f"{name}.done")


def run(shop: Path, **options):
    """One run."""
    workspace = load_workspace(shop)
    with open_store(shop / "var/brownfield.db") as store:
        return run_pipeline(
            workspace.integrations["reco"], workspace.connections, store, shop / "var/data/reco", **options
        )


def seen(shop: Path) -> list[int]:
    """Lines in the unified table, as a reader of its files finds them."""
    folder = shop / "var/data/reco/lines"
    return sorted(pq.read_table(folder)["line_id"].to_pylist()) if any(folder.glob("*.parquet")) else []


def test_a_run_takes_what_is_ready_and_says_what_it_left(shop) -> None:
    """Records of good files are committed, a bad file is in error/, a repeated one is named, and the counts agree."""
    sell(shop, "a.csv", [1, 2])
    sell(shop, "b.csv", [3], bytes=1)
    sell(shop, "c.csv", [4, 5], price=99)
    (shop / "drop/in/d.csv").write_text("line_id,price\n6,1\n")
    report = run(shop).sources["sales"]
    assert (report.rows_in, report.accepted, report.quarantined) == (4, 2, 2)
    assert report.files == {
        "taken": ["in/a.csv", "in/c.csv"],
        "repeated": [],
        "refused": {"in/b.csv": {"code": "BF-FIL-002", "reason": "1 bytes announced, 21 there"}},
        "waiting": 1,
        "interrupted": "",
    }
    assert (shop / "drop/error/in/b.csv").exists()
    sell(shop, "again.csv", [1, 2])
    again = run(shop).sources["sales"]
    assert (again.rows_in, again.files["repeated"]) == (0, ["in/again.csv"])
    assert seen(shop) == [1, 2]
    with open_store(shop / "var/brownfield.db") as store:
        codes = {each.path: (each.rows, each.code) for each in store.ledger.deliveries("reco", "sales")}
    assert codes == {
        "in/a.csv": (2, ""), "in/b.csv": (0, "BF-FIL-002"), "in/c.csv": (2, ""), "in/again.csv": (0, ""),
    }  # fmt: skip


def test_a_rebuild_reads_what_was_put_away_again(shop) -> None:
    """Tables that are made anew hold the files in done/ and the new ones, each once."""
    sell(shop, "a.csv", [1])
    run(shop)
    sell(shop, "b.csv", [2])
    run(shop, rebuild=True)
    assert seen(shop) == [1, 2]
    assert run(shop).sources["sales"].rows_in == 0


def test_no_refused_file_is_tolerated_where_none_is_declared(shop) -> None:
    """With tolerance none a file that is refused as a whole pauses the run, and nothing is kept."""
    declare(shop, tolerance="none")
    sell(shop, "a.csv", [1])
    sell(shop, "b.csv", [2], count=7)
    with pytest.raises(RunPaused, match="1 files refused as a whole"):
        run(shop)
    assert seen(shop) == []


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        (("feed: true", "lookup: line_id"), "intake", "intake on a feed only"),
        (("feed: true", "feed: true, max_drop_percent: 5"), "max_drop_percent", "a feed of one file"),
        (("claim: rename", "claim: rename, stable_s: 5"), "stable_s", "beside ready: stable only"),
        (("claim: rename", "marker_holds: [size]"), "marker_holds[0]", "count, bytes, sha256"),
        (("claim: rename", "trailer: {begins: T, count: {start: 3}}"), "count", "either field, or start and length"),
        (("in/*.csv", "../*.csv"), "path", "inside the folder"),
    ],
    ids=["lookup", "drop", "stable", "marker", "trailer", "B-76 dots"],
)
def test_a_bad_intake_is_refused_by_check(shop, change, path, message) -> None:
    """What contradicts itself is a finding with its line and key."""
    file = shop / "integrations/reco/integration.yaml"
    file.write_text(file.read_text().replace(*change))
    found = [each for each in check(shop).findings if each.level == "error"]
    assert any(path in each.path and message in each.message for each in found), found
    assert all("integration.yaml:" in each.where for each in found)


def test_an_sftp_connection_names_its_address_and_secrets_by_reference(shop) -> None:
    """A host, a password or a host key that is written out is refused; a key must be declared; one way in is chosen."""
    whole = "drop: {kind: sftp, host: {env: H}, user: u, password: {env: P}, host_keys: {env: K}}"
    for was, now, message in (
        ("{env: H}", "files.example", "a reference"),
        ("{env: P}", "geheim", "a reference"),
        (", host_keys: {env: K}", "", "host_keys"),
        (", password: {env: P}", "", "either password or private_key"),
    ):
        (shop / "brownfield.yaml").write_text(f"workspace: shop\nconnections:\n  {whole.replace(was, now)}\n")
        found = [str(each) for each in check(shop).findings if each.level == "error"]
        assert any(message in each for each in found), (now, found)
        assert not any("geheim" in each for each in found)


@pytest.mark.full
def test_a_foreign_client_drops_files_that_are_taken_over_sftp(far) -> None:
    """Files and markers that lftp leaves on the server are taken, and moved on the server."""
    shop, proxy = far
    if shutil.which("lftp") is None:
        pytest.skip("lftp is not installed")
    (shop / "a.csv").write_text("line_id,price\n1,2.5\n2,3.5\n")
    (shop / "a.csv.done").write_text("count=2\ntotal.price=6.00\n")
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    connect = f"ssh -a -x {options} -i {shop / 'key'}"
    user = pwd.getpwuid(os.geteuid()).pw_name
    script = (
        f'set sftp:connect-program "{connect}"; open -u {user}, -p {proxy.port} sftp://127.0.0.1; '
        f"cd {shop}/drop/in; put {shop}/a.csv; put {shop}/a.csv.done; bye"
    )
    subprocess.run(["lftp", "-c", script], check=True, timeout=60)
    assert run(shop).sources["sales"].files["taken"] == ["in/a.csv"]
    assert seen(shop) == [1, 2]
    assert sorted(path.name for path in (shop / "drop/done/in").iterdir()) == ["a.csv", "a.csv.done"]


@pytest.mark.full
def test_a_server_with_another_key_is_not_spoken_to(far) -> None:
    """Neither a key on first sight nor a changed one is accepted; known_hosts lines serve as fingerprints do."""
    shop, proxy = far
    sell(shop, "a.csv", [1])
    known = (shop / "host_keys").read_text()
    for keys in (
        "SHA256:" + "A" * 43,
        "[127.0.0.1]:1 " + "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,
        "nonsense",
    ):
        (shop / "host_keys").write_text(keys + "\n")
        with pytest.raises(DeclarationError, match="host_keys"):
            run(shop)
    assert seen(shop) == []
    assert b"SSH-2.0" in proxy.asked
    (shop / "host_keys").write_text(known)
    time.sleep(1.0)
    run(shop)
    assert seen(shop) == [1]


@pytest.mark.full
def test_f42_f43_a_server_that_goes_and_comes_is_read_when_it_is_there(far) -> None:
    """F-42, F-43: offline before, during and behind a reading, nothing is lost or twice, and tries are spaced."""
    shop, proxy = far
    for number in range(6):
        sell(shop, f"{number}.csv", range(number * 10, number * 10 + 10))
    begun, failures, round_ = time.monotonic(), 0, 0
    while len(seen(shop)) < 60 and time.monotonic() < begun + 60:
        round_ += 1
        proxy.refusing = round_ % 3 == 1
        proxy.cut_after = 9_000 * (round_ % 4) if round_ % 3 == 2 else None
        try:
            run(shop)
        except SourceUnavailable:
            failures += 1
    assert seen(shop) == list(range(60))
    assert failures > 0
    gaps = [later - earlier for earlier, later in zip(proxy.opened_at, proxy.opened_at[1:], strict=False)]
    assert min(gaps, default=1) > 0.05


@pytest.mark.full
def test_f44_a_silent_server_costs_no_more_than_its_timeout(far) -> None:
    """F-44: a server that connects and says nothing is given up after the declared time."""
    shop, proxy = far
    sell(shop, "a.csv", [1])
    proxy.silent = True
    begun = time.monotonic()
    with pytest.raises(SourceUnavailable):
        run(shop)
    assert time.monotonic() - begun < 20
    proxy.silent = False
    time.sleep(1.0)
    run(shop)
    assert seen(shop) == [1]


@pytest.mark.full
def test_f45_a_connection_cut_in_the_middle_of_a_file_takes_nothing_of_it(far) -> None:
    """F-45: wherever the answer breaks off, no part of the file is taken; files before it are kept, it comes later."""
    shop, proxy = far
    sell(shop, "a.csv", [1])
    sell(shop, "b.csv", range(100_000, 200_000))
    interrupted = 0
    for cut in (100_000, 400_000, 900_000):
        proxy.cut_after = cut
        try:
            interrupted += bool(run(shop).sources["sales"].files["interrupted"])
        except SourceUnavailable:
            interrupted += 1
        proxy.cut_after = None
        assert seen(shop) in ([], [1])
        time.sleep(0.5)
    assert interrupted == 3
    time.sleep(2)
    run(shop)
    assert seen(shop) == [1, *range(100_000, 200_000)]
    assert list((shop / "var/spool").iterdir()) == []


@pytest.mark.full
def test_quiet_hours_and_the_budget_of_bytes_are_kept(tmp_path, sftp_server) -> None:
    """A file comes no faster than is declared, and not at all within the quiet hours."""
    declare_sftp(tmp_path, sftp_server, sftp_server.port, more="budget: {bytes_per_s: 400000}")
    sell(tmp_path, "a.csv", range(100_000, 160_000))
    begun = time.monotonic()
    run(tmp_path)
    assert time.monotonic() - begun > (tmp_path / "drop/done/in/a.csv").stat().st_size / 400_000 * 0.8
    quiet = 'budget: {quiet_hours: {zone: UTC, windows: ["00:00-12:00", "12:00-00:00"]}}'
    declare_sftp(tmp_path, sftp_server, sftp_server.port, more=quiet)
    with pytest.raises(SourceUnavailable, match="left alone"):
        run(tmp_path)


KILLER = """
import os, random, signal, sys, time
from pathlib import Path

sys.path[:0] = sys.argv[1:3]
from test_files import run, sell
from brownfield.errors import SourceUnavailable

shop, kills, chance, number = Path(sys.argv[3]), int(sys.argv[4]), random.Random(7), 0
for _ in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            try:
                run(shop)
            except SourceUnavailable:
                pass
    until = time.monotonic() + chance.uniform(0.1, 0.9)
    while time.monotonic() < until:
        sell(shop, f"{number}.csv", range(number * 10, number * 10 + 10))
        number += 1
        time.sleep(chance.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(number)
"""


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["folder", "sftp"])
def test_f40_r05_runs_are_killed_and_each_line_is_taken_once(tmp_path, kind, request) -> None:
    """F-40, R-05: SIGKILL at any moment of claim, reading, commit and putting away: nothing lost, nothing twice."""
    if kind == "folder":
        declare(tmp_path)
    else:
        server = request.getfixturevalue("sftp_server")
        declare_sftp(tmp_path, server, server.port)
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    killer = subprocess.run(
        [sys.executable, "-c", KILLER, *folders, str(tmp_path), str(KILLS)], capture_output=True, check=True, text=True
    )
    number = int(killer.stdout)
    left = True
    while left:
        try:
            left = run(tmp_path).sources["sales"].rows_in > 0
        except SourceUnavailable:  # the server is spared for a while after so many connections that broke
            time.sleep(0.5)
    lines = seen(tmp_path)
    assert Counter(lines).most_common(1)[0][1] == 1
    assert lines == list(range(number * 10))
    assert number > KILLS
    assert list((tmp_path / "drop/in").iterdir()) == []
    assert list((tmp_path / "drop/work/in").iterdir()) == []
    assert len(list((tmp_path / "drop/done/in").iterdir())) == 2 * number
