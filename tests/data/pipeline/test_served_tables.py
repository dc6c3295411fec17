"""The table that requests are answered from: encrypted where the contract classifies what it holds."""

import asyncio
import errno
import os
import sys
import threading

import pytest

from brownfield.data.pipeline import refresh as refreshing
from brownfield.data.pipeline.custody import custody_of
from brownfield.data.pipeline.lookups import lookup_folder
from brownfield.data.pipeline.refresh import refresh
from brownfield.data.served_status import FILE
from brownfield.errors import DeclarationError, FormatError
from brownfield.integration import load_workspace
from brownfield.serving.lookups import Lookups
from brownfield.store import open_store, write_private
from harness.lookup_shop import change, lay_out
from harness.waiting import until

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
ENRICH = "enrich: [{source: products, on: product_id, take: [kind]}]\n"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A shop whose requests take a classified field, with a key."""
    folder = lay_out(tmp_path / "shop")
    home = folder / "integrations/reco"
    (home / "integration.yaml").write_text((home / "integration.yaml").read_text() + ENRICH)
    contract = (home / "contract.odcs.yaml").read_text()
    products, lines = contract.split("- name: lines")
    products = products.replace(
        "{name: kind, logicalType: string}", "{name: kind, logicalType: string, classification: pii}"
    )
    (home / "contract.odcs.yaml").write_text(f"{products}- name: lines{lines}")
    monkeypatch.setenv("SHOP_KEY", KEY)
    declare(folder, "security: {encryption_key: {env: SHOP_KEY}}\n")
    change(folder, "UPDATE products SET kind = 'CANARY-' || product_id")
    return folder


def declare(folder, security):
    """Declare keys for the workspace, or none."""
    text = (folder / "brownfield.yaml").read_text().split("security:")[0]
    (folder / "brownfield.yaml").write_text(text + security)


def read(folder):
    """Read the products for requests once, as the process that does it: the status."""
    workspace = load_workspace(folder)
    spec = workspace.integrations["reco"]
    with open_store(folder / "var/brownfield.db") as store:
        return refresh(spec, workspace.connections, store, "products", custody_of(workspace))


def ask(folder, product_id):
    """What the gateway finds of a product: state, value, reason."""
    workspace = load_workspace(folder)
    [join] = Lookups(workspace).enrichment(workspace.integrations["reco"]).joins
    found = asyncio.run(join.lookup.find({"product_id": [product_id]}, 1, 1.0))
    return found.state, *found.values.get("kind", [None]), *found.reasons


def tables(folder):
    """The tables for requests."""
    workspace = load_workspace(folder)
    return sorted(lookup_folder(workspace.integrations["reco"], "products").glob("served-*.table"))


def test_i11_a_classified_field_is_nowhere_in_clear(shop):
    """I11: neither the table for requests nor anything else below var shows a classified value; requests get it."""
    read(shop)
    assert ask(shop, 3) == ("PRIMARY", "CANARY-3", "")
    files = [path for path in (shop / "var").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".table", ".parquet", ".json", ".db"}
    assert [path.name for path in files if b"CANARY" in path.read_bytes()] == []
    [table] = tables(shop)
    assert table.read_bytes()[:4] == b"BFE1"


def test_an_unchanged_table_is_not_written_again(shop):
    """Encrypting gives other bytes each time, yet equal rows leave the file; other rows and another key do not."""
    first = read(shop)
    second = read(shop)
    assert (second.file, second.written_utc > first.written_utc) == (first.file, True)
    change(shop, "UPDATE products SET kind = 'CANARY-new' WHERE product_id = 3")
    third = read(shop)
    assert third.file != first.file
    assert ask(shop, 3) == ("PRIMARY", "CANARY-new", "")
    assert [path.name for path in tables(shop)] == [third.file]


def test_a_table_follows_the_rotation_of_keys(shop, monkeypatch):
    """Under an old key the table is still opened; the next reading encrypts it with the new one."""
    first = read(shop)
    monkeypatch.setenv("SHOP_KEY_NEW", OTHER)
    declare(shop, "security: {encryption_key: {env: SHOP_KEY_NEW}, old_encryption_keys: [{env: SHOP_KEY}]}\n")
    assert ask(shop, 3) == ("PRIMARY", "CANARY-3", "")
    assert read(shop).key_id != first.key_id
    declare(shop, "security: {encryption_key: {env: SHOP_KEY_NEW}}\n")
    assert ask(shop, 3) == ("PRIMARY", "CANARY-3", "")


def test_f61_a_table_that_cannot_be_opened_is_unavailable_and_made_again(shop, monkeypatch, caplog):
    """F-61: under another key, or changed on the disk, the table is refused and said so; the next reading mends it."""
    status = read(shop)
    monkeypatch.setenv("SHOP_KEY", OTHER)
    caplog.clear()
    assert ask(shop, 3) == ("REFUSE", None, "unavailable")
    assert [record.event for record in caplog.records] == ["BF-LKP-TABLE-REFUSED"]
    monkeypatch.setenv("SHOP_KEY", KEY)
    [table] = tables(shop)
    table.write_bytes(table.read_bytes()[:-1] + b"\0")
    assert ask(shop, 3) == ("REFUSE", None, "unavailable")
    assert read(shop).rows_sha256 == status.rows_sha256
    assert ask(shop, 3) == ("PRIMARY", "CANARY-3", "")


@pytest.fixture
def full_disk(monkeypatch):
    """Let the disk be full for files of a name, until it is empty again."""
    full = []

    def write(path, content):
        if path.name in full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_private(path, content)

    monkeypatch.setattr(refreshing, "write_private", write)
    return full


def test_f59_a_status_that_cannot_be_written_leaves_the_table_before(shop, full_disk):
    """F-59: whoever starts then finds the old status with its table."""
    first = read(shop)
    change(shop, "UPDATE products SET kind = 'CANARY-new' WHERE product_id = 3")
    full_disk.append(FILE)
    with pytest.raises(OSError):
        read(shop)
    assert ask(shop, 3) == ("PRIMARY", "CANARY-3", "")
    full_disk.clear()
    second = read(shop)
    assert ask(shop, 3) == ("PRIMARY", "CANARY-new", "")
    assert (second.file != first.file, [path.name for path in tables(shop)]) == (True, [second.file])


def test_a_table_that_cannot_be_made_leaves_the_one_before(shop, monkeypatch):
    """Rows that no table holds are as good as none: the status says why."""
    first = read(shop)

    def refuse(*_):
        raise FormatError(expected="rows that differ in their key", got="two with one")

    monkeypatch.setattr(refreshing, "write_served_table", refuse)
    second = read(shop)
    assert (second.state, second.file, bool(second.reason)) == ("SNAPSHOT", first.file, True)


def test_f59_a_full_disk_is_one_lookups_trouble_until_its_next_turn(shop, full_disk, monkeypatch, caplog):
    """F-59: the process that reads lookups goes on, names the lookup, and tries again."""
    home = shop / "integrations/reco/integration.yaml"
    home.write_text(home.read_text().replace("take: [kind]}]\n", "take: [kind], refresh_s: 1}]\n"))
    read_end, write_end = os.pipe()
    full_disk.append(FILE)
    with os.fdopen(read_end) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        reader = threading.Thread(target=refreshing.main, args=(shop,))
        reader.start()
        try:
            [told, *_] = until(lambda: [each for each in caplog.records if each.levelname == "ERROR"])
            full_disk.clear()
            until(lambda: ask(shop, 3) == ("PRIMARY", "CANARY-3", ""))
        finally:
            os.close(write_end)
            reader.join()
    assert (told.event, told.integration, told.source) == ("BF-LKP-UNREAD", "reco", "products")
    assert told.reason == os.strerror(errno.ENOSPC)


def test_i11_without_a_key_nothing_is_written_and_nothing_starts(shop):
    """I11: a start refuses to serve classified fields without a key, and the reading process writes no table."""
    declare(shop, "")
    workspace = load_workspace(shop)
    with pytest.raises(DeclarationError, match="a key, for the table for requests"):
        Lookups(workspace).enrichment(workspace.integrations["reco"])
    status = read(shop)
    assert (status.state, status.file, tables(shop)) == ("REFUSE", "", [])


def test_what_is_not_classified_stays_a_plain_file(shop):
    """Where only a field is classified that nobody takes, the table is mapped from the disk as it is."""
    home = shop / "integrations/reco"
    text = (home / "integration.yaml").read_text()
    (home / "integration.yaml").write_text(text.replace("take: [kind]}]\n", "take: [price]}]\n"))
    contract = (home / "contract.odcs.yaml").read_text()
    old = "{name: kind, logicalType: string, classification: pii}"
    (home / "contract.odcs.yaml").write_text(
        contract.replace(old, old + "\n      - {name: price, logicalType: number}")
    )
    change(shop, "ALTER TABLE products ADD COLUMN price REAL DEFAULT 2")
    assert read(shop).key_id == ""
    [table] = tables(shop)
    assert table.read_bytes().startswith(b"BFSERVED1")
