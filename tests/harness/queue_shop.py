"""One small integration that is the same for all brokers but for its connection."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from brownfield.data.pipeline import run_pipeline
from brownfield.integration import load_workspace
from brownfield.store import Selection, open_store
from harness.queues import Legacy, LegacyMqtt, LegacyNats, LegacyRabbitmq, LegacyRedis
from harness.shop import head

WORKSPACE = """
workspace: shop
connections:
  broker:
    kind: {kind}
    host: {{env: QUEUE_HOST}}
    port: {{env: QUEUE_PORT}}
    tls: {{mode: "off"}}
    budget: {{messages_per_s: 5000}}
"""
INTEGRATION = """
integration: reco
contract: contract.odcs.yaml
sources:
  sales:
    feed: true
    connection: broker
    queue: {queue}
    messages: {{id_header: id, consumer: {consumer}, idle_ms: 200, max_attempts: 3, max_message_bytes: 1000}}
unified:
  lines: {{from: sales}}
fallback: {{chain: [{{constant: {{items: []}}}}]}}
"""
CONTRACT = (
    head()
    + """  - name: sales
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, required: true}
      - {name: quantity, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
  - name: lines
    logicalType: object
    properties:
      - {name: line_id, logicalType: integer, required: true}
      - {name: quantity, logicalType: integer, required: true}
"""
)
LEGACY = {"rabbitmq": LegacyRabbitmq, "mqtt": LegacyMqtt, "nats": LegacyNats, "redis": LegacyRedis}
SERVERS = {"rabbitmq": "rabbitmq", "mqtt": "mosquitto", "nats": "nats", "redis": "redis_server"}


class Shop:
    """A workspace whose sales come in by a queue."""

    def __init__(self, folder: Path, legacy: Legacy) -> None:
        self.folder = folder
        self.legacy = legacy
        (folder / "integrations/reco").mkdir(parents=True)
        (folder / "brownfield.yaml").write_text(WORKSPACE.format(kind=legacy.kind))
        declared = INTEGRATION.format(queue=legacy.queue, consumer=legacy.consumer)
        (folder / "integrations/reco/integration.yaml").write_text(declared)
        (folder / "integrations/reco/contract.odcs.yaml").write_text(CONTRACT)

    def keep_trying(self, attempts: int) -> None:
        """Declare that a message may fail that often: who kills at random is not a message's fault."""
        declared = self.folder / "integrations/reco/integration.yaml"
        declared.write_text(declared.read_text().replace("max_attempts: 3", f"max_attempts: {min(100, attempts + 5)}"))

    def run(self, **options):
        """One run in this process; gives the report of the queue."""
        workspace = load_workspace(self.folder)
        with open_store(self.folder / "var/brownfield.db") as store:
            report = run_pipeline(
                workspace.integrations["reco"], workspace.connections, store, self.folder / "var/data/reco", **options
            )
        return report.sources["sales"]

    def lines(self) -> list[int]:
        """Line numbers in the unified table, as a reader of its files finds them."""
        folder = self.folder / "var/data/reco/lines"
        return sorted(pq.read_table(folder)["line_id"].to_pylist()) if any(folder.glob("*.parquet")) else []

    def quarantined(self):
        """What was refused."""
        with open_store(self.folder / "var/brownfield.db") as store:
            return store.quarantine.select("reco", Selection(source="sales"), limit=10**6)

    def totals(self) -> tuple[int, int, int]:
        """Records of all runs: read, accepted, refused."""
        with open_store(self.folder / "var/brownfield.db") as store:
            runs = store.ledger.runs("reco", limit=10**6)
            counts = [each for run in runs for each in store.ledger.counts(run.run_id) if each.source == "sales"]
        return tuple(sum(getattr(each, name) for each in counts) for name in ("rows_in", "accepted", "quarantined"))


def sale(line: int, quantity: int = 1) -> tuple[str, bytes]:
    """One message."""
    return f"m{line}", json.dumps({"line_id": line, "quantity": quantity}).encode()
