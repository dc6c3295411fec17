"""Encryption at rest: what is sealed is opened by its key, at its place, unchanged, and by nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brownfield.errors import DeclarationError, DecryptionFailed
from brownfield.integration import Reference, SecuritySpec
from brownfield.security import EncryptionKey, Keyring, Secret, decrypt, encrypt, read_keyring, sealed_by

OLD, NEW = (EncryptionKey(Secret(base64.b64encode(bytes([number]) * 32).decode())) for number in (1, 2))


@given(st.binary(max_size=2048), st.text(max_size=40))
def test_what_is_sealed_is_opened_and_its_bytes_are_not_there(clear, context):
    """Opening gives the bytes back; sealing twice gives two envelopes; the clear bytes stand in neither."""
    sealed = encrypt(clear, OLD, context)
    assert decrypt(sealed, Keyring([OLD]), context) == clear
    assert sealed != encrypt(clear, OLD, context)
    assert len(clear) < 8 or clear not in sealed[24:]


@pytest.mark.parametrize("place", range(40 + 7))
def test_i11_one_changed_bit_anywhere_is_found(place):
    """I11: an envelope with any byte changed is not opened, and the message holds no byte of it."""
    sealed = bytearray(encrypt(b"Ann Lee", OLD, "people/1"))
    sealed[place] ^= 1
    with pytest.raises(DecryptionFailed) as failed:
        decrypt(bytes(sealed), Keyring([OLD]), "people/1")
    assert "Ann" not in str(failed.value)


def test_an_envelope_is_opened_at_its_own_place_only():
    """Bytes that were moved to another record are not opened there; cut ones are not opened at all."""
    sealed = encrypt(b"Ann Lee", OLD, "people/1")
    with pytest.raises(DecryptionFailed, match="another place"):
        decrypt(sealed, Keyring([OLD]), "people/2")
    for length in range(len(sealed)):
        with pytest.raises(DecryptionFailed):
            decrypt(sealed[:length], Keyring([OLD]), "people/1")


def test_a_key_is_changed_by_putting_a_new_one_before_it():
    """New bytes carry the new key's name, old ones are still opened; without the old key the message names it."""
    sealed = encrypt(b"Ann Lee", OLD, "people/1")
    both = Keyring([NEW, OLD])
    assert both.active is NEW
    assert decrypt(sealed, both, "people/1") == b"Ann Lee"
    assert (sealed_by(sealed), sealed_by(b"plain")) == (OLD.key_id, None)
    with pytest.raises(DecryptionFailed, match=OLD.key_id):
        decrypt(sealed, Keyring([NEW]), "people/1")
    with pytest.raises(DecryptionFailed, match="no key"):
        decrypt(sealed, None, "people/1")


@pytest.mark.parametrize("text", ["", "CANARY", base64.b64encode(b"x" * 31).decode(), "CANARY" * 8, "ключ"])
def test_s18_what_is_no_key_is_refused_without_repeating_it(text):
    """S-18: a key of another length or spelling is refused with the way to make one, and never printed."""
    with pytest.raises(DeclarationError, match="openssl rand -base64 32") as refused:
        EncryptionKey(Secret(text))
    assert not text or text not in str(refused.value)


def test_the_keys_of_a_workspace_are_read_by_reference(tmp_path, monkeypatch):
    """The declared key seals, old ones open, none gives no keyring, and one key twice is refused."""
    monkeypatch.setenv("BF_KEY", base64.b64encode(bytes([2]) * 32).decode())
    (tmp_path / "old.key").write_text(base64.b64encode(bytes([1]) * 32).decode() + "\n")
    (tmp_path / "old.key").chmod(0o600)
    declared = SecuritySpec(encryption_key=Reference(env="BF_KEY"), old_encryption_keys=(Reference(file="old.key"),))
    ring = read_keyring(declared, tmp_path)
    assert (ring.active.key_id, ring.find(OLD.key_id).key_id) == (NEW.key_id, OLD.key_id)
    assert read_keyring(SecuritySpec(), tmp_path) is None
    with pytest.raises(DeclarationError, match="one twice"):
        read_keyring(
            SecuritySpec(encryption_key=Reference(env="BF_KEY"), old_encryption_keys=(Reference(env="BF_KEY"),)),
            tmp_path,
        )
    (tmp_path / "old.key").write_text("CANARY")
    with pytest.raises(DeclarationError, match=r"file old\.key"):
        read_keyring(declared, tmp_path)
