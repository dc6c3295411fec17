"""The reference page of the queues says what is there."""

import re
from pathlib import Path

from brownfield.data.brokers import base
from brownfield.integration import DEFAULT, BrokerConnection

PAGE = (Path(__file__).parents[4] / "docs/reference/queues.md").read_text(encoding="utf-8")


def test_every_broker_and_header_stands_on_the_page() -> None:
    """Each kind of broker and each header of ours is named."""
    kinds = {name for name, options in DEFAULT.connections.items() if issubclass(options, BrokerConnection)}
    assert kinds == {"mqtt", "nats", "rabbitmq", "redis"}
    assert kinds <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert {base.RECORD_ID, "bf-effect-id", "bf-row"} == set(re.findall(r"^\| `(bf-[a-z-]+)` \|", PAGE, re.MULTILINE))


def test_the_example_runs() -> None:
    """The page's Python does what it says."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "queues.md", "exec"), {})  # noqa: S102 (our own page)
