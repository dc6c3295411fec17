"""Refused records: kept with their reason, counted by rule, replayed, discarded, expired."""

import pytest

from brownfield.errors import RejectionCode, Violation
from brownfield.store import QuarantineState, Refused, Selection
from brownfield.store.quarantine import RAW_CAP_BYTES

RANGE = Violation("quantity", "quantity.range", RejectionCode.RULE_RANGE)
MISSING = Violation("product_id", "product_id.required", RejectionCode.FIELD_MISSING)


@pytest.fixture
def run_id(store):
    """A run under which records are refused."""
    return store.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1.0.0", contract_digest="ab")


@pytest.fixture
def add(store, run_id):
    """Put records into quarantine."""

    def _add(*records, contract="shop@1.0.0"):
        return store.quarantine.add(run_id, integration="shop", source="baskets", contract=contract, records=records)

    return _add


def test_a_refused_record_keeps_its_reason_and_bytes(store, add, run_id):
    """Everything that is needed to judge and to replay a record is there."""
    assert add(Refused("77", [RANGE, MISSING], {"line": 77}, b"77;-3;", {"quantity": "-9"}, "check")) == 1
    [kept] = store.quarantine.select("shop")
    assert (kept.record_id, kept.run_id, kept.position, kept.stage) == ("77", run_id, {"line": 77}, "check")
    assert (kept.code, kept.field, kept.rule) == ("BF-RUL-001", "quantity", "quantity.range")
    assert kept.violations[1] == ["BF-FLD-002", "product_id", "product_id.required"]
    assert (kept.raw, kept.raw_bytes, kept.preview, kept.attempt) == (b"77;-3;", 6, {"quantity": "-9"}, 1)
    assert kept.state is QuarantineState.OPEN


def test_raw_bytes_are_capped_and_their_length_kept(store, add):
    """A huge record does not fill the store; that its bytes are missing can be seen, and a shorter one is whole."""
    add(Refused("1", [RANGE], raw=b"x" * (RAW_CAP_BYTES + 5)), Refused("2", [RANGE], raw=b"x" * 100_000))
    long, short = store.quarantine.select("shop")
    assert (long.raw, long.raw_bytes, long.whole) == (None, RAW_CAP_BYTES + 5, False)
    assert (len(short.raw), short.whole, store.quarantine.raw_bytes()) == (100_000, True, 100_000)


def test_a_record_refused_again_is_one_entry_with_another_attempt(store, add, clock):
    """The newest reason and contract stand; the first sight of it is remembered."""
    add(Refused("1", [RANGE]))
    clock.advance(60)
    add(Refused("1", [MISSING]), contract="shop@1.1.0")
    [kept] = store.quarantine.select("shop")
    assert (kept.attempt, kept.rule, kept.contract) == (2, "product_id.required", "shop@1.1.0")
    assert (kept.last_seen_utc - kept.first_seen_utc).total_seconds() == 60


def test_a_discarded_record_stays_discarded_and_a_replayed_one_opens_again(store, add):
    """A person's decision outlives the next reading of the same file; a replay that fails again is open."""
    add(Refused("1", [RANGE]), Refused("2", [RANGE]))
    assert store.quarantine.set_state("shop", "baskets", ["1"], QuarantineState.DISCARDED) == 1
    assert store.quarantine.set_state("shop", "baskets", ["2", "3"], QuarantineState.REPLAYED) == 1
    assert store.quarantine.set_state("shop", "baskets", [], QuarantineState.REPLAYED) == 0
    add(Refused("1", [RANGE]), Refused("2", [RANGE]))
    states = {kept.record_id: kept.state for kept in store.quarantine.select("shop")}
    assert states == {"1": QuarantineState.DISCARDED, "2": QuarantineState.OPEN}


def test_a_whole_reading_closes_what_it_no_longer_refuses(store, add, run_id):
    """Open records that a later run did not refuse again are fixed; those of other sources and states stay."""
    add(Refused("1", [RANGE]), Refused("2", [RANGE]), Refused("3", [RANGE]))
    store.quarantine.set_state("shop", "baskets", ["3"], QuarantineState.DISCARDED)
    later = store.ledger.begin_run(integration="shop", kind="pipeline", contract="shop@1.0.0", contract_digest="ab")
    store.quarantine.add(
        later, integration="shop", source="baskets", contract="shop@1.0.0", records=[Refused("2", [RANGE])]
    )
    assert store.quarantine.settle(later, "shop", "other") == 0
    assert store.quarantine.settle(later, "shop", "baskets") == 1
    states = {kept.record_id: str(kept.state) for kept in store.quarantine.select("shop")}
    assert states == {"1": "fixed", "2": "open", "3": "discarded"}
    assert store.quarantine.settle(run_id, "shop", "baskets") == 1


def test_records_are_counted_and_selected_by_reason(store, add):
    """A record that was refused for two reasons counts under both and is found by each."""
    add(Refused("1", [RANGE]), Refused("2", [RANGE]), Refused("3", [MISSING, RANGE]))
    store.quarantine.set_state("shop", "baskets", ["2"], QuarantineState.FIXED)
    assert store.quarantine.count_by_rule("shop") == {
        ("baskets", "BF-FLD-002", "product_id.required"): 1,
        ("baskets", "BF-RUL-001", "quantity.range"): 2,
    }
    assert [kept.record_id for kept in store.quarantine.select("shop", Selection(code="BF-RUL-001"))] == ["1", "2", "3"]
    assert [kept.record_id for kept in store.quarantine.select("shop", Selection(state=QuarantineState.FIXED))] == ["2"]
    assert store.quarantine.select("shop", Selection(source="other")) == []
    assert len(store.quarantine.select("shop", limit=1)) == 1


def test_s19_expired_records_lose_their_bytes_for_good(store, add, clock, path):
    """S-19: after the time to keep them, neither raw bytes nor previews are anywhere in the files of the store."""
    canary = b"CANARY-4711-raw"
    add(Refused("1", [RANGE], raw=canary, preview={"name": "CANARY-4711-preview"}))
    clock.advance(86_400)
    add(Refused("2", [RANGE], raw=b"fresh"))
    assert store.quarantine.expire(clock.now_utc()) == 1
    assert store.quarantine.expire(clock.now_utc()) == 0
    old, fresh = store.quarantine.select("shop")
    assert (old.raw, old.preview, old.state, old.raw_bytes) == (None, None, QuarantineState.EXPIRED, len(canary))
    assert (fresh.raw, fresh.state) == (b"fresh", QuarantineState.OPEN)
    store.close()
    assert all(b"CANARY-4711" not in file.read_bytes() for file in path.parent.iterdir())


@pytest.mark.full
def test_twenty_thousand_records_take_one_transaction(store, add):
    """The quarantine of a large dirty file is entered as one batch, and each record is there."""
    records = [Refused(str(number), [RANGE], number, b"0;1;2;3;4;5", {"quantity": "-9"}) for number in range(20_000)]
    assert add(*records) == 20_000
    assert store.quarantine.count_by_rule("shop") == {("baskets", "BF-RUL-001", "quantity.range"): 20_000}
