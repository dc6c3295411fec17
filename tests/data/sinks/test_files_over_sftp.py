"""The sink of drop folders over SFTP: replies that are lost, servers that go, disks that are full."""

import resource
import time

import pyarrow as pa
import pytest

from brownfield.data.folders import LocalFolder
from brownfield.data.folders import sftp as room
from brownfield.data.formats import Copybook, Csv, FixedWidth, Json, Parquet, compile_copybook, read_layout
from brownfield.data.sinks import Applied, FileSink, Found, without_formulas
from brownfield.errors import SinkRefused, SinkUnavailable
from harness.proxy import Proxy

ROWS = pa.record_batch({"basket": [1, 2], "label": ["a", "b"]})


@pytest.fixture
def proxy(sftp_server):
    """A proxy before the server."""
    made = Proxy("127.0.0.1", sftp_server.port)
    yield made
    made.close()


def make(folder, root, **changed) -> FileSink:
    """Make a sink that has not taken over yet."""
    options = {"name": "{effect_id}.csv", "encode": Csv().encode, "totals": ("basket",), **changed}
    return FileSink(folder, ledger=root.parent / "ledger.db", **options)


def seen(root) -> list[str]:
    """Names that a consumer sees."""
    return sorted(path.name for path in root.iterdir() if path.name != ".stage")


@pytest.mark.full
@pytest.mark.parametrize("consumed", [True, False], ids=["taken at once", "left there"])
@pytest.mark.parametrize("nth", range(1, 5))
def test_f53_a_reply_that_is_lost_leaves_the_file_seen_once(
    root, sftp_server, proxy, monkeypatch, nth, consumed
) -> None:
    """F-53: the connection breaks behind the n-th rename; asked again, the sink finds how far it came."""
    real, calls, taken = room._SftpFiles.move, [], []

    def broken(self, old, new) -> None:
        calls.append(new)
        if len(calls) == nth:
            proxy.cut_after = 0
        real(self, old, new)

    def consume() -> None:
        for marker in root.glob("*.done"):
            taken.append(marker.with_suffix("").read_bytes())
            marker.with_suffix("").unlink()
            marker.unlink()

    monkeypatch.setattr(room._SftpFiles, "move", broken)
    failures = 0
    with make(sftp_server.folder(root, root.parent / "var", proxy.port), root) as sink:
        for effect in ("e1", "e1", "e2", "e2"):
            try:
                sink.apply(effect, ROWS, {"after": [effect]})
            except SinkUnavailable:
                failures += 1
                arrived = root / calls[-1]
                for _ in range(200):  # the request arrived; the server may still be at it
                    time.sleep(0 if arrived.exists() else 0.01)
                if consumed:
                    consume()
        assert (sink.find("e1"), sink.find("e2"), failures) == (Found.DONE, Found.DONE, 1)
    consume()
    assert taken == [b'"basket","label"\n1,"a"\n2,"b"\n'] * 2
    assert seen(root) == []
    assert list((root / ".stage").iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize("cut", [0, 3_000, 5_000, 7_000])
def test_f42_f60_a_connection_that_breaks_anywhere_leaves_nothing_half(root, sftp_server, proxy, cut) -> None:
    """F-42, F-60: wherever the answers break off, the effect is there whole or not at all, and once in the end."""
    with make(sftp_server.folder(root, root.parent / "var", proxy.port), root) as sink:
        proxy.cut_after = cut
        for _ in range(4):
            try:
                sink.apply("e1", ROWS)
                break
            except SinkUnavailable:
                assert seen(root) in ([], ["e1.csv"], ["e1.csv", "e1.csv.done"])
        assert sink.apply("e1", ROWS) == Applied(2, repeated=True)
    assert seen(root) == ["e1.csv", "e1.csv.done"]
    assert list((root / ".stage").iterdir()) == []


@pytest.mark.full
def test_b76_what_is_there_is_not_replaced_over_sftp(root, sftp_server) -> None:
    """B-76: the server refuses a rename to a name that is taken, and the sink says whose it is."""
    (root / "e1.csv").write_text("theirs")
    with make(sftp_server.folder(root, root.parent / "var"), root) as sink:
        with pytest.raises(SinkRefused, match="another's"):
            sink.apply("e1", ROWS)
        (root / "e1.csv").unlink()
        sink.apply("e1", ROWS)
    assert seen(root) == ["e1.csv", "e1.csv.done"]


def test_f59_a_full_disk_leaves_nothing_half(root) -> None:
    """F-59: where no more bytes may be written nothing is published; when there is room again the effect is made."""
    many = pa.record_batch({"basket": range(50_000), "label": ["x" * 10] * 50_000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with make(LocalFolder(root), root) as sink:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(SinkUnavailable, match="cannot be written"):
                sink.apply("e1", many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (seen(root), sink.find("e1")) == ([], Found.ABSENT)
        assert list((root / ".stage").iterdir()) == []
        assert sink.apply("e1", many) == Applied(50_000, repeated=False)


COPYBOOK = "       01  R.\n           05  BASKET  PIC 9(4) COMP-3.\n           05  LABEL   PIC X(3).\n"
FORMATS = {
    "csv": (without_formulas(Csv().encode), b'"basket","label"\n1,"a"\n2,"b"\n'),
    "fixed_width": (FixedWidth(read_layout("name,start,width\nbasket,1,3\nlabel,4,2\n")).encode, b"1  a \n2  b \n"),
    "json": (Json().encode, b'{"basket":1,"label":"a"}\n{"basket":2,"label":"b"}\n'),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_leaves_with_a_marker(root, name) -> None:
    """Whatever a format encodes is dropped byte for byte, with its totals in the marker."""
    encode, expected = FORMATS[name]
    with make(LocalFolder(root), root, encode=encode, name="{effect_id}.out") as sink:
        sink.apply("e1", ROWS)
    assert (root / "e1.out").read_bytes() == expected
    assert "total.basket=3\n" in (root / "e1.out.done").read_text()


def test_copybook_and_parquet_leave_as_they_come_in(root) -> None:
    """Mainframe records and Parquet files that were dropped decode to the records that were given."""
    layout = compile_copybook(COPYBOOK, "r.cpy")
    renamed = ROWS.rename_columns([item.name for item in layout.items])
    for number, (encoder, rows) in enumerate([(Copybook(layout), renamed), (Parquet(), ROWS)]):
        with make(LocalFolder(root), root, encode=encoder.encode, name="{effect_id}.out", totals=()) as sink:
            sink.apply(f"e{number}", rows)
        with (root / f"e{number}.out").open("rb") as stream:
            assert [row for each in encoder.decode(stream, rows.schema) for row in each.batch.to_pylist()] == (
                rows.to_pylist()
            )
