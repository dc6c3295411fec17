"""``serving``: the workspace's own listener."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta

from brownfield.integration.kinds import Port, RelativePath
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = ["ServingLimitsSpec", "ServingSpec", "ServingTlsSpec"]

_KEPT_MIB = 256.0


class ServingTlsSpec(Spec, frozen=True, kw_only=True):
    """Encryption of the listener, TLS 1.2 and 1.3; both files are read again on a reload."""

    certificate_file: Annotated[RelativePath | Reference, Meta(description="Certificate and its chain, in PEM.")]
    key_file: Annotated[RelativePath | Reference, Meta(description="Its private key, in PEM, without a password.")]


class ServingLimitsSpec(Spec, frozen=True, kw_only=True):
    """What one connection may bring to the prediction door, and how long it may take."""

    connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Most connections at a time, of each gateway process.")
    ] = 8192
    head_kib: Annotated[float, Meta(ge=1, le=1024, description="Longest head of a request.")] = 32
    target_kib: Annotated[float, Meta(gt=0, le=1024, description="Longest request target in it.")] = 8
    header_fields: Annotated[int, Meta(ge=1, le=10_000, description="Most header fields.")] = 100
    header_s: Annotated[float, Meta(gt=0, le=3600, description="Seconds until the head of a request is there.")] = 5
    body_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds from there until its body is, more for a long one.")
    ] = 10
    write_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds for which a caller may leave an answer unread.")
    ] = 30
    idle_s: Annotated[
        float, Meta(gt=0, le=86_400, description="Seconds for which a connection is kept without a request.")
    ] = 75
    slowest_kib_per_s: Annotated[
        float, Meta(gt=0, le=1_048_576, description="Rate below which a caller is not waited for.")
    ] = 16
    kept_mib: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=1_048_576,
                description="Most memory that requests half sent and answers unread may take together, in each gateway"
                " process; beyond it, who has been at it the longest is ended. 256 unless declared, or room for two"
                " of the largest bodies.",
            ),
        ]
        | None
    ) = None


class ServingSpec(Spec, frozen=True, kw_only=True):
    """Where predictions are asked for, and how large a request may be."""

    host: Annotated[str, Meta(description="Address to listen on; beyond loopback, tokens are required.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port for predictions and metrics.")] = 8080
    health_port: (
        Annotated[
            Port,
            Meta(description="Port that tells of health alone, in plain text, also while the other one is crowded."),
        ]
        | None
    ) = None
    tls: Annotated[ServingTlsSpec, Meta(description="Encryption; plain text unless declared.")] | None = None
    host_names: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]*$")], ...],
        Meta(max_length=64, description="Further names by which callers without a token know this host."),
    ] = ()
    max_body_mib: Annotated[float, Meta(gt=0, le=1024, description="Largest request body.")] = 8
    limits: Annotated[
        ServingLimitsSpec, Meta(description="What one connection may bring, and how long it may take.")
    ] = ServingLimitsSpec()
    gateways: Annotated[
        int, Meta(ge=1, le=256, description="Processes that answer requests on the one port; workers are shared.")
    ] = 1
    cpu_cores: (
        Annotated[float, Meta(gt=0, le=1024, description="Cores for all models together; by default all there are.")]
        | None
    ) = None
    memory_mib: (
        Annotated[
            int,
            Meta(ge=64, le=16_777_216, description="Memory for all processes together; by default all there is."),
        ]
        | None
    ) = None

    cpu_wake_us: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=1_000_000,
                description="Longest that an idle CPU of the host may take to wake while requests come; 0 keeps it"
                " looking for work, which takes power. The host's own way unless declared.",
            ),
        ]
        | None
    ) = None

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse a host that is a name: it may come to mean another machine; two listeners on one port; no room."""
        if self.health_port == self.port:
            yield Contradiction(("health_port",), "another port than serving.port", "the same port")
        if self.kept_mib < self.max_body_mib:
            least = f"at least serving.max_body_mib, {self.max_body_mib:g}"
            yield Contradiction(("limits", "kept_mib"), least, f"{self.kept_mib:g}")
        if self.host != "localhost":
            try:
                ip_address(self.host)
            except ValueError:
                yield Contradiction(("host",), "an IP address, or localhost", "another text")

    @property
    def kept_mib(self) -> float:
        """Most memory for requests half sent and answers unread together.

        Examples
        --------
        >>> ServingSpec().kept_mib, ServingSpec(max_body_mib=200).kept_mib
        (256.0, 400)
        """
        declared = self.limits.kept_mib
        return max(_KEPT_MIB, 2 * self.max_body_mib) if declared is None else declared

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the listener.

        Examples
        --------
        >>> ServingSpec().is_loopback, ServingSpec(host="0.0.0.0").is_loopback
        (True, False)
        """
        return self.host == "localhost" or ip_address(self.host).is_loopback
