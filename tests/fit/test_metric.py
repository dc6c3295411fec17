"""The site's own metric."""

import numpy as np
import pytest

from brownfield.errors import DeclarationError
from brownfield.fit import Rows
from brownfield.fit.accuracy import compare
from brownfield.fit.metric import Metric, scores

HALF = """
import numpy as np

def half_right(outputs, truth):
    return 0.5 * float(np.array_equal(outputs["y"].ravel(), truth)) + 0.5
"""
ANSWERS = [{"y": np.array([[1, 2]])}, {"y": np.array([[3, 4]])}, {"y": np.array([[5, 6]])}]
TRUTH = np.array([[1, 2], [3, 0], [5, 6]])


@pytest.mark.full
def test_a_function_of_the_site_scores_each_row() -> None:
    """Outputs and truth of each row reach the function, and its score comes back for that row."""
    assert scores(Metric(name="half_right", code=HALF), ANSWERS, TRUTH).values.tolist() == [1.0, 0.5, 1.0]


@pytest.mark.full
@pytest.mark.parametrize(
    "body",
    [
        "return float(open('/etc/passwd').read(1) == 'r')",
        "import socket; socket.socket(); return 1.0",
        "import subprocess; subprocess.run(['true']); return 1.0",
        "open('/tmp/of-a-metric', 'w'); return 1.0",
        "return 1.5",
        "return float('nan')",
        "return None",
        "raise KeyError(truth)",
    ],
)
def test_a_row_without_a_share_is_nan(body: str) -> None:
    """What raises, leaves the range or reaches for files, sockets and programs gives no score."""
    metric = Metric(name="mine", code=f"def mine(outputs, truth):\n    {body}\n")
    assert np.isnan(scores(metric, ANSWERS, TRUTH).values).all()


@pytest.mark.full
@pytest.mark.parametrize(
    ("code", "got"),
    [
        ("", "a file without a function mine"),
        ("def other(outputs, truth): return 1.0", "a file without a function mine"),
        ("mine = 1", "a file without a function mine"),
        ("import os\n1 +", "SyntaxError in line 2 when the file was read"),
        ("import os\n\nos.gone", "AttributeError in line 3 when the file was read"),
        ("raise SystemExit(0)", "a file that ends its process"),
    ],
)
def test_a_file_without_the_function_is_refused(code: str, got: str) -> None:
    """A file that does not run, or lacks the function, ends the search with the key and the line."""
    with pytest.raises(DeclarationError, match=rf"constraints\.accuracy\.file: .*{got}"):
        scores(Metric(name="mine", code=code), ANSWERS, TRUTH)


@pytest.mark.full
def test_compare_counts_a_row_that_cannot_be_judged_as_lost() -> None:
    """A candidate's answer in which the function finds nothing costs the whole row; bounds are those of the scores."""
    rows = Rows.from_tensors({"x": np.zeros((3, 1), dtype="f4")}, batched=True, labels=TRUTH.tolist())
    metric = Metric(name="half_right", code=HALF)
    other = [*ANSWERS[:2], {"z": np.array([[5, 6]])}]
    candidate = [{"y": answer.get("y", np.array([["?", "?"]]))} for answer in other]
    same = compare(ANSWERS, ANSWERS, rows, metric=metric, seed=0)
    assert (same.metric, same.value, same.drop.value) == ("half_right", pytest.approx(2.5 / 3), 0.0)
    worse = compare(ANSWERS, candidate, rows, metric=metric, seed=0)
    assert worse.drop.value == pytest.approx(0.5 / 3)


@pytest.mark.full
def test_a_metric_that_cannot_judge_fp32_is_refused() -> None:
    """Where the function gives no share for the fp32 model's own answers nothing can be judged."""
    rows = Rows.from_tensors({"x": np.zeros((3, 1), dtype="f4")}, batched=True, labels=TRUTH.tolist())
    metric = Metric(name="mine", code="def mine(outputs, truth): return float(truth[1])")
    with pytest.raises(DeclarationError, match=r"none for 2 of 3 rows \(first: no number from 0 to 1 at row 0\)"):
        compare(ANSWERS, ANSWERS, rows, metric=metric, seed=0)


@pytest.mark.full
def test_a_metric_that_raises_is_told_by_its_error() -> None:
    """By type and line of the file; not by the text, which may hold a record's value, and not by what it printed."""
    code = "def mine(outputs, truth):\n    print('canary')\n    return share(truth)\n\ndef share(truth):\n"
    rows = Rows.from_tensors({"x": np.zeros((3, 1), dtype="f4")}, batched=True, labels=TRUTH.tolist())
    metric = Metric(name="mine", code=f"{code}    raise KeyError(f'canary {{truth}}')\n", file="mine.py")
    with pytest.raises(DeclarationError) as refused:
        compare(ANSWERS, ANSWERS, rows, metric=metric, seed=0)
    assert (refused.value.where, refused.value.path) == ("mine.py", "constraints.accuracy.file")
    assert refused.value.got == "none for 3 of 3 rows (first: KeyError in line 6 at row 0)"
