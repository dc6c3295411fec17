"""A writer that is killed: makes effect after effect of ten messages each, from where its ledger says, until told.

Usage: queue_writer.py SETTINGS_JSON. It prints a line when it has taken over.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa

from brownfield.data.brokers import BrokerAddress, Mqtt, Nats, Rabbitmq, Redis
from brownfield.data.formats import Json
from brownfield.data.sinks import QueueSink
from brownfield.errors import SinkUnavailable

EFFECT_ROWS = 10
KINDS = {"rabbitmq": Rabbitmq, "mqtt": Mqtt, "nats": Nats, "redis": Redis}


def main() -> None:
    """Write until the settings' last effect, or until killed."""
    settings = json.loads(sys.argv[1])
    address = BrokerAddress("127.0.0.1", settings["port"], ("127.0.0.1",), tls="off")
    broker = KINDS[settings["kind"]](address, settings["queue"])
    sink = QueueSink(broker, settings["queue"], Json().encode, Path(settings["ledger"]))
    for attempt in range(50):
        try:
            sink.take_over()
            break
        except SinkUnavailable:
            if attempt == 49:
                raise
    sys.stdout.write("started\n")
    sys.stdout.flush()
    done = (sink.position() or {"after": 0})["after"]
    last = settings.get("more")
    for number in range(max(done, 1), done + last + 1 if last else sys.maxsize):
        baskets = range(number * EFFECT_ROWS, (number + 1) * EFFECT_ROWS)
        sink.apply(f"effect-{number}", pa.record_batch({"basket": baskets}), {"after": number})
    sink.close()


if __name__ == "__main__":
    main()
