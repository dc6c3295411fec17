"""The process for what takes a database or a reader of graphs: its errands, its refusals, its end."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest

from brownfield.errors import BundleRefused, StoreError
from brownfield.model import open_bundle
from brownfield.serving import clerk as clerk_module
from brownfield.serving.clerk import Answering, Clerk
from brownfield.store import open_store

pytestmark = pytest.mark.full


@pytest.fixture
def clerk(tmp_path):
    """One with a store of its own; its process is gone after the test."""
    with Clerk(tmp_path / "var" / "brownfield.db") as clerk:
        yield clerk


@pytest.fixture
def bundle(risk, tmp_path):
    return risk.write_model(tmp_path, "one", "1", risk.model())


def answering(digest, **changes):
    one = {"integration": "risk", "declaration": "d", "contract": "risk@1.0.0", "digest": digest}
    return Answering(**one, name="risk", version="1", probe={"load_s": 0.1}, **changes)


def test_a_bundle_is_verified_there_and_the_graphs_reader_stays_there(clerk, bundle):
    """The digest comes back, from a process that is not ours."""
    assert clerk.check(bundle) == open_bundle(bundle).digest
    assert clerk.pid not in {0, os.getpid()}


@pytest.mark.parametrize("tamper", ["model", "missing"])
def test_b62_a_bundle_is_refused_as_if_it_had_been_opened_here(clerk, bundle, tamper):
    """B-62: rule, place and words are the same, and the next errand is done by the same process."""
    if tamper == "model":
        (bundle / "model.onnx").write_bytes(b"no graph")
    else:
        (bundle / "manifest.json").unlink()
    with pytest.raises(BundleRefused) as here:
        open_bundle(bundle)
    with pytest.raises(BundleRefused) as there:
        clerk.check(bundle)
    assert vars(there.value) == vars(here.value)
    pid = clerk.pid
    assert clerk.admitted("risk") == []
    assert clerk.pid == pid


def test_what_answers_is_entered_once_for_each_bundle(clerk, tmp_path):
    """Admissions follow the digest; the audit log has an entry for each time, and its chain is sound."""
    for digest in ("a", "a", "b"):
        clerk.enter("brownfield serve", "workspace.served", (answering(digest),))
    clerk.append(actor="anonymous", action="model.loaded", subject="risk", detail={})
    assert clerk.admitted("risk") == ["a", "b"]
    with open_store(tmp_path / "var" / "brownfield.db") as store:
        entries = store.audit.entries(after=0, limit=10)
        assert [each.action for each in entries] == ["workspace.served"] * 3 + ["model.loaded"]
        assert store.audit.verify().sound


def test_requests_go_before_what_is_entered(clerk, bundle, tmp_path):
    """A bundle is verified before it is served, at full speed; what is served already is entered as there is time."""
    clerk.check(bundle)
    assert os.getpriority(os.PRIO_PROCESS, clerk.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    for _ in range(2):
        clerk.append(actor="a", action="model.loaded", subject="till", detail={})
        assert os.getpriority(os.PRIO_PROCESS, clerk.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
    group = Path(f"/proc/{clerk.pid}/autogroup")
    assert not group.exists() or group.read_text(encoding="ascii").endswith(" nice 10\n")
    assert os.getsid(clerk.pid) == clerk.pid  # its group is its own


def test_f63_a_store_that_cannot_be_written_is_a_refusal(tmp_path):
    """F-63: the error is the store's own, and the process lives on."""
    (tmp_path / "brownfield.db").mkdir()
    with Clerk(tmp_path / "brownfield.db") as clerk:
        with pytest.raises(StoreError, match=r"brownfield\.db"):
            clerk.append(actor="a", action="b", subject="c", detail={})
        assert psutil.pid_exists(clerk.pid)


def test_f14_a_killed_one_costs_its_errand_and_the_next_has_another(clerk, tmp_path):
    """F-14: the errand under way is refused, never done twice by itself."""
    entry = {"actor": "anonymous", "action": "model.loaded", "subject": "risk", "detail": {}}
    clerk.append(**entry)
    before = clerk.pid
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "brownfield.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        killing = threading.Timer(0.5, os.kill, (before, signal.SIGKILL))
        killing.start()
        with pytest.raises(StoreError, match="ended"):
            clerk.append(**entry)
    killing.join()
    clerk.append(**entry)
    assert clerk.pid != before
    with open_store(tmp_path / "var" / "brownfield.db") as store:
        assert len(store.audit.entries(after=0, limit=10)) == 2


def test_f14_one_that_dies_before_it_took_its_errand_costs_nothing(clerk, bundle):
    """F-14: nothing was begun, so another process does it."""
    clerk.check(bundle)
    before = clerk.pid
    os.kill(before, signal.SIGSTOP)
    killing = threading.Timer(0.2, os.kill, (before, signal.SIGKILL))
    killing.start()
    assert clerk.check(bundle)
    killing.join()
    assert clerk.pid != before


def test_f14_one_that_was_killed_while_it_had_nothing_to_do_costs_no_errand(clerk, bundle):
    """F-14: neither a reload is refused for it nor is an entry of the audit log lost."""
    clerk.check(bundle)
    before = clerk.pid
    os.kill(before, signal.SIGKILL)
    assert clerk.check(bundle)
    assert clerk.pid != before


def test_f13_one_that_hangs_while_it_has_nothing_to_do_is_not_waited_for(clerk, bundle, monkeypatch):
    """F-13: whoever ends it would hang as well, and with it every errand and every reload from then on."""
    monkeypatch.setattr(clerk_module, "_GONE_WITHIN_S", 0.1)
    clerk.check(bundle)
    hangs = clerk.pid
    os.kill(hangs, signal.SIGSTOP)
    resting = threading.Thread(target=clerk.rest, daemon=True)
    resting.start()
    resting.join(20)
    still = resting.is_alive()
    if still:
        os.kill(hangs, signal.SIGKILL)
    assert not still
    assert clerk.check(bundle) == open_bundle(bundle).digest
    assert clerk.pid not in {0, hangs}


def test_it_ends_with_whoever_needed_it(clerk, bundle):
    """It rests when it is told, unless it was needed just now; errands of several threads take turns."""
    threads = [threading.Thread(target=clerk.check, args=(bundle,)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    pid = clerk.pid
    clerk.rest(idle_s=3600)
    assert clerk.pid == pid
    clerk.rest()
    assert clerk.pid == 0
    assert not psutil.pid_exists(pid)


def test_f14_one_whose_asker_was_killed_meanwhile_ends_without_a_word(bundle):
    """F-14: a traceback in the log, for nothing that anybody could mend, is looked into by people."""
    command = [sys.executable, "-P", "-m", "brownfield.serving.clerk"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write(msgspec.json.encode({"type": "check", "folder": str(bundle)}) + b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
