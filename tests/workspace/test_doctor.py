"""Backup and restore: what goes in comes out, nothing else gets in, and a restore is whole or not at all."""

import hashlib
import os
import shutil
import stat
import threading
import warnings
import zipfile
from contextlib import suppress
from itertools import count
from pathlib import Path

import msgspec
import pytest

from brownfield.errors import BrownfieldError, DeclarationError, FormatError, NotFound, StoreError
from brownfield.store import open_store, workspace_lock
from brownfield.testing import FakeClock
from brownfield.workspace.doctor import backup, complete_restore, examine, restore

pytestmark = pytest.mark.full


def make(folder, version):
    """Lay out a workspace whose every file says its version."""
    (folder / "integrations" / "shop" / "bundles" / "m").mkdir(parents=True)
    (folder / "legacy").mkdir()
    (folder / "brownfield.yaml").write_text(f"workspace: shop  # {version}\n")
    (folder / "integrations" / "shop" / "integration.yaml").write_text(f"# {version}\n")
    (folder / "integrations" / "shop" / "bundles" / "m" / "model.onnx").write_bytes(version.encode() * 1000)
    (folder / "integrations" / "shop" / f"only-{version}.csv").write_text("")
    (folder / "legacy" / "pos.db").write_text("legacy")
    with open_store(folder / "var" / "brownfield.db", clock=FakeClock()) as store:
        store.ledger.advance("shop", "baskets", version, previous=None)
    return folder


def state(folder):
    """Every version that is found in a workspace, and the legacy file."""
    found = {(folder / "brownfield.yaml").read_text().split("# ")[1].strip()}
    shop = folder / "integrations" / "shop"
    found.add((shop / "integration.yaml").read_text().split("# ")[1].strip())
    found.add((shop / "bundles" / "m" / "model.onnx").read_bytes()[:3].decode())
    found |= {path.stem.removeprefix("only-") for path in shop.glob("only-*.csv")}
    with open_store(folder / "var" / "brownfield.db", clock=FakeClock()) as store:
        found.add(store.ledger.position("shop", "baskets"))
    assert (folder / "legacy" / "pos.db").read_text() == "legacy"
    return found


@pytest.fixture
def workspace(tmp_path):
    """A workspace of today."""
    return make(tmp_path / "shop", "new")


@pytest.fixture
def saved(tmp_path):
    """A backup of the workspace as it was."""
    old = make(tmp_path / "before", "old")
    backup(old, tmp_path / "saved.zip", clock=FakeClock())
    shutil.rmtree(old)
    return tmp_path / "saved.zip"


def test_a_backup_comes_back_and_the_replaced_state_is_kept(workspace, saved, tmp_path):
    """Declarations, bundles and store are those of the backup; legacy data is untouched; the old state lies aside."""
    done = restore(workspace, saved, clock=FakeClock())
    assert state(workspace) == {"old"}
    aside = Path(done.replaced)
    assert aside == workspace / "var" / "replaced" / "20260101T000000.000000Z" / "old"
    assert (aside / "brownfield.yaml").read_text() == "workspace: shop  # new\n"
    assert (aside / "integrations" / "shop" / "only-new.csv").exists()
    with open_store(aside / "var" / "brownfield.db", clock=FakeClock()) as store:
        assert store.ledger.position("shop", "baskets") == "new"
    assert not (workspace / ".restore").exists()
    assert done.made_utc == "2026-01-01T00:00:00Z"
    assert "restored the backup of 2026-01-01" in str(done)


def test_a_lost_workspace_is_made_anew(saved, tmp_path):
    """On a new machine the backup alone gives declarations, bundles and store."""
    restore(tmp_path / "fresh", saved)
    assert (tmp_path / "fresh" / "brownfield.yaml").read_text() == "workspace: shop  # old\n"
    with open_store(tmp_path / "fresh" / "var" / "brownfield.db") as store:
        assert store.ledger.position("shop", "baskets") == "old"


def test_a_workspace_without_a_store_is_backed_up_too(tmp_path):
    """Before the first run there are only declarations; restoring them leaves no store of another time behind."""
    workspace = make(tmp_path / "shop", "new")
    bare = make(tmp_path / "bare", "old")
    shutil.rmtree(bare / "var")
    assert backup(bare, tmp_path / "bare.zip").files == 4
    restore(workspace, tmp_path / "bare.zip")
    assert not (workspace / "var" / "brownfield.db").exists()


def test_a_backup_under_load_is_consistent(workspace, tmp_path):
    """While a writer goes on, the copy is one moment of the store: counts and position agree."""
    stop = threading.Event()

    def write():
        with open_store(workspace / "var" / "brownfield.db") as store:
            at = store.ledger.position("shop", "baskets")
            for number in count(1):
                if stop.is_set():
                    return
                with store.commit() as tx:
                    tx.ledger.advance("shop", "baskets", number, previous=at)
                    tx.audit.append(actor="w", action="advance", subject=str(number))
                at = number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            backup(workspace, tmp_path / f"{number}.zip")
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        restore(tmp_path / f"copy{number}", tmp_path / f"{number}.zip")
        with open_store(tmp_path / f"copy{number}" / "var" / "brownfield.db") as store:
            verdict = store.audit.verify()
            assert verdict.sound
            assert store.ledger.position("shop", "baskets") in {verdict.entries, "new"}


def test_s37_backup_and_restored_files_are_private(workspace, saved, tmp_path):
    """S-37: a backup holds quarantined bytes, so only its owner may read it, or what comes out of it."""
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    restore(tmp_path / "fresh", saved)
    for path in (tmp_path / "fresh").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_backup_goes_where_nothing_was(saved, tmp_path):
    """Nothing was replaced in a new folder, so no place is named where it lies."""
    done = restore(tmp_path / "new", saved)
    assert (done.replaced, "before lies" in str(done)) == ("", False)
    assert (tmp_path / "new" / "brownfield.yaml").is_file()


def test_a_served_workspace_is_not_replaced(workspace, saved):
    """A server holds the workspace: restoring under it would answer with half of each."""
    with workspace_lock(workspace), pytest.raises(StoreError, match="served already"):
        restore(workspace, saved)
    assert state(workspace) == {"new"}


def test_what_cannot_be_backed_up_is_refused(workspace, tmp_path):
    """No folder of ours, a target that exists, or a link inside: the message says which."""
    with pytest.raises(NotFound, match="no workspace"):
        backup(tmp_path, tmp_path / "x.zip")
    (tmp_path / "x.zip").write_text("precious")
    with pytest.raises(DeclarationError, match="exists already"):
        backup(workspace, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_text() == "precious"
    (workspace / "integrations" / "link").symlink_to("/etc/hostname")
    with pytest.raises(DeclarationError, match="link"):
        backup(workspace, tmp_path / "y.zip")
    with pytest.raises(NotFound):
        restore(workspace, tmp_path / "z.zip")


def test_a_store_that_is_torn_or_too_new_is_not_restored(workspace, saved, tmp_path):
    """The store inside a backup is checked before anything is moved."""
    for content in (b"SQLite format 3\0 torn", b""):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            fill(archive, {"brownfield.yaml": b"workspace: shop\n", "var/brownfield.db": content})
        with pytest.raises(StoreError, match="torn"):
            restore(workspace, tmp_path / "bad.zip")
        (tmp_path / "bad.zip").unlink()
    assert state(workspace) == {"new"}
    assert not (workspace / ".restore").exists()


def fill(archive, files, manifest=None):
    """Write members and a manifest that fits them, as a backup of ours looks."""
    for name, content in files.items():
        archive.writestr(info(name), content)
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    body = {"format": 1, "made_utc": "x", "brownfield": "0", "files": listed, **(manifest or {})}
    archive.writestr(info("manifest.json"), msgspec.json.encode(body))


def info(name, mode=stat.S_IFREG | 0o600, compress=zipfile.ZIP_STORED):
    """Header of a member."""
    header = zipfile.ZipInfo("placeholder")
    header.filename = name
    header.external_attr = mode << 16
    header.compress_type = compress
    return header


GOOD = {"brownfield.yaml": b"workspace: shop\n", "integrations/a/x.csv": b"1\n"}


@pytest.mark.parametrize(
    "name",
    [
        "integrations/../../evil", "/etc/evil", "integrations/..", "..", "integrations\\..\\evil", "C:/evil",
        "integrations//evil", "integrations/./evil", "integrations/a/", "integrations/nul\u202e", "var/serve.lock",
        "legacy/pos.db", "integrations/a:b", "", "INTEGRATIONS/a/x.csv", "Brownfield.yaml",
    ],
)  # fmt: skip
def test_b60_members_with_odd_names_are_refused(workspace, tmp_path, name):
    """B-60: traversal, absolute, backslash, drive, device, invisible, foreign and case-twin names are refused."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        fill(archive, {**GOOD, name: b"evil"})
    refused(workspace, tmp_path / "evil.zip")


def refused(workspace, path):
    """Restoring this changes nothing, inside the workspace or beside it."""
    before = sorted(str(each) for each in workspace.parent.rglob("*") if "serve.lock" not in each.name)
    with pytest.raises(FormatError, match="not a sound backup"):
        restore(workspace, path)
    assert sorted(str(each) for each in workspace.parent.rglob("*") if "serve.lock" not in each.name) == before
    assert state(workspace) == {"new"}


def _zip(path, build):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of doubled names
        build(archive)


def _twice(archive):
    archive.writestr(info("integrations/a/x.csv"), b"2\n")
    fill(archive, GOOD)


def _link(archive):
    archive.writestr(info("integrations/link", stat.S_IFLNK | 0o777), b"/etc/passwd")
    fill(archive, GOOD)


def _twin(archive):
    fill(archive, {**GOOD, "integrations/caf\u00e9": b"", "integrations/cafe\u0301": b""})


def _bomb(archive):
    archive.writestr(info("integrations/bomb", compress=zipfile.ZIP_DEFLATED), bytes(10**6))
    fill(archive, GOOD)


def _comment(archive):
    fill(archive, GOOD)
    archive.comment = b"behind the end"


BUILDERS = {
    "duplicate": _twice,
    "symlink": _link,
    "unicode-twins": _twin,
    "ratio": _bomb,
    "comment": _comment,
    "no-manifest": lambda archive: archive.writestr(info("brownfield.yaml"), b""),
    "empty": lambda _: None,
    "no-workspace": lambda archive: fill(archive, {"integrations/a": b""}),
    "unlisted": lambda archive: (archive.writestr(info("integrations/more"), b""), fill(archive, GOOD)),
    "missing": lambda archive: fill(archive, GOOD, {"files": {"brownfield.yaml": {"bytes": 16, "sha256": "0"}}}),
    "digest": lambda archive: fill(
        archive, {"brownfield.yaml": b"1"}, {"files": {"brownfield.yaml": {"bytes": 1, "sha256": "0" * 64}}}
    ),
    "format": lambda archive: fill(archive, GOOD, {"format": 2}),
    "extra-key": lambda archive: fill(archive, GOOD, {"run": "me"}),
    "huge": lambda archive: fill(archive, GOOD, {"files": {name: {"bytes": 2**60, "sha256": "0"} for name in GOOD}}),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_b60_archives_that_we_do_not_write_are_refused(workspace, tmp_path, build):
    """B-60: doubled and twin names, links, compression, comments, and members other than the manifest's are refused."""
    _zip(tmp_path / "evil.zip", build)
    refused(workspace, tmp_path / "evil.zip")


@pytest.mark.parametrize("change", ["before", "behind", "cut", "empty", "text"])
def test_b60_bytes_around_the_archive_are_refused(workspace, saved, change):
    """B-60: data before the first member or behind the end, and torn files, are refused."""
    whole = saved.read_bytes()
    saved.write_bytes(
        {"before": b"x" + whole, "behind": whole + b"x", "cut": whole[:-30], "empty": b"", "text": b"hello"}[change]
    )
    refused(workspace, saved)


def test_every_flipped_byte_of_a_small_backup_is_harmless(workspace, tmp_path):
    """Whichever byte of a backup is flipped, it is refused, or what comes out is what went in."""
    _zip(tmp_path / "small.zip", lambda archive: fill(archive, GOOD))
    whole = (tmp_path / "small.zip").read_bytes()
    accepted = 0
    for at in range(0, len(whole), 5):
        (tmp_path / "small.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        target = tmp_path / f"t{at}"
        try:
            restore(target, tmp_path / "small.zip")
        except BrownfieldError:
            continue
        accepted += 1
        assert (target / "brownfield.yaml").read_bytes() == GOOD["brownfield.yaml"]
        assert (target / "integrations" / "a" / "x.csv").read_bytes() == GOOD["integrations/a/x.csv"]
        shutil.rmtree(target)
    assert accepted < len(whole) / 10


class Killed(BaseException):
    """The process ends here."""


OPERATIONS = [(os, "fsync"), (Path, "rename"), (Path, "replace"), (Path, "mkdir"), (os, "open")]


def breaks(monkeypatch, n, failure):
    """Let the n-th call that changes a file or folder fail, and every one after it too when the process was killed."""
    calls = count(1)

    def breaking(real):
        def call(*arguments, **options):
            number = next(calls)
            if number == n or (number > n and failure is Killed):
                raise failure() if failure is Killed else OSError(5, "Input/output error")
            return real(*arguments, **options)

        return call

    for owner, name in OPERATIONS:
        monkeypatch.setattr(owner, name, breaking(getattr(owner, name)))
    return calls


@pytest.mark.parametrize("failure", [Killed, OSError], ids=["killed", "io-error"])
def test_f60_a_restore_that_breaks_leaves_old_or_new(workspace, saved, monkeypatch, failure, tmp_path):
    """F-60, F-40: broken at any step, the workspace is the old one, or none until it is completed to the new one."""
    outcomes = set()
    for n in count(1):
        trial = tmp_path / "trial"
        shutil.copytree(workspace, trial)
        with monkeypatch.context() as patch:
            calls = breaks(patch, n, failure)
            with suppress(Killed, StoreError):
                restore(trial, saved)
            done = next(calls) <= n
        declared = (trial / "brownfield.yaml").exists()
        if declared:
            assert state(trial) in ({"old"}, {"new"}), n
        completed = complete_restore(trial)
        assert completed or declared
        assert state(trial) in ({"old"}, {"new"}), n
        outcomes.add((declared, completed, *state(trial)))
        restore(trial, saved)
        assert state(trial) == {"old"}
        shutil.rmtree(trial)
        if done:
            break
    assert {(True, False, "new"), (False, True, "old"), (True, False, "old")} <= outcomes


def test_f60_a_backup_that_breaks_leaves_nothing(workspace, monkeypatch, tmp_path):
    """F-60: a disk that refuses ends the backup with a clear error, and no half-written file is there."""
    target = tmp_path / "b.zip"
    for n in range(1, 40):
        with monkeypatch.context() as patch:
            calls = breaks(patch, n, OSError)
            with suppress(StoreError):
                backup(workspace, target)
            done = next(calls) <= n
        if target.exists():
            restore(tmp_path / f"copy{n}", target)
            target.unlink()
        shown = {path.name for path in tmp_path.iterdir() if not path.name.startswith((".backup-", "copy"))}
        assert shown == {"shop"}
        if done:
            return
    pytest.fail("the n-th failure never stopped failing")


def test_examining_reads_host_and_store(workspace, tmp_path):
    """The doctor names the store's revision and the host's cores; a torn store is an error with the way out."""
    found = examine(workspace)
    assert found.store.current == found.store.target
    assert f"revision {found.store.target}, whole" in str(found)
    assert "none yet" in str(examine(tmp_path))
    path = workspace / "var" / "brownfield.db"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="doctor --restore"):
        examine(workspace)


def test_what_a_host_has_is_said_in_plain_words(tmp_path) -> None:
    """``yes``, ``no`` and ``none``, not the words of the language that it is written in."""
    told = str(examine(tmp_path)).splitlines()
    assert not any(line.endswith((": None", ": True", ": False")) for line in told)
    assert "seccomp: yes" in told or "seccomp: no" in told
