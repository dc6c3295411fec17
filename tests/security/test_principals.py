"""Who is let in, and who is not."""

from datetime import timedelta

import pytest

from brownfield.errors import DeclarationError, Forbidden, Unauthenticated
from brownfield.integration import AccessSpec, Reference, TokenSpec
from brownfield.security import PERMISSIONS, Principal, Principals, Secret, authorize, needs_token, new_token
from brownfield.testing import FakeClock

TOKEN = "bf_CANARY0123456789abcdefghij"  # noqa: S105 (made up)
HEADER = f"Bearer {TOKEN}".encode()
ROLES = ("caller", "viewer", "operator", "approver", "admin", "auditor")
TABLE = {
    "predict": {"caller", "operator", "admin"},
    "read": {"caller", "viewer", "operator", "approver", "admin", "auditor"},
    "operate": {"operator", "admin"},
    "approve": {"approver"},
    "administer": {"admin"},
    "audit": {"auditor", "admin"},
}


@pytest.fixture
def clock():
    """A clock that the test moves."""
    return FakeClock()


def principals(clock, role="operator", expires_utc=None):
    """One principal with TOKEN."""
    entry = (Principal("ann", frozenset({role}), expires_utc), Secret(TOKEN))
    return Principals([entry], anonymous=None, clock=clock)


def test_the_table_is_complete():
    """Every permission of the table is tested below, and nothing else is granted to anyone."""
    assert {name: set(roles) for name, roles in PERMISSIONS.items()} == TABLE


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("permission", [*TABLE, "no_such_permission", ""])
def test_s05_each_role_may_do_what_the_table_says(clock, role, permission):
    """S-05: role by action; an operator approves nothing, and what is not in the table is denied to all."""
    if role in TABLE.get(permission, ()):
        assert authorize(principals(clock, role), HEADER, permission).name == "ann"
    else:
        with pytest.raises(Forbidden):
            authorize(principals(clock, role), HEADER, permission)


@pytest.mark.parametrize(
    "header",
    [
        None, b"", b"Bearer", b"Bearer ", b"Basic " + TOKEN.encode(), TOKEN.encode(), HEADER[:-1], HEADER + b"x",
        HEADER.upper(), b"Bearer \xff\xfe", b"Bearer " + b"x" * 100_000, HEADER.replace(b" ", b"\t"), "Bearer ü",
        b"Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
)  # fmt: skip
def test_s01_s30_without_the_token_nobody_is_let_in(clock, header):
    """S-01, S-30: no header, another scheme, a cut, lengthened, foreign, huge or none-algorithm token is refused."""
    with pytest.raises(Unauthenticated) as refused:
        authorize(principals(clock), header, "read")
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize("header", [HEADER, HEADER.decode(), b"bearer " + TOKEN.encode(), b"Bearer  " + TOKEN.encode()])
def test_the_scheme_is_not_case_sensitive(clock, header):
    """Old clients write the header as they like."""
    assert authorize(principals(clock), header, "read").name == "ann"


def test_s30_an_expired_token_is_refused(clock):
    """S-30: a token ends at its time, not a moment later."""
    known = principals(clock, expires_utc=clock.now_utc() + timedelta(hours=1))
    assert authorize(known, HEADER, "read")
    clock.advance(3600)
    with pytest.raises(Unauthenticated):
        authorize(known, HEADER, "read")


def test_s30_a_guessing_peer_is_shut_out_and_others_are_not(clock):
    """S-30: after twenty failures an address waits a minute, even with a valid token; other addresses do not."""
    known = principals(clock)
    for _ in range(20):
        with pytest.raises(Unauthenticated, match="not valid"):
            authorize(known, b"Bearer guess", "read", peer="10.0.0.9")
    with pytest.raises(Unauthenticated, match="too many"):
        authorize(known, HEADER, "read", peer="10.0.0.9")
    assert authorize(known, HEADER, "read", peer="10.0.0.8")
    clock.advance(60)
    assert authorize(known, HEADER, "read", peer="10.0.0.9")


def test_s30_a_stale_caller_does_not_lock_out_its_neighbours(clock):
    """S-30: behind one address, a token that was accepted from it before is taken while guesses are refused."""
    known = principals(clock)
    assert authorize(known, HEADER, "read", peer="10.0.0.9")
    for _ in range(25):
        with pytest.raises(Unauthenticated):
            authorize(known, b"Bearer stale", "read", peer="10.0.0.9")
    assert authorize(known, HEADER, "read", peer="10.0.0.9")
    with pytest.raises(Unauthenticated, match="too many"):
        authorize(known, b"Bearer stale", "read", peer="10.0.0.9")


def test_s30_the_memory_of_guesses_is_bounded(clock):
    """S-30: an attacker with many addresses fills no memory."""
    known = principals(clock)
    for number in range(1500):
        with pytest.raises(Unauthenticated):
            authorize(known, b"Bearer guess", "read", peer=str(number))
        assert authorize(known, HEADER, "read", peer=str(number))
    assert len(known._failures) == len(known._accepted) == 1024


@pytest.mark.inside
def test_s18_tokens_are_not_kept(clock):
    """S-18: neither the token nor its plain hash is in memory that a dump or a traceback could show."""
    known = principals(clock)
    assert TOKEN not in repr(vars(known))
    another = principals(clock)
    assert set(known._by_digest) != set(another._by_digest)


@pytest.mark.parametrize(
    ("host", "needed"),
    [
        ("127.0.0.1", False), ("127.8.8.8", False), ("::1", False), ("localhost", False), ("0.0.0.0", True),  # noqa: S104 (only asked about)
        ("::", True), ("10.0.0.1", True), ("localhost.example.org", True), ("127.0.0.1.example.org", True), ("", True),
    ],
)  # fmt: skip
def test_s01_only_loopback_goes_without_a_token(tmp_path, clock, host, needed):
    """S-01: a listener that others can reach needs a declared token; only what is surely loopback does not."""
    assert needs_token(host) is needed
    if needed:
        with pytest.raises(DeclarationError, match=r"access\.tokens"):
            Principals.from_spec(AccessSpec(), folder=tmp_path, host=host, clock=clock)
        return
    known = Principals.from_spec(AccessSpec(), folder=tmp_path, host=host, clock=clock)
    assert authorize(known, None, "predict").name == "loopback"
    assert authorize(known, None, "operate")
    for permission in ("approve", "administer", "audit"):
        with pytest.raises(Forbidden):
            authorize(known, None, permission)


def spec(*names):
    """Access for these principals, each with the variable TOKEN_<name>."""
    return AccessSpec(
        tokens=tuple(TokenSpec(name=name, role="caller", token=Reference(env=f"TOKEN_{name}")) for name in names)
    )


def test_declared_tokens_are_needed_on_loopback_too(tmp_path, clock, monkeypatch):
    """Where tokens are declared, being on the same machine is not enough."""
    monkeypatch.setenv("TOKEN_till", TOKEN)
    known = Principals.from_spec(spec("till"), folder=tmp_path, host="127.0.0.1", clock=clock)
    assert authorize(known, HEADER, "predict").name == "till"
    with pytest.raises(Unauthenticated):
        authorize(known, None, "predict")


@pytest.mark.parametrize("token", ["guessable", "with a space in the middle", "ümlaut-in-the-token-here"])
def test_s30_weak_or_unsendable_tokens_are_refused(tmp_path, monkeypatch, token):
    """S-30: a token that can be guessed, or that no header carries, is refused at start, without showing it."""
    monkeypatch.setenv("TOKEN_till", token)
    with pytest.raises(DeclarationError, match=r"secrets\.token_urlsafe") as refused:
        Principals.from_spec(spec("till"), folder=tmp_path, host="127.0.0.1")
    assert token not in str(refused.value)


def test_one_token_is_one_principal(tmp_path, monkeypatch):
    """Two principals with one token could not be told apart in the audit log."""
    monkeypatch.setenv("TOKEN_till", TOKEN)
    monkeypatch.setenv("TOKEN_desk", TOKEN)
    with pytest.raises(DeclarationError, match="another principal has the same token"):
        Principals.from_spec(spec("till", "desk"), folder=tmp_path, host="127.0.0.1")


def test_new_tokens_are_long_random_and_hidden():
    """Two new tokens differ, carry 256 bits, and do not show themselves."""
    first, second = new_token(), new_token()
    assert first != second
    assert len(first.reveal()) == 46
    assert first.reveal() not in repr(first)
