"""The page on advice names every key of a price book with its own help, and no key that there is not."""

import re
from pathlib import Path

from brownfield.integration import MachinePrice, Price, PriceBook
from brownfield.integration.words import fields_of, help_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "fit-advice.md").read_text()


def test_every_key_of_a_price_book_stands_on_the_page() -> None:
    """Key and sentence are the code's own; the currency's sentence says how it is written."""
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.*) \|$", PAGE, re.MULTILINE))
    expected = {
        key: help_of(field.type) or "three capital letters"
        for spec in (PriceBook, Price, MachinePrice)
        for key, field in fields_of(spec).items()
    }
    assert rows == expected
