"""``security`` and ``quarantine``: how a workspace keeps what it may not show, and what it refused."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = ["QuarantineSpec", "SecuritySpec"]


class SecuritySpec(Spec, frozen=True, kw_only=True):
    """Encryption at rest."""

    encryption_key: (
        Annotated[Reference, Meta(description="Where the key stands that encrypts: 32 bytes as base64.")] | None
    ) = None
    old_encryption_keys: Annotated[
        tuple[Reference, ...], Meta(max_length=16, description="Keys that still decrypt what they once encrypted.")
    ] = ()

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse old keys without a new one."""
        if self.old_encryption_keys and self.encryption_key is None:
            yield Contradiction((), "encryption_key beside old_encryption_keys", "none")


class QuarantineSpec(Spec, frozen=True, kw_only=True):
    """How long refused records are kept, and how much of them."""

    keep_d: Annotated[
        float,
        Meta(gt=0, le=3_660, description="Days after which bytes and preview of a refused record are deleted."),
    ] = 90
    max_mib: Annotated[
        int, Meta(ge=1, le=1_048_576, description="Mebibytes of raw bytes in all; a run that needs more stops.")
    ] = 512
