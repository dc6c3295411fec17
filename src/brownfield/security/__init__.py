"""Who may do what, and secrets that stay secret."""

from brownfield.security.principals import Principal, Principals, authorize, needs_token, new_token
from brownfield.security.roles import PERMISSIONS, permitted
from brownfield.security.secret import Secret, resolve_secret

__all__ = [
    "PERMISSIONS",
    "Principal",
    "Principals",
    "Secret",
    "authorize",
    "needs_token",
    "new_token",
    "permitted",
    "resolve_secret",
]
