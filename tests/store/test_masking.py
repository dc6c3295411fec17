"""Values by their pattern."""

from hypothesis import given
from hypothesis import strategies as st

from brownfield.store import is_masked, mask_value

ANYTHING = st.none() | st.text() | st.integers() | st.floats() | st.binary(max_size=5) | st.lists(st.text(), max_size=3)


@given(value=st.text(min_size=1))
def test_no_letter_or_digit_survives_but_the_pattern(value):
    """S-19: of a masked text only x, X, 9 and plain punctuation are left, and never more than 35 characters."""
    masked = mask_value(value, "pii")
    assert len(masked) <= 35
    assert all(character in "xX9?" or not character.isalnum() for character in masked)
    assert masked.isascii()
    assert masked.isprintable()


@given(value=ANYTHING)
def test_open_values_are_left_alone(value):
    """What is not classified is kept as it is."""
    assert mask_value(value, "public") is value


@given(word=st.text())
def test_an_unknown_class_masks(word):
    """A word that is not known to be open masks."""
    assert is_masked(word) == (word.strip().lower() not in {"", "public", "internal", "none"})


def test_lists_and_bytes_are_masked_inside():
    """Lists are masked item by item, bytes to their length."""
    assert mask_value(["Ann", None, 12], "pii") == ["Xxx", None, "99"]
    assert mask_value(b"Ann", "pii") == "3 bytes"
