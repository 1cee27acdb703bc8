"""Every key type, in its one canonical form, from the trigger to the target and back."""

from __future__ import annotations

import pytest

from pgvector_sync.model import KeyColumn
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.store.canonical import canonical_key
from support.synced import Synced

KEYS = {
    "smallint": (["-32768", "32767"], [-32768, 32767]),
    "integer": (["-1", "2147483647"], [-1, 2147483647]),
    "bigint": (["-9223372036854775808", "9007199254740993"], [-9223372036854775808, 9007199254740993]),
    "uuid": (["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "text": (
        ["'a'", "'A'", "' a '", "''", "'quo\"te \\ '' %s {x}'", "'новый 😀'", "E'tab\\tline\\n'", "'null'", "'1'"],
        ["a", "A", " a ", "", "quo\"te \\ ' %s {x}", "новый 😀", "tab\tline\n", "null", "1"],
    ),
    "varchar(5)": (["'abc'", "'  x'"], ["abc", "  x"]),
    "date": (
        ["'2024-02-29'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'12345-01-01'"],
        ["2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "12345-01-01"],
    ),
    "numeric": (
        ["1.00", "-0.5000", "1e30", "123456789012345678901234567890.12345", "0.0", "'NaN'", "'Infinity'"],
        ["1", "-0.5", "1" + 30 * "0", "123456789012345678901234567890.12345", "0", "NaN", "Infinity"],
    ),
    "numeric(10,2)": (["1", "2.50"], ["1", "2.5"]),
    "char(5)": (["'abc'", "'a  '", "'äöü  '", "''"], ["abc", "a", "äöü", ""]),
    "boolean": (["false", "true"], ["false", "true"]),
    "timestamp": (
        [
            "'2024-02-29 12:30:45.123456'",
            "'2024-02-29 12:30:45.5'",
            "'2024-01-01'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03 BC'",
            "'12345-01-01 00:00:00.000001'",
            "'294276-12-31 23:59:59.999999'",
        ],
        [
            "2024-02-29T12:30:45.123456",
            "2024-02-29T12:30:45.5",
            "2024-01-01T00:00:00",
            "infinity",
            "-infinity",
            "0044-03-15T01:02:03 BC",
            "12345-01-01T00:00:00.000001",
            "294276-12-31T23:59:59.999999",
        ],
    ),
    "timestamptz": (
        [
            "'2024-02-29 12:30:45.123456+00'",
            "'2024-02-29 12:30:45.5+09'",
            "'2024-01-01 00:30:00+02'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03.4+00 BC'",
            "'12345-01-01 00:00:00.000001+00'",
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
        ],
        [
            "2024-02-29T12:30:45.123456Z",
            "2024-02-29T03:30:45.5Z",
            "2023-12-31T22:30:00Z",
            "infinity",
            "-infinity",
            "0044-03-15T01:02:03.4Z BC",
            "12345-01-01T00:00:00.000001Z",
            "4714-11-24T00:00:00Z BC",
            "294276-12-31T23:59:59.999999Z",
        ],
    ),
    "timestamptz(3)": (["'2024-02-29 12:30:45.123456+00'"], ["2024-02-29T12:30:45.123Z"]),
    "timestamp(0)": (["'2024-02-29 12:30:45.6'"], ["2024-02-29T12:30:46"]),
    'text COLLATE "C"': (["'b'", "'B'", "'ä'"], ["b", "B", "ä"]),
}


QUICK = {"bigint", "uuid", "text", "date", "numeric(10,2)", "char(5)", "timestamp"}
"""Where every type would take long, the others are among the long tests."""
SOME_QUICK = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KEYS]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.quick_variants(3)
def test_a_key_of_every_allowed_type_finds_its_way(synced: Synced, kind: str):
    values, canonical = KEYS[kind]
    synced.run(f"CREATE TABLE docs (id {kind} PRIMARY KEY, body text)")
    synced.run(f"INSERT INTO docs VALUES ({values[0]}, 'filled')")
    synced.pipeline()
    synced.run(*(f"INSERT INTO docs VALUES ({value}, 'text of {n}')" for n, value in enumerate(values[1:])))
    synced.sync()
    assert set(synced.vectors()) == {(key,) for key in canonical}
    synced.run("UPDATE docs SET body = body || ' changed'")
    assert sorted(synced.events(), key=str) == sorted(([key] for key in canonical), key=str)
    synced.sync()
    synced.run("TRUNCATE docs", f"INSERT INTO docs VALUES ({values[0]}, 'back')")
    synced.sync()
    synced.run("DELETE FROM docs")
    assert synced.vectors() == {}
    synced.sync()


@pytest.mark.parametrize("kind", SOME_QUICK)
@pytest.mark.quick_variants(3)
def test_a_backfill_of_many_pages_finds_every_key(synced: Synced, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pgvector_sync.runs.bulk.PAGE_ROWS", 2)
    values, canonical = KEYS[kind]
    synced.run(f"CREATE TABLE docs (id {kind} PRIMARY KEY, body text)")
    synced.run(*(f"INSERT INTO docs VALUES ({value}, 'text {n}')" for n, value in enumerate(values)))
    synced.pipeline()
    assert set(synced.vectors()) == {(key,) for key in canonical}


def test_numbers_that_differ_only_in_trailing_zeros_are_one_key(synced: Synced):
    synced.run("CREATE TABLE docs (id numeric PRIMARY KEY, body text)", "INSERT INTO docs VALUES (1.0, 'one')")
    synced.pipeline()
    synced.run("UPDATE docs SET id = 1.00, body = 'uno'")
    assert synced.events() == [["1"]]
    assert set(synced.vectors()) == {("1",)}  # no key change, so nothing was deleted
    synced.sync()
    synced.run("UPDATE docs SET id = 1.000")
    synced.sync()
    synced.run("DELETE FROM docs WHERE id = 1")
    assert synced.vectors() == {}


@pytest.mark.parametrize("style", ["German, DMY", "SQL, MDY", "Postgres, MDY", "ISO, YMD"])
def test_a_session_with_another_date_style_writes_the_same_key(synced: Synced, style: str):
    synced.run(
        "CREATE TABLE docs (id date PRIMARY KEY, body text)", "INSERT INTO docs VALUES ('2024-03-01', 'one')"
    )
    synced.pipeline()
    with synced.database.connect(
        options=f"-c DateStyle={style.replace(' ', '')} -c TimeZone=Asia/Tokyo"
    ) as writer:
        writer.execute("UPDATE docs SET body = 'uno'")
        writer.execute("INSERT INTO docs VALUES (make_date(2024, 1, 3), 'two'), (make_date(-44, 3, 15), 'three')")
        assert synced.events() == [["2024-03-01"], ["2024-01-03"], ["0044-03-15 BC"]]
        synced.sync()
        writer.execute("DELETE FROM docs WHERE id = make_date(2024, 1, 3)")
    assert set(synced.vectors()) == {("2024-03-01",), ("0044-03-15 BC",)}
    synced.sync()


ODD_SESSIONS = [
    "-c TimeZone=Asia/Tokyo -c DateStyle=German",
    "-c TimeZone=America/St_Johns -c DateStyle=SQL,DMY",
    "-c TimeZone=<+03>-03 -c DateStyle=Postgres,MDY -c IntervalStyle=sql_standard",
    "-c TimeZone=Europe/Dublin -c standard_conforming_strings=off -c backslash_quote=off",
    "-c timezone_abbreviations=Australia -c extra_float_digits=0",
]


@pytest.mark.parametrize("options", ODD_SESSIONS)
def test_no_setting_of_a_session_changes_the_key_of_a_moment(synced: Synced, options: str):
    synced.run("CREATE TABLE docs (at timestamptz, plain timestamp, body text, PRIMARY KEY (at, plain))")
    synced.pipeline()
    rows = [
        "(make_timestamptz(2024, 3, 31, 1, 30, 0.25, 'UTC'), make_timestamp(2024, 3, 31, 2, 30, 0.25))",
        "(make_timestamptz(-44, 3, 15, 1, 2, 3, 'UTC'), make_timestamp(-44, 3, 15, 1, 2, 3))",
        "('infinity'::timestamptz, '-infinity'::timestamp)",
    ]
    keys = [
        ["2024-03-31T01:30:00.25Z", "2024-03-31T02:30:00.25"],
        ["0044-03-15T01:02:03Z BC", "0044-03-15T01:02:03 BC"],
        ["infinity", "-infinity"],
    ]
    with synced.database.connect(options=options) as writer:
        for row in rows:
            writer.execute(f"INSERT INTO docs SELECT *, 'text' FROM (VALUES {row}) AS v (at, plain)")
        assert synced.events() == keys
        synced.sync()
        assert set(synced.vectors()) == {tuple(key) for key in keys}
        writer.execute("DELETE FROM docs WHERE plain = '-infinity'")
        assert len(synced.vectors()) == 2
        writer.execute("UPDATE docs SET at = at + interval '1 microsecond'")
        synced.sync()
    assert ("2024-03-31T01:30:00.250001Z", "2024-03-31T02:30:00.25") in synced.vectors()


def test_a_composite_key_of_mixed_types_in_key_order(synced: Synced, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pgvector_sync.runs.bulk.PAGE_ROWS", 2)
    synced.run(
        """CREATE TABLE docs (body text, amount numeric, day date, id uuid,
                              tenant varchar(20) COLLATE "C", PRIMARY KEY (tenant, day, amount))""",
        """INSERT INTO docs SELECT 'text ' || g, g % 3 + 0.50, DATE '2024-01-01' + g % 2, gen_random_uuid(),
                                   chr(96 + g) FROM generate_series(1, 9) g""",
    )
    synced.pipeline()
    assert ("a", "2024-01-02", "1.5") in synced.vectors()
    synced.run("UPDATE docs SET amount = amount + 1.50 WHERE tenant = 'a'", "DELETE FROM docs WHERE tenant = 'b'")
    assert synced.events() == [["a", "2024-01-02", "3"], ["a", "2024-01-02", "1.5"], ["b", "2024-01-01", "2.5"]]
    synced.sync()


def test_keys_that_would_read_the_same_if_joined_are_kept_apart(synced: Synced):
    synced.run("CREATE TABLE docs (a text, b text, body text, PRIMARY KEY (a, b))")
    synced.pipeline()
    synced.run(
        """INSERT INTO docs VALUES ('x', 'y,z', '1'), ('x,y', 'z', '2'), ('["x"', '"y"]', '3'), ('', 'xyz', '4')"""
    )
    synced.sync()
    assert len(synced.vectors()) == 4


def test_another_unique_key_may_be_named_in_place_of_the_primary_key(synced: Synced):
    synced.run(
        "CREATE TABLE docs (span interval PRIMARY KEY, slug text NOT NULL UNIQUE, body text)",
        "INSERT INTO docs VALUES ('1 day', 'first', 'one')",
    )
    synced.pipeline(key=["slug"])
    synced.run("UPDATE docs SET slug = 'premier'")
    assert synced.events() == [["premier"], ["first"]]
    synced.sync()


def test_a_key_too_long_for_an_index_is_parked_and_holds_up_no_other(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id text, body text)",
        "CREATE UNIQUE INDEX ON docs (id)",
        "ALTER TABLE docs ALTER id SET NOT NULL",
    )
    synced.pipeline(key=["id"])
    # compresses well enough for the source's index; jsonb in work doesn't get the chance to differ much
    long = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 80) g)"
    synced.run("INSERT INTO docs VALUES ('before', 'one')", f"INSERT INTO docs VALUES ({long}, 'too long')")
    synced.run("INSERT INTO docs VALUES ('after', 'two')")
    synced.settle()
    synced.covered()
    assert {("before",), ("after",)} <= set(synced.vectors())


CANONICAL = [
    ("timestamp with time zone", "2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
    ("timestamp with time zone", "2026-01-31 12:00:00.500000Z", "2026-01-31T12:00:00.5Z"),
    ("timestamp(3) with time zone", "0044-03-15T01:02:03Z BC", "0044-03-15T01:02:03Z BC"),
    ("timestamp with time zone", "infinity", "infinity"),
    ("timestamp with time zone", "2026-01-31T12:00:00", None),
    ("timestamp with time zone", "12345-01-01T00:00:00", None),
    ("timestamp with time zone", "yesterday", None),
    ("timestamp without time zone", "2026-01-31", "2026-01-31T00:00:00"),
    ("timestamp without time zone", "2026-01-31 12:00:00.000001", "2026-01-31T12:00:00.000001"),
    ("timestamp without time zone", "12345-01-01T00:00:00.5", "12345-01-01T00:00:00.5"),
    ("timestamp without time zone", "2026-01-31T12:00:00Z", None),
    ("boolean", True, "true"),
    ("boolean", "f", "false"),
    ("boolean", 1, None),
    ("boolean", "yes please", None),
    ("character(5)", "abc  ", "abc"),
    ("bigint", True, None),
]


@pytest.mark.parametrize(("kind", "typed", "key"), CANONICAL)
@pytest.mark.quick_variants(3)
def test_a_key_as_a_person_types_it_becomes_the_one_that_the_triggers_write(
    kind: str, typed: object, key: str | None
):
    columns = [KeyColumn("k", kind)]
    if key is None:
        with pytest.raises(ValueError, match=r".+"):
            canonical_key([typed], columns)
    else:
        assert canonical_key([typed], columns) == (key,)
        assert canonical_key([key], columns) == (key,)


@pytest.mark.parametrize("kind", SOME_QUICK)
@pytest.mark.quick_variants(3)
def test_enqueue_writes_the_same_key_as_the_triggers(synced: Synced, kind: str):
    values, canonical = KEYS[kind]
    synced.run(f"CREATE TABLE docs (id {kind} PRIMARY KEY, body text)")
    synced.run(*(f"INSERT INTO docs VALUES ({value}, 'text {n}')" for n, value in enumerate(values)))
    synced.pipeline()
    with synced.database.connect(options="-c TimeZone=Asia/Tokyo -c DateStyle=German") as writer:
        writer.execute("SELECT pgvector_sync.enqueue('docs', id) FROM docs")
        assert sorted(synced.events(), key=str) == sorted(([key] for key in canonical), key=str)
        synced.sync()
        writer.execute("SELECT pgvector_sync.enqueue('docs', jsonb_build_array(id)) FROM docs")
    assert sorted(synced.events(), key=str) == sorted(([key] for key in canonical), key=str)


@pytest.mark.parametrize("kind", SOME_QUICK)
@pytest.mark.quick_variants(3)
def test_a_reconciliation_of_many_pages_finds_every_key_that_has_drifted_and_no_other(
    synced: Synced, kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pgvector_sync.runs.reconcile.FIRST_PAGE_ROWS", 2)
    values, canonical = KEYS[kind]
    synced.run(f"CREATE TABLE docs (id {kind} PRIMARY KEY, body text)")
    synced.run(*(f"INSERT INTO docs VALUES ({value}, 'text {n}')" for n, value in enumerate(values)))
    synced.pipeline()
    with synced.database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE docs SET body = 'drifted' WHERE body = 'text 0'")
    request_reconcile(synced.runtime.database, "docs", Reconcile(deep=True))
    synced.settle()
    synced.exact()
    found = synced.database.value("SELECT samples FROM pgvector_sync.run WHERE kind = 'reconcile'")
    assert found == {"stale": [[canonical[0]]]}


@pytest.mark.parametrize("length", ["4000001", pytest.param("(2^28)::int", marks=pytest.mark.slow)])
def test_a_key_too_long_for_json_never_fails_a_statement(synced: Synced, length: str):
    """A unique index would have refused it, but was dropped."""
    synced.run("CREATE TABLE docs (id text PRIMARY KEY, body text)")
    synced.pipeline()
    synced.run("ALTER TABLE docs DROP CONSTRAINT docs_pkey", "ALTER TABLE docs ALTER id SET STORAGE EXTERNAL")
    for statement in (
        f"INSERT INTO docs VALUES (repeat('a', {length}), 'one')",
        "UPDATE docs SET body = 'uno'",
        "UPDATE docs SET id = 'short'",
        f"UPDATE docs SET id = repeat('b', {length})",
        "DELETE FROM docs",
    ):
        synced.run(statement)
        assert synced.events() == [None]
        synced.run("TRUNCATE pgvector_sync.parked")
