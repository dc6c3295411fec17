"""Bytes encrypted at rest: AES-256-GCM in an envelope that names its version and its key.

A key is 32 random bytes written as base64 and declared by reference. New bytes are sealed with the first key of a
keyring; every key of it opens what it once sealed, so that a key is changed by putting a new one before it.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from brownfield.errors import DeclarationError, DecryptionFailed
from brownfield.integration import SecuritySpec
from brownfield.security.secret import Secret, resolve_secret

__all__ = ["EncryptionKey", "Keyring", "decrypt", "encrypt", "read_keyring", "sealed_by"]

KEY_BYTES = 32
_MAGIC = b"BFE1"
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = len(_MAGIC) + _ID_BYTES + _NONCE_BYTES


class EncryptionKey:
    """One key of 256 bits.

    Parameters
    ----------
    secret
        32 bytes as base64, such as ``openssl rand -base64 32`` prints.

    Raises
    ------
    DeclarationError
        When it is anything else; it never stands in the message.

    Examples
    --------
    >>> EncryptionKey(Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
    EncryptionKey(4ff600ad0c9cc6b1)
    """

    __slots__ = ("_secret", "key_id")

    def __init__(self, secret: Secret) -> None:
        content = _content(secret)
        self._secret = secret
        self.key_id = hashlib.sha256(b"brownfield encryption key\0" + content).digest()[:_ID_BYTES].hex()
        """Names the key without telling anything of it: 16 hexadecimal characters."""

    def __repr__(self) -> str:
        return f"EncryptionKey({self.key_id})"

    def content(self) -> bytes:
        """Return the key itself: for the cipher alone."""
        return _content(self._secret)


class Keyring:
    """The keys of a workspace: the first seals, all of them open.

    Raises
    ------
    DeclarationError
        When there is none, or one stands twice.
    """

    __slots__ = ("_by_id", "active")

    def __init__(self, keys: Sequence[EncryptionKey]) -> None:
        self._by_id = {key.key_id: key for key in keys}
        if not keys or len(self._by_id) < len(keys):
            raise DeclarationError(
                path="security", expected="encryption keys that differ", got="one twice" if keys else "none"
            )
        self.active = keys[0]

    def find(self, key_id: str) -> EncryptionKey | None:
        """Give the key of this name."""
        return self._by_id.get(key_id)


def read_keyring(declared: SecuritySpec, folder: Path) -> Keyring | None:
    """Read the keys that a workspace declares; None when it declares none.

    Parameters
    ----------
    declared
        The key ``security`` of ``brownfield.yaml``.
    folder
        The workspace's folder, from which relative files are found.

    Raises
    ------
    DeclarationError
        When a reference cannot be read or holds no key.
    """
    if declared.encryption_key is None:
        return None
    references = (declared.encryption_key, *declared.old_encryption_keys)
    keys = []
    for reference in references:
        try:
            keys.append(EncryptionKey(resolve_secret(reference, folder)))
        except DeclarationError as error:
            raise DeclarationError(
                error.what, where=error.where or str(reference), expected=error.expected, got=error.got,
                next_step=error.next_step,
            ) from None  # fmt: skip
    return Keyring(keys)


def encrypt(clear: bytes, key: EncryptionKey, context: str) -> bytes:
    """Seal bytes.

    Parameters
    ----------
    clear
        Up to 2 GiB.
    key
        The active key of a keyring.
    context
        What the bytes are, such as ``quarantine/shop/sales/<record id>``: it is not stored, and bytes that are
        moved to another place are not opened there.

    Returns
    -------
    bytes
        ``BFE1``, the key's name (8 bytes), a random nonce (12), the ciphertext and its tag (16).

    Examples
    --------
    >>> key = EncryptionKey(Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
    >>> sealed = encrypt(b"Ann Lee", key, "people/1")
    >>> len(sealed), sealed_by(sealed), decrypt(sealed, Keyring([key]), "people/1")
    (47, '4ff600ad0c9cc6b1', b'Ann Lee')
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = _MAGIC + bytes.fromhex(key.key_id)
    nonce = os.urandom(_NONCE_BYTES)
    return head + nonce + AESGCM(key.content()).encrypt(nonce, clear, head + context.encode())


def decrypt(sealed: bytes, keys: Keyring | None, context: str) -> bytes:
    """Open bytes that :func:`encrypt` sealed, with whichever key of the ring did it.

    Raises
    ------
    DecryptionFailed
        When no key of that name is declared, or the bytes or their place were changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id = sealed_by(sealed)
    if key_id is None or len(sealed) < _HEAD_BYTES + _TAG_BYTES:
        raise DecryptionFailed("these are no whole encrypted bytes", where=context)
    key = None if keys is None else keys.find(key_id)
    if key is None:
        raise DecryptionFailed(
            where=context, expected=f"the encryption key {key_id}", got="no key of this name in security",
            next_step="Declare it under security.old_encryption_keys.",
        )  # fmt: skip
    head, nonce = sealed[: len(_MAGIC) + _ID_BYTES], sealed[len(_MAGIC) + _ID_BYTES : _HEAD_BYTES]
    try:
        return AESGCM(key.content()).decrypt(nonce, sealed[_HEAD_BYTES:], head + context.encode())
    except InvalidTag:
        raise DecryptionFailed("the encrypted bytes were changed, or belong to another place", where=context) from None


def sealed_by(stored: bytes) -> str | None:
    """Name the key that sealed these bytes; None when they begin like no envelope."""
    if stored[: len(_MAGIC)] != _MAGIC:
        return None
    return stored[len(_MAGIC) : len(_MAGIC) + _ID_BYTES].hex()


def _content(secret: Secret) -> bytes:
    try:
        content = base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != KEY_BYTES:
        raise DeclarationError(
            expected="an encryption key: 32 bytes as base64", got="another text",
            next_step="Make one with `openssl rand -base64 32`.",
        )  # fmt: skip
    return content
