"""The options of connections to database servers: address and secrets by reference, encryption, and a budget.

A host that is written out is refused: addresses belong to the environment, so that one declaration serves them all.
The budget says what the legacy system can bear; its defaults are modest.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from brownfield.integration.delivery import SinkFlags, SourceFlags
from brownfield.integration.kinds import FieldName, RelativePath
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = [
    "BudgetSpec",
    "DatabaseConnection",
    "MysqlConnection",
    "OdbcConnection",
    "OracleConnection",
    "PostgresConnection",
    "QuietHours",
    "TcpPort",
    "TlsSpec",
]

TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
"""Port of a server."""


class TlsSpec(Spec, frozen=True, kw_only=True):
    """Whether the way to the server is encrypted, and who vouches for the server."""

    mode: Annotated[
        Literal["verify", "encrypt", "off"],
        Meta(description="verify: encrypted, certificate and name checked; encrypt: not checked; off: in clear."),
    ] = "verify"
    ca_file: (
        Annotated[
            RelativePath | Reference,
            Meta(description="Certificates that vouch for the server; the system's own unless declared."),
        ]
        | None
    ) = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse certificates that nobody looks at."""
        if self.ca_file is not None and self.mode != "verify":
            yield Contradiction(("ca_file",), "ca_file beside mode: verify only", self.mode)


class QuietHours(Spec, frozen=True, kw_only=True):
    """Times of day at which the system is left alone."""

    zone: Annotated[str, Meta(min_length=1, max_length=64, description="Time zone of the hours, as Europe/Berlin.")]
    windows: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9]$",
                    extra={"words": "two times of day, as 08:00-10:00"},
                ),
            ],
            ...,
        ],
        Meta(min_length=1, max_length=16, description="Each from a time to another, past midnight too: 22:00-02:00."),
    ]

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a zone that there is not."""
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield Contradiction(("zone",), "a time zone such as Europe/Berlin", "another text")


class BudgetSpec(Spec, frozen=True, kw_only=True):
    """What one physical system can bear from us; kept in every second, across processes and restarts."""

    max_connections: Annotated[int, Meta(ge=1, le=100, description="Connections at one time.")] = 2
    rows_per_s: Annotated[int, Meta(ge=20, le=10_000_000, description="Rows of tables in any one second.")] = 20_000
    statement_timeout_s: Annotated[
        int, Meta(ge=1, le=3_600, description="Time after which the server ends a statement of ours.")
    ] = 30
    quiet_hours: Annotated[QuietHours, Meta(description="When the system is left alone.")] | None = None


class DatabaseConnection(Spec, frozen=True, kw_only=True):
    """What all database servers share."""

    holds: ClassVar[Literal["table", "path"]] = "table"
    gives: ClassVar[SourceFlags] = SourceFlags()
    needs_lag: ClassVar[bool] = True
    """Whether transactions commit in another order than they begin, so that a cursor needs a lag."""

    host: Annotated[Reference, Meta(description="Name or address of the server: by reference, never written here.")]
    database: Annotated[FieldName | Reference, Meta(description="Name of the database.")]
    user: Annotated[FieldName | Reference, Meta(description="Name of the role, which should be allowed to read only.")]
    password: Annotated[Reference, Meta(description="Where the password stands.")] | None = None
    port: Annotated[TcpPort | Reference, Meta(description="Port of the server.")]
    tls: Annotated[TlsSpec, Meta(description="Encryption.")] = TlsSpec()
    budget: Annotated[BudgetSpec, Meta(description="What the system can bear.")] = BudgetSpec()


class PostgresConnection(DatabaseConnection, frozen=True, kw_only=True):
    """A PostgreSQL server, read in read-only transactions."""

    takes: ClassVar[SinkFlags] = SinkFlags(transactional=True)

    port: Annotated[TcpPort | Reference, Meta(description="Port of the server.")] = 5432
    schema: Annotated[FieldName, Meta(description="Schema of the tables.")] = "public"


class MysqlConnection(DatabaseConnection, frozen=True, kw_only=True):
    """A MariaDB or MySQL server, read in read-only transactions."""

    takes: ClassVar[SinkFlags] = SinkFlags(transactional=True)

    port: Annotated[TcpPort | Reference, Meta(description="Port of the server.")] = 3306


class OracleConnection(DatabaseConnection, frozen=True, kw_only=True):
    """An Oracle database, read in read-only transactions; its SQL is made and checked, and was never run by us."""

    port: Annotated[TcpPort | Reference, Meta(description="Port of the listener.")] = 1521
    database: Annotated[FieldName | Reference, Meta(description="Name of the service.")]
    schema: Annotated[FieldName, Meta(description="Schema of the tables, as the catalogue spells it.")]


class OdbcConnection(Spec, frozen=True, kw_only=True):
    """A server behind an ODBC driver; address and driver stand in a connection string, by reference."""

    holds: ClassVar[Literal["table", "path"]] = "table"
    gives: ClassVar[SourceFlags] = SourceFlags()
    needs_lag: ClassVar[bool] = True

    dialect: Annotated[
        Literal["postgresql", "mysql", "mssql", "db2", "oracle", "generic"],
        Meta(description="Whose SQL the server speaks; generic: that of the standard, without cursors."),
    ]
    connection_string: Annotated[
        Reference,
        Meta(description="Where the driver's connection string stands: Driver or DSN, Server, Port, Database."),
    ]
    user: Annotated[FieldName | Reference, Meta(description="Name of the role, which should be allowed to read only.")]
    password: Annotated[Reference, Meta(description="Where the password stands.")] | None = None
    schema: Annotated[FieldName, Meta(description="Schema of the tables; public or dbo where left out.")] | None = None
    budget: Annotated[BudgetSpec, Meta(description="What the system can bear.")] = BudgetSpec()
