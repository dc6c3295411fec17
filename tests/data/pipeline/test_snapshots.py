"""The last good copies of a lookup under failing disks, kills, torn files and quotas."""

import base64
import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from brownfield.contract import Field, Schema
from brownfield.data.pipeline.snapshots import Seal, Snapshots, describe, lost_keys
from brownfield.errors import DecryptionFailed, SourceUnavailable, StoreError
from brownfield.security import EncryptionKey, Keyring, Secret, decrypt, encrypt

SCHEMA = Schema(
    "people",
    (Field(name="id", kind="integer", dtype="int64"), Field(name="name", kind="string", classification="pii")),
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def people(*names):
    """A table of people."""
    return pa.table({"id": list(range(len(names))), "name": pa.array(names, pa.string())})


def keep(snapshots, rows, state="PRIMARY"):
    """Keep a copy."""
    facts = {
        **describe(rows, SCHEMA, ("id",)),
        "contract": "people@1.0.0",
        "contract_digest": "00",
        "as_of_utc": NOON,
        "taken_utc": NOON,
        "state": state,
        "position": None,
    }
    return snapshots.write(rows, facts)


def test_the_newest_whole_copy_is_the_last_good_one(tmp_path):
    """Copies come back as they were kept, with their manifest; two are kept, and nothing else lies there."""
    snapshots = Snapshots(tmp_path)
    for names in (("a",), ("a", "b"), ("a", "b", None)):
        keep(snapshots, people(*names))
    manifest, rows = snapshots.last_good()
    assert rows.equals(people("a", "b", None))
    assert (manifest.rows, manifest.bounds, round(manifest.null_percent["name"])) == (3, {"id": ("0", "2")}, 33)
    assert (manifest.contract, manifest.as_of_utc, manifest.state) == ("people@1.0.0", NOON, "PRIMARY")
    names = {path.name for path in tmp_path.iterdir() if path.name != ".lock"}
    assert names == {"000002.json", "000002.parquet", "000003.json", "000003.parquet"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_an_unchanged_pull_takes_no_place_of_an_older_copy(tmp_path):
    """Equal rows make the same copy younger, so that the one before stays."""
    snapshots = Snapshots(tmp_path)
    for rows in (people("a"), people("a", "b"), people("a", "b"), people("a", "b")):
        keep(snapshots, rows)
    assert [each.rows for each in snapshots.manifests()] == [2, 1]


def test_without_a_copy_there_is_none(tmp_path):
    """A lookup that was never kept is told as out of reach."""
    with pytest.raises(SourceUnavailable, match="no good copy"):
        Snapshots(tmp_path / "none").last_good()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_f61_a_torn_copy_is_passed_over(tmp_path, kind, share):
    """F-61: with file or manifest cut at any place, the copy before is the last good one."""
    snapshots = Snapshots(tmp_path)
    keep(snapshots, people("a"))
    keep(snapshots, people("a", "b"))
    torn = tmp_path / f"000002.{kind}"
    torn.write_bytes(torn.read_bytes()[: int(torn.stat().st_size * share)])
    assert snapshots.last_good()[1].equals(people("a"))


@pytest.mark.parametrize("operation", ["open", "fsync", "replace"])
def test_f60_the_nth_failure_leaves_a_good_copy(tmp_path, monkeypatch, operation):
    """F-59, F-60: whichever step fails, the last good copy is the old one or the new one, whole; the next try heals."""
    holder = Path if operation == "replace" else os
    real = getattr(holder, operation)
    failures = 0
    for nth in count(1):
        snapshots = Snapshots(tmp_path / str(nth))
        keep(snapshots, people("old"))
        calls = iter(range(1, 1_000))

        def failing(*args, nth=nth, calls=calls, **options):
            if next(calls) == nth:
                raise OSError(28, "No space left on device")
            return real(*args, **options)

        monkeypatch.setattr(holder, operation, failing)
        try:
            keep(snapshots, people("new", "newer"))
            failed = False
        except StoreError:
            failed = True
            failures += 1
        monkeypatch.setattr(holder, operation, real)
        assert snapshots.last_good()[1].num_rows in ({1, 2} if failed else {2})
        keep(snapshots, people("new", "newer"))
        assert snapshots.last_good()[1].equals(people("new", "newer"))
        if not failed:
            break
    assert failures >= 2


@pytest.mark.full
def test_a_quota_is_kept_and_the_copy_before_stays(tmp_path):
    """A copy above the quota is refused as a whole; older ones go first when together they are too large."""
    small = Snapshots(tmp_path, keep=100, max_mib=1)
    keep(small, people("a"))
    large = pa.table({"id": range(300_000), "name": [os.urandom(6).hex() for _ in range(300_000)]})
    with pytest.raises(StoreError, match="MiB"):
        keep(small, large)
    assert small.last_good()[1].equals(people("a"))


def test_classified_copies_are_encrypted_and_tell_nothing(tmp_path):
    """With a key the file holds no value in clear, opens again, and not under another name or key."""

    def seal(key):
        ring = Keyring([EncryptionKey(Secret(base64.b64encode(key).decode()))])
        return Seal(
            lambda content, name: encrypt(content, ring.active, f"lookups/x/{name}"),
            lambda content, name: decrypt(content, ring, f"lookups/x/{name}"),
        )

    sealed = Snapshots(tmp_path, seal=seal(bytes(32)))
    keep(sealed, people("canary-4711"))
    assert all(b"canary-4711" not in path.read_bytes() for path in tmp_path.iterdir())
    assert sealed.last_good()[1].equals(people("canary-4711"))
    with pytest.raises(DecryptionFailed):
        Snapshots(tmp_path, seal=seal(bytes(range(32)))).last_good()
    with pytest.raises(SourceUnavailable):
        Snapshots(tmp_path).last_good()


def test_keys_that_are_gone_are_counted():
    """A key counts as lost when it was there and is no more, whatever else came."""
    assert lost_keys(people("a", "b", "c"), people("x"), ("id",)) == 2
