"""What holds for every folder, near or far: the same calls, the same refusals, no way out of it."""

import os

import pytest

from brownfield.data.folders import inside, matching
from brownfield.errors import DeclarationError


def test_what_is_written_is_read_listed_and_moved(folder, root) -> None:
    """Bytes, sizes and names are the same near and far; a folder in it is listed apart."""
    with folder.opened() as files:
        files.make("a/b")
        files.write("a/b/c.txt", [b"one", b"", b"two"])
        files.sync("a/b")
        with files.read("a/b/c.txt") as stream:
            assert (stream.read(), stream.seek(3), stream.read()) == (b"onetwo", 3, b"two")
        files.move("a/b/c.txt", "a/d.txt")
        assert [(entry.path, entry.size_bytes) for entry in files.files("a")] == [("a/d.txt", 6)]
        assert files.folders("a") == ["b"]
        assert files.look("a/b/c.txt") is None
        assert abs(files.look("a/d.txt").mtime_ns - (root / "a/d.txt").stat().st_mtime_ns) < 1_000_000_000
        files.remove("a/d.txt")
    assert [path.name for path in root.rglob("*")] == ["a", "b"]


def test_a_large_file_comes_whole(folder, root) -> None:
    """Several portions follow each other in their order."""
    content = os.urandom(3_000_000)
    with folder.opened() as files:
        files.write("large", [content[:1_500_001], content[1_500_001:]])
        with files.read("large") as stream:
            assert stream.read() == content
    assert (root / "large").read_bytes() == content


def test_a_move_replaces_nothing(folder, root) -> None:
    """A name that is taken is refused, a file that is gone is said to be gone, and both stay as they are."""
    (root / "old").write_text("1")
    (root / "new").write_text("2")
    with folder.opened() as files:
        with pytest.raises(FileExistsError):
            files.move("old", "new")
        with pytest.raises(FileNotFoundError):
            files.move("gone", "elsewhere")
    assert ((root / "old").read_text(), (root / "new").read_text()) == ("1", "2")


def test_a_file_that_cannot_be_written_leaves_no_name(folder, root) -> None:
    """What breaks off while it is written is abandoned as a whole."""

    def broken():
        yield b"half"
        raise RuntimeError("no more")

    with folder.opened() as files, pytest.raises(RuntimeError):
        files.write("half.txt", broken())
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/hostname", "a\0b"], ids=lambda path: f"B-76-{path!r}")
def test_b76_no_path_leads_out(folder, path) -> None:
    """B-76: dots, absolute paths and NUL are refused by every call that takes a path."""
    with folder.opened() as files:
        for call in (files.look, files.resolve, lambda path: files.read(path).__enter__(), files.remove, files.make):
            with pytest.raises(DeclarationError, match="inside the folder"):
                call(path)
        for call in (lambda: files.write(path, [b""]), lambda: files.move(path, "y"), lambda: files.move("y", path)):
            with pytest.raises(DeclarationError, match="inside the folder"):
                call()


def test_b76_links_are_passed_over_and_not_followed(folder, root, tmp_path) -> None:
    """B-76: a link to a file is not listed or read, and nothing is written behind a link to a folder."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/a.csv").write_text("secret")
    (root / "in").mkdir()
    (root / "in/link.csv").symlink_to(tmp_path / "secret/a.csv")
    (root / "way").symlink_to(tmp_path / "secret")
    with folder.opened() as files:
        assert matching(files, "*/*.csv") == []
        for path in ("in/link.csv", "way/a.csv"):
            with pytest.raises(OSError), files.read(path):
                pass
        with pytest.raises(OSError):
            files.write("way/b.csv", [b"x"])
        with pytest.raises(OSError):
            files.make("way/below")
        with pytest.raises(DeclarationError, match="inside the folder"):
            files.resolve("in/link.csv")
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["a.csv"]


def test_a_link_within_the_folder_is_resolved(folder, root) -> None:
    """A name such as ``current.csv`` may lead to a file beside it."""
    (root / "2026.csv").write_text("x")
    (root / "current.csv").symlink_to("2026.csv")
    with folder.opened() as files:
        assert files.resolve("current.csv") == "2026.csv"


def test_patterns_match_within_one_part(folder, root) -> None:
    """Stars do not cross folders, hidden names never match, and the order is that of the paths."""
    for path in ("b.csv", "a.csv", ".hidden.csv", "in/c.csv", "in/deep/d.csv", ".stage/e.csv", "a.txt", "[x].csv"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    with folder.opened() as files:
        found = {
            pattern: [each.path for each in matching(files, pattern)] for pattern in ("*.csv", "*/*.csv", "[ab].*")
        }
        assert found == {
            "*.csv": ["[x].csv", "a.csv", "b.csv"],
            "*/*.csv": ["in/c.csv"],
            "[ab].*": ["a.csv", "a.txt", "b.csv"],
        }
        assert [each.path for each in matching(files, "[x].csv")] == ["[x].csv"]


def test_a_plain_path_is_inside() -> None:
    """What stays below the folder is given back as it is."""
    assert inside("in/claims.csv") == "in/claims.csv"
