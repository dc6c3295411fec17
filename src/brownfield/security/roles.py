"""One table says which role may do what; what does not stand in it is denied to everyone."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PERMISSIONS", "permitted"]

PERMISSIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "predict": frozenset({"caller", "operator", "admin"}),
        "read": frozenset({"caller", "viewer", "operator", "approver", "admin", "auditor"}),
        "operate": frozenset({"operator", "admin"}),
        "approve": frozenset({"approver"}),
        "administer": frozenset({"admin"}),
        "audit": frozenset({"auditor", "admin"}),
    }
)
"""Permission to roles.

``predict`` asks for answers; ``read`` sees health, metadata and metrics; ``operate`` reloads, replays and discards;
``approve`` lets a model or a rollout step through, which an admin or operator therefore cannot do alone;
``administer`` changes principals and restores backups; ``audit`` reads the audit log.
"""


_NOBODY: frozenset[str] = frozenset()


def permitted(roles: frozenset[str], permission: str) -> bool:
    """Say whether one of the roles grants a permission; an unknown permission is granted by none.

    Examples
    --------
    >>> permitted(frozenset({"operator"}), "operate"), permitted(frozenset({"operator"}), "approve")
    (True, False)
    >>> permitted(frozenset({"admin"}), "no_such_permission")
    False
    """
    return not roles.isdisjoint(PERMISSIONS.get(permission, _NOBODY))
