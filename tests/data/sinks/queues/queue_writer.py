"""Writers that are killed: each makes effect after effect of ten messages, from where the ledger says.

Usage: queue_writer.py SETTINGS_JSON. For each line of input it prints the process of a writer, and how that ended.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa

from brownfield.data.brokers import BrokerAddress, Mqtt, Nats, Rabbitmq, Redis
from brownfield.data.formats import Json
from brownfield.data.sinks import QueueSink

EFFECT_ROWS = 10
KINDS = {"rabbitmq": Rabbitmq, "mqtt": Mqtt, "nats": Nats, "redis": Redis}


def write(sink: QueueSink, last: int | None) -> None:
    """Write effects, so many or until killed."""
    sink.take_over()
    done = (sink.position() or {"after": 0})["after"]
    for number in range(max(done, 1), done + last + 1 if last else sys.maxsize):
        baskets = range(number * EFFECT_ROWS, (number + 1) * EFFECT_ROWS)
        sink.apply(f"effect-{number}", pa.record_batch({"basket": baskets}), {"after": number})
    sink.close()


def main() -> None:
    """For each line of the input begin a writer in a process of its own; a number lets it end behind so many."""
    settings = json.loads(sys.argv[1])
    address = BrokerAddress("127.0.0.1", settings["port"], ("127.0.0.1",), tls="off")
    broker = KINDS[settings["kind"]](address, settings["queue"])
    sink = QueueSink(broker, settings["queue"], Json().encode, Path(settings["ledger"]))
    list(Json().encode([pa.record_batch({"basket": [0]})]))  # what is imported once is there in every writer
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.stdout.write(f"{os.getpid()}\n")
            sys.stdout.flush()
            write(sink, int(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
