"""Which version answered at which minute."""

from datetime import timedelta


def test_the_version_in_force_at_a_time_is_known(store, clock):
    """Between two admissions the first one answered; before the first, none."""
    began = clock.now_utc()
    clock.advance(60)
    store.registry.admit(integration="shop", name="m", version="1", digest="aa", probe={"records": 8})
    clock.advance(60)
    store.registry.admit(integration="shop", name="m", version="2", digest="bb", probe={"records": 8})
    store.registry.admit(integration="other", name="m", version="9", digest="cc", probe={})
    assert store.registry.answering_at("shop", began) is None
    assert store.registry.answering_at("shop", began + timedelta(seconds=119)).version == "1"
    assert store.registry.answering_at("shop", began + timedelta(seconds=120)).version == "2"
    assert [each.digest for each in store.registry.admissions("shop")] == ["aa", "bb"]
    assert store.registry.admissions("shop")[0].probe == {"records": 8}
