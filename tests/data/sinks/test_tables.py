"""What holds for every sink of SQL tables, on SQLite, PostgreSQL and MariaDB alike."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brownfield.data.sinks import Applied, Found, TableTarget, effect_id, ledger_ddl
from brownfield.errors import DeclarationError, Fenced, InputRefused, RejectionCode, SinkRefused, SinkUnavailable
from harness.hostile import IDENTIFIERS


def batch(*rows: tuple) -> pa.RecordBatch:
    """Make a batch of baskets, labels and scores."""
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    schema = pa.schema({"basket": pa.int64(), "label": pa.string(), "score": pa.float64()})
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def test_an_effect_is_made_once_with_its_ledger_row_and_position(place) -> None:
    """Asking twice for one effect writes once; rows, ledger and position are there together."""
    with place.sink() as sink:
        assert sink.find("e1") is Found.ABSENT
        assert sink.position() is None
        assert sink.apply("e1", batch((1, "a", 0.5), (2, None, None)), {"after": [2]}) == Applied(2, repeated=False)
        assert sink.apply("e1", batch((1, "other", 0.1), (2, None, None)), {"after": [9]}) == Applied(2, repeated=True)
        assert sink.find("e1") is Found.DONE
        assert sink.position() == {"after": [2]}
    assert place.rows("SELECT * FROM scores ORDER BY basket") == [(1, "a", 0.5, "theirs"), (2, None, None, "theirs")]
    assert place.rows("SELECT effect_id, stream, row_count FROM brownfield_effect") == [("e1", "claims/till", 2)]


def test_i4_only_the_declared_columns_of_the_declared_keys_change(place) -> None:
    """I4: an upsert leaves other columns, other rows and other tables as they were."""
    place.run(
        "INSERT INTO scores VALUES (1, 'old', 0.1, 'mine'), (9, 'far', 0.9, 'mine');"
        "INSERT INTO elsewhere VALUES (1, 'x')"
    )
    with place.sink() as sink:
        sink.apply("e1", batch((1, "new", 0.2), (3, "c", 0.3)))
    assert place.rows("SELECT * FROM scores ORDER BY basket") == [
        (1, "new", 0.2, "mine"),
        (3, "c", 0.3, "theirs"),
        (9, "far", 0.9, "mine"),
    ]
    assert place.rows("SELECT * FROM elsewhere") == [(1, "x")]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), min_size=1, max_size=8
    )
)
def test_every_text_arrives_as_it_is(place, labels: list[str]) -> None:
    """Tabs, line ends, backslashes, quotes, emoji and whole COPY marks are data and stay so."""
    labels = [*labels, "\\.", "a\n\\.\nb", "\\N", "", "'; DROP TABLE scores; --"]
    rows = [(number, label, 0.0) for number, label in enumerate(labels)]
    with place.sink() as sink:
        for number in range(len(place.rows("SELECT effect_id FROM brownfield_effect")) + 1):
            name = f"e{number}"
        sink.apply(name, batch(*rows))
    found = place.rows("SELECT basket, label FROM scores ORDER BY basket")
    assert found[: len(labels)] == [(number, label) for number, label, _ in rows]


def test_every_kind_of_value_arrives(place) -> None:
    """Dates, instants, decimals, truth values, bytes and the extremes of numbers come back as they went."""
    binary = "bytea" if place.dialect == "postgres" else "blob"
    instant = {"sqlite": "text", "postgres": "timestamptz", "mysql": "datetime(6)"}[place.dialect]
    place.run(f"CREATE TABLE kinds (k bigint PRIMARY KEY, d date, t {instant}, n numeric(9, 2), b boolean, z {binary})")
    at = dt.datetime(2026, 10, 25, 0, 30, 1, 5, tzinfo=dt.UTC)
    rows = pa.record_batch(
        {
            "k": pa.array([-(2**63), 2**63 - 1]),
            "d": [dt.date(2024, 2, 29), None],
            "t": pa.array([at, None], pa.timestamp("us", "UTC")),
            "n": [Decimal("-12.50"), None],
            "b": [True, False],
            "z": [b"\x00\\\xff", b""],
        }
    )
    with place.sink(TableTarget("kinds", tuple(rows.schema.names), ("k",))) as sink:
        sink.apply("e1", rows)
    first, last = place.rows("SELECT k, d, t, n, b, z FROM kinds ORDER BY k")
    assert (first[0], last[0]) == (-(2**63), 2**63 - 1)
    assert (str(first[1]), Decimal(str(first[3])), first[4], first[5]) == (
        "2024-02-29",
        Decimal("-12.50"),
        1,
        b"\x00\\\xff",
    )
    arrived = dt.datetime.fromisoformat(str(first[2]))
    assert (arrived if arrived.tzinfo else arrived.replace(tzinfo=dt.UTC)) == at
    assert last[1:] == (None, None, None, 0, b"")


def test_f41_a_zombie_is_fenced(place) -> None:
    """F-41: whoever owned the stream before can make no effect any more, and moves no position."""
    with place.sink() as zombie:
        zombie.apply("e1", batch((1, "a", 0.1)), {"after": [1]})
        with place.sink() as owner:
            with pytest.raises(Fenced):
                zombie.apply("e2", batch((2, "zombie", 0.2)), {"after": [2]})
            assert owner.find("e2") is Found.ABSENT
            assert owner.apply("e2", batch((2, "owner", 0.2)), {"after": [2]}) == Applied(1, repeated=False)
            assert zombie.apply("e2", batch((2, "zombie", 0.2)), {"after": [7]}) == Applied(1, repeated=True)
            assert owner.position() == {"after": [2]}
    assert place.rows("SELECT label FROM scores ORDER BY basket") == [("a",), ("owner",)]


def test_streams_have_owners_of_their_own(place) -> None:
    """Two streams write beside each other."""
    with place.sink(stream="one") as one, place.sink(stream="two") as two:
        one.apply("e1", batch((1, "a", 0.1)), {"after": [1]})
        two.apply("e2", batch((2, "b", 0.2)), {"after": [5]})
        one.apply("e3", batch((3, "c", 0.3)), {"after": [3]})
        assert (one.position(), two.position()) == ({"after": [3]}, {"after": [5]})


HOSTILE = ['t"; DROP TABLE scores; --', "scores.label", "SCORES", "sc\u00f6res", "a" * 300, "select", "", "scores\0"]


@pytest.mark.parametrize("name", HOSTILE, ids=[f"B-43-{number}" for number in range(len(HOSTILE))])
def test_b43_unknown_names_are_looked_up_never_interpolated(place, name: str) -> None:
    """B-43, S-15: a name that the catalogue does not hold is refused, as table and as column, and nothing runs."""
    for target in (TableTarget(name, ("basket",), ("basket",)), TableTarget("scores", ("basket", name), ("basket",))):
        sink = place.sink(target)
        with pytest.raises((DeclarationError, SinkUnavailable)):
            sink.take_over()
        sink.close()
    assert place.rows("SELECT count(*) FROM scores") == [(0,)]


def test_s15_no_identifier_of_an_injectors_list_is_run(place) -> None:
    """S-15: as a table, a column and a key each is looked up and refused; the tables are what they were."""
    for name in IDENTIFIERS:
        for target in (
            TableTarget(name, ("basket",), ("basket",)),
            TableTarget("scores", ("basket", name), ("basket",)),
            TableTarget("scores", (name,), (name,)),
        ):
            sink = place.sink(target)
            with pytest.raises((DeclarationError, SinkUnavailable)):
                sink.take_over()
            sink.close()
    assert place.rows("SELECT count(*) FROM scores") == [(0,)]


def test_b43_hostile_names_that_exist_are_quoted(place) -> None:
    """B-43, S-15: quotes, semicolons, reserved words and capitals in real names are written as they are."""
    place.run('CREATE TABLE "t""; DROP TABLE scores; --" ("select" int PRIMARY KEY, "a""b" text, "Big %s" int)')
    target = TableTarget('t"; DROP TABLE scores; --', ("select", 'a"b', "Big %s"), ("select",))
    with place.sink(target) as sink:
        sink.apply("e1", pa.record_batch([[1], ["x"], [3]], names=list(target.columns)))
    assert place.rows('SELECT * FROM "t""; DROP TABLE scores; --"') == [(1, "x", 3)]
    assert place.rows("SELECT count(*) FROM scores") == [(0,)]


def test_b45_null_in_a_key_is_refused_row_by_row(place) -> None:
    """B-45: records whose key holds null, also in part, are named; nothing is written."""
    place.run("CREATE TABLE pairs (a int, b int, v text, UNIQUE (a, b))")
    rows = pa.record_batch({"a": [1, None, 3], "b": [None, 2, 3], "v": ["x", "y", "z"]})
    with place.sink(TableTarget("pairs", ("a", "b", "v"), ("b", "a"))) as sink, pytest.raises(InputRefused) as refused:
        sink.apply("e1", rows)
    assert {(each.row, each.field, each.code) for each in refused.value.violations} == {
        (1, "a", RejectionCode.FIELD_NULL),
        (0, "b", RejectionCode.FIELD_NULL),
    }
    assert place.rows("SELECT count(*) FROM pairs") == [(0,)]


@pytest.mark.parametrize("values", [("v",), ()], ids=["with values", "key alone"])
def test_b45_keys_that_collide_in_the_database_are_reported(place, values) -> None:
    """B-45: keys that differ for us and not for the database's collation are refused, not silently merged."""
    kind = "text COLLATE NOCASE" if place.dialect == "sqlite" else "varchar(20) COLLATE utf8mb4_general_nopad_ci"
    if place.dialect == "postgres":
        place.run("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        kind = "text COLLATE nocase"
    place.run(f"CREATE TABLE named (k {kind} PRIMARY KEY, v int)")
    target = TableTarget("named", ("k", *values), ("k",))
    with place.sink(target) as sink:
        both = pa.record_batch({"k": ["lid", "abc", "ABC", "strasse"], "v": [1, 2, 3, 4]}).select(list(target.columns))
        with pytest.raises(SinkRefused, match="two records with one key"):
            sink.apply("e1", both)
        apart = pa.record_batch({"k": ["007", "7", "7 ", "😀"], "v": [1, 2, 3, 4]}).select(list(target.columns))
        assert sink.apply("e2", apart).rows == 4
    assert place.rows("SELECT count(*) FROM named") == [(4,)]
    assert place.rows("SELECT effect_id FROM brownfield_effect") == [("e2",)]


def test_a_rule_of_the_owner_refuses_the_whole_effect(place) -> None:
    """A check constraint of the table refuses the batch as a whole, without a record's value in the message."""
    place.run("CREATE TABLE rated (k int PRIMARY KEY, v text CHECK (v <> 'secret'))")
    target = TableTarget("rated", ("k", "v"), ("k",))
    with place.sink(target) as sink:
        with pytest.raises(SinkRefused) as refused:
            sink.apply("e1", pa.record_batch({"k": [1, 2], "v": ["fine", "secret"]}), {"after": [2]})
        assert "secret" not in str(refused.value)
        assert (sink.find("e1"), sink.position()) == (Found.ABSENT, None)
        assert sink.apply("e1", pa.record_batch({"k": [1], "v": ["fine"]})).rows == 1


def test_wrong_columns_are_refused(place) -> None:
    """A batch with other columns than the declared ones is refused; their order does not matter."""
    with place.sink() as sink:
        with pytest.raises(SinkRefused):
            sink.apply("e1", pa.record_batch({"basket": [1], "owner_note": ["x"]}))
        sink.apply("e1", batch((1, "a", 0.5)).select(["score", "basket", "label"]))
    assert place.rows("SELECT basket, label, score FROM scores") == [(1, "a", 0.5)]


def test_a_table_without_ledger_or_unique_key_is_refused(place) -> None:
    """What the owner has to do first is said; we create nothing."""
    place.run("CREATE TABLE bare (k int, v int)")
    with pytest.raises(DeclarationError, match="unique"):
        place.sink(TableTarget("bare", ("k", "v"), ("k",))).take_over()
    place.run("DROP TABLE brownfield_stream")
    with pytest.raises(DeclarationError, match="ledger_ddl"):
        place.sink().take_over()


def test_an_empty_batch_is_an_effect(place) -> None:
    """A batch without records moves the position and stands in the ledger."""
    with place.sink() as sink:
        assert sink.apply("e1", batch(), {"after": [7]}) == Applied(0, repeated=False)
        assert (sink.find("e1"), sink.position()) == (Found.DONE, {"after": [7]})


@pytest.mark.parametrize("name", ["", "a" * 65, "../x", "a b", "-a", "é"])
def test_effect_ids_are_plain(place, name: str) -> None:
    """An identifier that could be more than a name is refused."""
    with place.sink() as sink, pytest.raises(DeclarationError):
        sink.apply(name, batch((1, "a", 0.5)))


@pytest.mark.parametrize(
    ("columns", "key"), [(("a", "a"), ("a",)), (("a",), ()), (("a",), ("b",)), (("a", "b"), ("a", "a"))]
)
def test_targets_do_not_contradict_themselves(columns, key) -> None:
    """Columns twice, no key, or a key that is not written is refused."""
    with pytest.raises(DeclarationError):
        TableTarget("t", columns, key)


@given(st.integers(0, 9), st.sampled_from(["contract", "model", "source", "integration"]))
def test_effect_ids_differ_in_each_part(number: int, part: str) -> None:
    """The identifier is the same on each attempt, and another when any part is another."""
    named = {"integration": "i", "source": "s", "contract": "c@1", "model": "m@1", "begin": None, "end": {"n": number}}
    assert effect_id(**named) == effect_id(**dict(reversed(named.items())))
    assert effect_id(**named) != effect_id(**{**named, part: "other"})
    assert effect_id(**named) != effect_id(**{**named, "end": {"n": number + 1}})


def test_the_ledgers_ddl_is_text() -> None:
    """The DDL names both tables and quotes what it is given."""
    text = ledger_ddl("postgres", schema='s"x', target=TableTarget("t", ("k",), ("k",)), role='r"; DROP')
    assert 'GRANT SELECT ("k"), INSERT ("k") ON "s""x"."t" TO "r""; DROP";' in text
    assert "UPDATE (" not in text
