"""The reference page of access says what is there."""

import re
from pathlib import Path

from brownfield.security import PERMISSIONS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "access.md").read_text()


def test_the_table_of_roles_is_the_code_s():
    """Permissions and roles on the page are those that are enforced."""
    table = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|$", PAGE, re.MULTILINE))
    assert table == {name: ", ".join(sorted(roles)) for name, roles in PERMISSIONS.items()}
