"""The declaration: strict YAML into frozen specs, one file for each key, with file and line in every error."""

from brownfield.integration.access import AccessSpec, Role, TokenSpec
from brownfield.integration.brokers import (
    BrokerConnection,
    MessagesSpec,
    MqttConnection,
    NatsConnection,
    RabbitmqConnection,
    RedisConnection,
)
from brownfield.integration.changes import ChangesSpec
from brownfield.integration.connections import ConnectionSpec, FolderConnection, SqliteConnection
from brownfield.integration.constraints import ConstraintsSpec
from brownfield.integration.databases import (
    BudgetSpec,
    DatabaseConnection,
    MysqlConnection,
    OdbcConnection,
    OracleConnection,
    PostgresConnection,
    QuietHours,
    TlsSpec,
)
from brownfield.integration.delivery import Delivery, SinkFlags, SourceFlags, deliveries, delivery_claim
from brownfield.integration.doors import DoorsSpec, HttpDoor
from brownfield.integration.endpoints import EndpointSpec, HttpConnection, SoapSpec
from brownfield.integration.fallback import FallbackSpec, FallbackStep
from brownfield.integration.fit import FitRowsSpec, FitSourceSpec, FitSpec
from brownfield.integration.formats import (
    ArrowFormat,
    CopybookFormat,
    CsvFormat,
    FixedWidthFormat,
    JsonFormat,
    ParquetFormat,
    RedefineRule,
    XmlFormat,
)
from brownfield.integration.intake import IntakeSpec, TrailerPart, TrailerSpec
from brownfield.integration.integration import IntegrationSpec
from brownfield.integration.json_schema import declaration_schema
from brownfield.integration.kinds import is_slug
from brownfield.integration.loader import (
    INTEGRATION_FILE,
    WORKSPACE_FILE,
    load_connections,
    load_integration,
    load_workspace,
)
from brownfield.integration.lookups import FailoverSpec, SnapshotsSpec
from brownfield.integration.mapping import FieldMapping, MappingSpec, Truth, UnitOf
from brownfield.integration.model import CacheSpec, ModelSpec
from brownfield.integration.monitors import MonitorsSpec
from brownfield.integration.pipeline import PipelineSpec
from brownfield.integration.prices import MachinePrice, Price, PriceBook, load_prices
from brownfield.integration.reader import Contradiction, DeclarationErrors, Spec, each_error
from brownfield.integration.references import Reference, read_reference
from brownfield.integration.registry import DEFAULT, Registry
from brownfield.integration.rollout import RolloutSpec, RolloutStep
from brownfield.integration.security import QuarantineSpec, SecuritySpec
from brownfield.integration.serving import ServingLimitsSpec, ServingSpec, ServingTlsSpec
from brownfield.integration.sftp import SftpConnection
from brownfield.integration.sources import Cursor, Location, ParkSpec, SourceSpec, is_pattern
from brownfield.integration.spelling import SERIALS, NumberSpelling, tokens_of
from brownfield.integration.strict_yaml import Document, load_document
from brownfield.integration.unified import AsOf, EnrichSpec, Join, UnifiedSpec
from brownfield.integration.urls import check_address, check_host, check_url
from brownfield.integration.words import KeyPath, dotted, key_names
from brownfield.integration.workspace import Changes, WorkspaceSpec
from brownfield.integration.write_back import WriteBackSpec, write_back_digest

__all__ = [
    "DEFAULT",
    "INTEGRATION_FILE",
    "SERIALS",
    "WORKSPACE_FILE",
    "AccessSpec",
    "ArrowFormat",
    "AsOf",
    "BrokerConnection",
    "BudgetSpec",
    "CacheSpec",
    "Changes",
    "ChangesSpec",
    "ConnectionSpec",
    "ConstraintsSpec",
    "Contradiction",
    "CopybookFormat",
    "CsvFormat",
    "Cursor",
    "DatabaseConnection",
    "DeclarationErrors",
    "Delivery",
    "Document",
    "DoorsSpec",
    "EndpointSpec",
    "EnrichSpec",
    "FailoverSpec",
    "FallbackSpec",
    "FallbackStep",
    "FieldMapping",
    "FitRowsSpec",
    "FitSourceSpec",
    "FitSpec",
    "FixedWidthFormat",
    "FolderConnection",
    "HttpConnection",
    "HttpDoor",
    "IntakeSpec",
    "IntegrationSpec",
    "Join",
    "JsonFormat",
    "KeyPath",
    "Location",
    "MachinePrice",
    "MappingSpec",
    "MessagesSpec",
    "ModelSpec",
    "MonitorsSpec",
    "MqttConnection",
    "MysqlConnection",
    "NatsConnection",
    "NumberSpelling",
    "OdbcConnection",
    "OracleConnection",
    "ParkSpec",
    "ParquetFormat",
    "PipelineSpec",
    "PostgresConnection",
    "Price",
    "PriceBook",
    "QuarantineSpec",
    "QuietHours",
    "RabbitmqConnection",
    "RedefineRule",
    "RedisConnection",
    "Reference",
    "Registry",
    "Role",
    "RolloutSpec",
    "RolloutStep",
    "SecuritySpec",
    "ServingLimitsSpec",
    "ServingSpec",
    "ServingTlsSpec",
    "SftpConnection",
    "SinkFlags",
    "SnapshotsSpec",
    "SoapSpec",
    "SourceFlags",
    "SourceSpec",
    "Spec",
    "SqliteConnection",
    "TlsSpec",
    "TokenSpec",
    "TrailerPart",
    "TrailerSpec",
    "Truth",
    "UnifiedSpec",
    "UnitOf",
    "WorkspaceSpec",
    "WriteBackSpec",
    "XmlFormat",
    "check_address",
    "check_host",
    "check_url",
    "declaration_schema",
    "deliveries",
    "delivery_claim",
    "dotted",
    "each_error",
    "is_pattern",
    "is_slug",
    "key_names",
    "load_connections",
    "load_document",
    "load_integration",
    "load_prices",
    "load_workspace",
    "read_reference",
    "tokens_of",
    "write_back_digest",
]
