"""The declaration: strict YAML into frozen specs, one file for each key, with file and line in every error."""

from brownfield.integration.access import AccessSpec, Role, TokenSpec
from brownfield.integration.connections import ConnectionSpec, FolderConnection, SqliteConnection
from brownfield.integration.constraints import ConstraintsSpec
from brownfield.integration.databases import (
    BudgetSpec,
    DatabaseConnection,
    MysqlConnection,
    PostgresConnection,
    QuietHours,
    TlsSpec,
)
from brownfield.integration.doors import DoorsSpec, HttpDoor
from brownfield.integration.endpoints import EndpointSpec, HttpConnection, SoapSpec
from brownfield.integration.fallback import FallbackSpec, FallbackStep
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
from brownfield.integration.integration import IntegrationSpec
from brownfield.integration.json_schema import declaration_schema
from brownfield.integration.kinds import is_slug
from brownfield.integration.loader import INTEGRATION_FILE, WORKSPACE_FILE, load_integration, load_workspace
from brownfield.integration.lookups import FailoverSpec, SnapshotsSpec
from brownfield.integration.model import CacheSpec, ModelSpec
from brownfield.integration.monitors import MonitorsSpec
from brownfield.integration.reader import Contradiction, DeclarationErrors, Spec, each_error
from brownfield.integration.references import Reference, read_reference
from brownfield.integration.registry import DEFAULT, Registry
from brownfield.integration.rollout import RolloutSpec, RolloutStep
from brownfield.integration.security import QuarantineSpec, SecuritySpec
from brownfield.integration.serving import ServingSpec
from brownfield.integration.sources import Cursor, Location, ParkSpec, SourceSpec
from brownfield.integration.strict_yaml import Document, load_document
from brownfield.integration.unified import EnrichSpec, Join, UnifiedSpec
from brownfield.integration.urls import check_address, check_host, check_url
from brownfield.integration.words import KeyPath, dotted
from brownfield.integration.workspace import Changes, WorkspaceSpec

__all__ = [
    "DEFAULT",
    "INTEGRATION_FILE",
    "WORKSPACE_FILE",
    "AccessSpec",
    "ArrowFormat",
    "BudgetSpec",
    "CacheSpec",
    "Changes",
    "ConnectionSpec",
    "ConstraintsSpec",
    "Contradiction",
    "CopybookFormat",
    "CsvFormat",
    "Cursor",
    "DatabaseConnection",
    "DeclarationErrors",
    "Document",
    "DoorsSpec",
    "EndpointSpec",
    "EnrichSpec",
    "FailoverSpec",
    "FallbackSpec",
    "FallbackStep",
    "FixedWidthFormat",
    "FolderConnection",
    "HttpConnection",
    "HttpDoor",
    "IntegrationSpec",
    "Join",
    "JsonFormat",
    "KeyPath",
    "Location",
    "ModelSpec",
    "MonitorsSpec",
    "MysqlConnection",
    "ParkSpec",
    "ParquetFormat",
    "PostgresConnection",
    "QuarantineSpec",
    "QuietHours",
    "RedefineRule",
    "Reference",
    "Registry",
    "Role",
    "RolloutSpec",
    "RolloutStep",
    "SecuritySpec",
    "ServingSpec",
    "SnapshotsSpec",
    "SoapSpec",
    "SourceSpec",
    "Spec",
    "SqliteConnection",
    "TlsSpec",
    "TokenSpec",
    "UnifiedSpec",
    "WorkspaceSpec",
    "XmlFormat",
    "check_address",
    "check_host",
    "check_url",
    "declaration_schema",
    "dotted",
    "each_error",
    "is_slug",
    "load_document",
    "load_integration",
    "load_workspace",
    "read_reference",
]
