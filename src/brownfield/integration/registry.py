"""The plug-ins that are installed, by the kind of thing that they are.

The loader receives the registry as an argument, so that a plug-in's options are checked with the declaration and
stand in the published schema. A plug-in brings a frozen options class (a :class:`Spec`); its code is found by the
room that runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from brownfield.integration.brokers import MqttConnection, NatsConnection, RabbitmqConnection, RedisConnection
from brownfield.integration.connections import FolderConnection, SqliteConnection
from brownfield.integration.databases import MysqlConnection, OdbcConnection, OracleConnection, PostgresConnection
from brownfield.integration.doors import HttpDoor
from brownfield.integration.endpoints import HttpConnection
from brownfield.integration.formats import (
    ArrowFormat,
    CopybookFormat,
    CsvFormat,
    FixedWidthFormat,
    JsonFormat,
    ParquetFormat,
    XmlFormat,
)
from brownfield.integration.reader import Spec
from brownfield.integration.sftp import SftpConnection

__all__ = ["DEFAULT", "PluginKind", "Registry"]

PluginKind: TypeAlias = Literal["connections", "formats", "doors"]
Options: TypeAlias = Mapping[str, type[Spec]]


@dataclass(frozen=True, slots=True)
class Registry:
    """Options classes by name, for each kind of plug-in.

    Examples
    --------
    >>> sorted(DEFAULT.formats)
    ['arrow', 'copybook', 'csv', 'fixed_width', 'json', 'parquet', 'xml']
    >>> sorted(DEFAULT.adding("doors", "soap", HttpDoor).doors)
    ['http', 'soap']
    """

    connections: Options = field(default_factory=dict)
    formats: Options = field(default_factory=dict)
    doors: Options = field(default_factory=dict)

    def adding(self, kind: PluginKind, name: str, options: type[Spec]) -> "Registry":
        """Return a registry that knows one more plug-in."""
        known: Options = getattr(self, kind)
        return replace(self, **{kind: MappingProxyType({**known, name: options})})


DEFAULT = Registry(
    connections=MappingProxyType(
        {
            "folder": FolderConnection,
            "http": HttpConnection,
            "mqtt": MqttConnection,
            "mysql": MysqlConnection,
            "nats": NatsConnection,
            "odbc": OdbcConnection,
            "oracle": OracleConnection,
            "postgres": PostgresConnection,
            "rabbitmq": RabbitmqConnection,
            "redis": RedisConnection,
            "sftp": SftpConnection,
            "sqlite": SqliteConnection,
        }
    ),
    formats=MappingProxyType(
        {
            "arrow": ArrowFormat,
            "copybook": CopybookFormat,
            "csv": CsvFormat,
            "fixed_width": FixedWidthFormat,
            "json": JsonFormat,
            "parquet": ParquetFormat,
            "xml": XmlFormat,
        }
    ),
    doors=MappingProxyType({"http": HttpDoor}),
)
"""What comes with Brownfield itself."""
