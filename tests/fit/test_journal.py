"""A journal holds every complete measurement, whatever ended the process."""

from brownfield.fit.journal import Journal


def _journal(path, key="k") -> Journal:
    return Journal(path / "journal.jsonl", key)


def test_f02_a_torn_last_line_is_measured_again(tmp_path) -> None:
    """F-02: whatever byte the write ended at, the lines before are kept and the next append is whole."""
    journal = _journal(tmp_path)
    journal.add("screen", "fp32", {"ratio": 1.0})
    journal.add("screen", "int8", {"ratio": 0.5})
    journal.close()
    whole = (tmp_path / "journal.jsonl").read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for kept in range(len(last)):
        (tmp_path / "journal.jsonl").write_bytes(whole[: len(whole) - len(last) + kept])
        again = _journal(tmp_path)
        assert (again.resumed, again.get("screen", "int8", dict)) == (1, None)
        again.add("screen", "int8", {"ratio": 0.5})
        again.close()
        assert (tmp_path / "journal.jsonl").read_bytes() == whole


def test_another_search_begins_anew(tmp_path) -> None:
    """A journal of another model, other rows, limits, seed or machine is no help."""
    journal = _journal(tmp_path)
    journal.add("screen", "fp32", {"ratio": 1.0})
    journal.close()
    other = _journal(tmp_path, "other")
    assert (other.resumed, other.get("screen", "fp32", dict)) == (0, None)
    other.close()


def test_a_file_that_is_no_journal_is_begun_anew(tmp_path) -> None:
    """Zeros after a power cut are no measurements."""
    (tmp_path / "journal.jsonl").write_bytes(b"\0" * 100)
    journal = _journal(tmp_path)
    journal.add("noise", "fp32", 1)
    journal.close()
    again = _journal(tmp_path)
    again.close()
    assert again.resumed == 1
