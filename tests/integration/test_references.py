"""Settings by reference: read where they stand, never repeated."""

from pathlib import Path

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import Reference, read_reference


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable gives its value as it is."""
    monkeypatch.setenv("BF_TEST_TOKEN", " a b ")
    assert read_reference(Reference(env="BF_TEST_TOKEN"), Path()) == " a b "


def test_file(tmp_path: Path) -> None:
    """A file gives its text without the last line end, from the workspace or from anywhere."""
    (tmp_path / "token").write_bytes(b"geheim\r\n")
    assert read_reference(Reference(file="token"), tmp_path) == "geheim"
    assert read_reference(Reference(file=str(tmp_path / "token")), Path("/nowhere")) == "geheim"


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"", "expected a value"), (b"\n", "expected a value"), (b"\xff\xfe", "not UTF-8"), (b"x" * 70_000, "at most")],
)
def test_unusable_files(tmp_path: Path, content: bytes, part: str) -> None:
    """An empty, broken or huge file is refused, naming the file and nothing of its content."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(DeclarationError, match=part) as refused:
        read_reference(Reference(file="token"), tmp_path)
    assert str(refused.value).startswith("file token")


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is refused with its name."""
    monkeypatch.delenv("BF_TEST_TOKEN", raising=False)
    with pytest.raises(DeclarationError, match="environment variable BF_TEST_TOKEN"):
        read_reference(Reference(env="BF_TEST_TOKEN"), tmp_path)
    with pytest.raises(DeclarationError, match="No such file"):
        read_reference(Reference(file="token"), tmp_path)
