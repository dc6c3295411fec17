"""Rows are cut, shared out and joined again."""

import numpy as np
import pytest

from brownfield.errors import DeclarationError
from brownfield.fit import Rows


def _rows(count: int, **more) -> Rows:
    return Rows.from_tensors({"x": np.arange(count * 2.0).reshape(count, 2)}, batched=True, **more)


@pytest.mark.parametrize("count", [2, 7, 20, 1000, 20_000])
def test_no_row_is_in_two_parts(count: int) -> None:
    """Whatever is calibrated with or searched by is not judged by."""
    parts = [{sample["x"].tobytes() for sample in part.samples} for part in _rows(count).split(3)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert len(parts[2]) > 0


def test_the_seed_alone_decides_the_split() -> None:
    """Equal seeds give equal parts, another seed others."""
    rows = _rows(100)
    assert rows.split(1).final.digest == rows.split(1).final.digest
    assert rows.split(1).final.digest != rows.split(2).final.digest


def test_labels_stay_with_their_rows() -> None:
    """A split moves both."""
    rows = _rows(50, labels=list(range(50)))
    for part in rows.split(0):
        assert [int(sample["x"][0, 0]) // 2 for sample in part.samples] == part.labels.tolist()


def test_a_row_of_a_graph_without_batches_keeps_its_own_shape() -> None:
    """The first dimension of the file counts rows, the graph does not see it."""
    rows = Rows.from_tensors({"x": np.zeros((3, 1, 5)), "rate": np.full(3, 16000)}, batched=False)
    assert (rows.samples[0]["x"].shape, rows.samples[0]["rate"].shape) == ((1, 5), ())


def test_columns_of_different_lengths_are_refused() -> None:
    """So are no rows at all."""
    with pytest.raises(DeclarationError, match="one length"):
        _rows(3, labels=[1])
    with pytest.raises(DeclarationError, match="at least one row"):
        _rows(0)
