"""A candidate that is right on the whole and wrong in one group of rows does not ship."""

import msgspec
import numpy as np
import pytest

from brownfield.fit import Candidate, Noise, Recipe, Row, Rows, SliceAccuracy, Verdict, Wanted, choose
from brownfield.fit.accuracy import compare
from brownfield.fit.slices import compare_slices
from brownfield.statistics import Interval

REGIONS = np.array(["north"] * 900 + ["south"] * 100)


@pytest.fixture
def rows() -> Rows:
    """A thousand rows, a tenth of them of the south."""
    return with_regions(Rows.from_tensors({"x": np.zeros((1000, 1), "f4")}, batched=True))


def with_regions(rows: Rows) -> Rows:
    """The rows with their region."""
    return Rows(rows.samples, rows.batched, slices={"region": REGIONS})


def answers(wrong):
    """One of two classes a row; a row of ``wrong`` has the other."""
    return [{"y": np.array([[1.0, 0.0]]) if row not in wrong else np.array([[0.0, 1.0]])} for row in range(1000)]


def test_each_value_is_compared_by_itself(rows) -> None:
    """Eight wrong rows of a hundred are eight in a hundred there, and none in the other region."""
    found = compare_slices(answers(()), answers(range(900, 908)), rows, metric="agreement", seed=0)
    assert [(each.field, each.value, each.rows) for each in found] == [
        ("region", "north", 900),
        ("region", "south", 100),
    ]
    assert [round(each.drop.value, 3) for each in found] == [0.0, 0.08]
    assert found[1].drop.upper > 0.15


def test_groups_stay_with_their_rows(rows) -> None:
    """Taking rows takes their groups, and other groups are other rows to a search."""
    part = rows.take(np.array([0, 999]))
    assert part.slices["region"].tolist() == ["north", "south"]
    other = Rows(rows.samples, rows.batched, slices={"region": REGIONS[::-1].copy()})
    assert other.digest != rows.digest


@pytest.mark.parametrize(
    ("wrong", "limits", "verdict", "reason"),
    [
        (range(900, 908), {}, "int8", "chosen"),
        (range(900, 908), {"region": 0.05}, "fp32", "not proven right in region 'south'"),
        (range(900, 940), {"region": 0.05}, "fp32", "wrong in region 'south'"),
        ((), {"region": 0.05}, "int8", "chosen"),
        ((), {"region": 0.02}, "fp32", "not proven right in region 'south'"),
    ],
    ids=["no-limit", "not-proven", "wrong", "right", "too-few-rows"],
)
def test_a_limit_in_a_group_is_kept_by_the_unfavourable_bound(rows, row_of, wrong, limits, verdict, reason) -> None:
    """Overall the loss is within the floor; the group decides, and too few rows of it prove nothing."""
    given = answers(wrong)
    int8 = Recipe(kind="static", calibrator="minmax")
    wanted = Wanted(max_drop=0.06, slices=limits)
    row = row_of(int8, ratio=0.5)
    row = msgspec.structs.replace(
        row,
        accuracy=compare(answers(()), given, rows, metric="agreement", seed=0),
        slices=compare_slices(answers(()), given, rows, metric="agreement", seed=0) if limits else (),
    )
    choice = choose([row_of(Recipe(kind="as_is"), ratio=1.0), row], wanted, Noise(ratio=1.0, steal_share=0.0))
    assert choice.verdict == Verdict.FITS
    assert ("fp32" if choice.chosen == "fp32" else "int8") == verdict
    assert choice.reasons[Candidate(recipe=int8).name].startswith(reason)


def test_a_group_in_words() -> None:
    """Where a field holds a strange text it stays one line."""
    each = SliceAccuracy(field="f", value="a\nb", rows=1, accuracy=1, drop=Interval(0.0, 0.0, 1.0))
    assert "\n" not in each.sentence
    assert isinstance(each, SliceAccuracy)
    assert Row(candidate=Candidate(), stage="final").slices == ()
