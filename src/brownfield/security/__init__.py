"""Who may do what, and secrets that stay secret."""

from brownfield.security.encryption import EncryptionKey, Keyring, decrypt, encrypt, read_keyring, sealed_by
from brownfield.security.principals import (
    Principal,
    Principals,
    authorize,
    needs_token,
    new_token,
    why_refused,
)
from brownfield.security.roles import PERMISSIONS, permitted
from brownfield.security.secret import Secret, check_private, resolve_secret

__all__ = [
    "PERMISSIONS",
    "EncryptionKey",
    "Keyring",
    "Principal",
    "Principals",
    "Secret",
    "authorize",
    "check_private",
    "decrypt",
    "encrypt",
    "needs_token",
    "new_token",
    "permitted",
    "read_keyring",
    "resolve_secret",
    "sealed_by",
    "why_refused",
]
