"""``access``: who may do what on the workspace's listeners."""

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from brownfield.integration.doors import PriorityName
from brownfield.integration.kinds import Slug
from brownfield.integration.reader import Contradiction, Spec
from brownfield.integration.references import Reference

__all__ = ["AccessSpec", "Role", "TokenSpec"]

Role: TypeAlias = Literal["caller", "viewer", "operator", "approver", "admin", "auditor"]
"""What a principal is for; ``caller`` asks for predictions and nothing else."""


class TokenSpec(Spec, frozen=True, kw_only=True):
    """One principal and where its bearer token stands."""

    name: Annotated[Slug, Meta(description="Name of the principal, as it stands in the audit log.")]
    role: Annotated[Role, Meta(description="What the principal may do.")]
    priority: Annotated[PriorityName, Meta(description="Highest priority of its requests.")] = "interactive"
    token: Annotated[Reference, Meta(description="Where the token stands: {env: NAME} or {file: PATH}.")]


class AccessSpec(Spec, frozen=True, kw_only=True):
    """The principals that are let in."""

    tokens: Annotated[tuple[TokenSpec, ...], Meta(max_length=1_000, description="One entry for each principal.")] = ()

    def contradictions(self) -> Iterator[Contradiction]:
        """Refuse two principals of one name."""
        seen: set[str] = set()
        for index, token in enumerate(self.tokens):
            if token.name in seen:
                yield Contradiction(("tokens", index, "name"), "every name once", f"{token.name} again")
            seen.add(token.name)
