"""Private files, written whole."""

import stat

import pytest

from brownfield.errors import StoreError
from brownfield.store import private_folder, workspace_lock, write_private


def test_s37_missing_folders_are_made_private_and_others_left(tmp_path):
    """S-37: only what is created gets the mode."""
    tmp_path.chmod(0o755)
    made = private_folder(tmp_path / "a" / "b")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path, made.parent, made)] == [0o755, 0o700, 0o700]


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    """F-60: readers see the old content or the new, and no half-written file stays."""
    path = tmp_path / "state"
    write_private(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_process_at_a_time_holds_a_workspace(tmp_path):
    """The second is refused with what to do, and gets it when the first lets go."""
    with workspace_lock(tmp_path), pytest.raises(StoreError, match="served already"), workspace_lock(tmp_path):
        pass
    with workspace_lock(tmp_path):
        pass
