"""What a write leaves in the outbox, statement by statement."""

from __future__ import annotations

import pytest

from support.beginnings import begins_with, default_source
from support.synced import DOCS, Synced


def two_rows(synced: Synced) -> None:
    """Two rows, filled; `body` is tracked and `note` is not."""
    default_source(synced)
    synced.filled("INSERT INTO docs VALUES (1, 'one', 'n'), (2, 'two', 'n')")
    assert synced.events() == []


beginning, docs = begins_with(two_rows)


@pytest.mark.parametrize(
    ("statement", "keys"),
    [
        pytest.param("INSERT INTO docs VALUES (3, 'three')", [[3]], id="insert"),
        pytest.param("INSERT INTO docs SELECT g, 'row ' || g FROM generate_series(3, 5) g", [[3], [4], [5]], id="insert-select"),
        pytest.param("INSERT INTO docs VALUES (1, 'uno') ON CONFLICT (id) DO UPDATE SET body = excluded.body", [[1]], id="upsert-of-a-row-that-is-there"),
        pytest.param("INSERT INTO docs VALUES (3, 'tre') ON CONFLICT (id) DO UPDATE SET body = excluded.body", [[3]], id="upsert-of-a-new-row"),
        pytest.param("INSERT INTO docs VALUES (1, 'uno') ON CONFLICT (id) DO UPDATE SET note = excluded.note", [], id="upsert-of-an-untracked-column"),
        pytest.param("INSERT INTO docs VALUES (1, 'uno') ON CONFLICT DO NOTHING", [], id="do-nothing"),
        pytest.param("UPDATE docs SET body = 'uno' WHERE id = 1", [[1]], id="update-of-a-tracked-column"),
        pytest.param("UPDATE docs SET body = NULL WHERE id = 1", [[1]], id="update-to-null"),
        pytest.param("UPDATE docs SET body = body", [], id="update-that-changes-nothing"),
        pytest.param("UPDATE docs SET note = 'm'", [], id="update-of-an-untracked-column"),
        pytest.param("UPDATE docs SET id = 9 WHERE id = 1", [[9], [1]], id="key-change"),
        pytest.param("DELETE FROM docs WHERE id = 1", [[1]], id="delete"),
        pytest.param("DELETE FROM docs", [[1], [2]], id="delete-of-all"),
        pytest.param("TRUNCATE docs", [None], id="truncate"),
        pytest.param(
            "WITH gone AS (DELETE FROM docs WHERE id = 1 RETURNING *) INSERT INTO docs SELECT 7, body, note FROM gone",
            [[7], [1]],
            id="delete-and-insert-in-one-statement",
        ),
        pytest.param(
            """MERGE INTO docs USING (VALUES (1, 'uno'), (2, NULL), (3, 'tre')) AS v (id, body) ON docs.id = v.id
               WHEN MATCHED AND v.body IS NULL THEN DELETE
               WHEN MATCHED THEN UPDATE SET body = v.body
               WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.body)""",
            [[1], [2], [3]],
            id="merge",
        ),
    ],
)  # fmt: skip
@pytest.mark.quick_variants(10)
def test_a_write_leaves_the_keys_it_touched_in_the_outbox_and_nothing_else(
    docs: Synced, statement: str, keys: list[list[int] | None]
):
    docs.run(statement)
    assert sorted(docs.events(), key=str) == sorted(keys, key=str)
    docs.sync()
    assert docs.events() == []


def test_copied_rows_are_embedded(docs: Synced):
    with (
        docs.database.connect() as connection,
        connection.cursor().copy("COPY docs (id, body, note) FROM STDIN") as copy,
    ):
        for row in [(3, "three", None), (4, "a\ttab and a\nline", "n"), (5, None, None)]:
            copy.write_row(row)
    assert docs.events() == [[3], [4], [5]]
    docs.sync()
    assert set(docs.vectors()) == {(1,), (2,), (3,), (4,)}


def test_a_column_that_a_before_trigger_changes_is_captured_although_the_statement_does_not_name_it(
    docs: Synced,
):
    docs.run(
        """CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN new.body := upper(new.body); RETURN new; END $$""",
        "CREATE TRIGGER a_shout BEFORE INSERT OR UPDATE OF note ON docs FOR EACH ROW EXECUTE FUNCTION shout()",
        "UPDATE docs SET note = 'other' WHERE id = 1",
    )
    assert docs.events() == [[1]]
    docs.sync()
    assert docs.texts()[1,] == "ONE"


def test_a_before_trigger_that_takes_a_change_back_leaves_no_event(docs: Synced):
    docs.run(
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN new.body := old.body; RETURN new; END $$""",
        "CREATE TRIGGER a_keep BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION keep()",
        "UPDATE docs SET body = 'other'",
    )
    assert docs.events() == []
    docs.sync()


def test_a_change_that_compares_as_equal_but_reads_otherwise_is_captured(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, price numeric, doc json, at interval)",
        """INSERT INTO docs VALUES (1, 1.0, '{"a":1}', '1 day'), (2, 2.0, NULL, '24 hours')""",
    )
    synced.pipeline(text=["price", "doc", "at"])
    synced.run("UPDATE docs SET price = 1.00 WHERE id = 1")
    assert synced.events() == [[1]]
    synced.sync()
    synced.run("""UPDATE docs SET doc = '{ "a": 1 }' WHERE id = 1""")
    assert synced.events() == [[1]]
    synced.sync()
    synced.run("UPDATE docs SET at = '24 hours' WHERE id = 1")
    assert synced.events() == [[1]]
    synced.sync()


def test_a_case_change_of_a_citext_is_captured(synced: Synced):
    if not synced.database.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this build of PostgreSQL carries no contrib modules, so no citext")
    synced.run("CREATE EXTENSION citext", "CREATE TABLE docs (id int PRIMARY KEY, body citext)")
    synced.run("INSERT INTO docs VALUES (1, 'abc')")
    synced.pipeline()
    synced.run("UPDATE docs SET body = 'ABC'")
    assert synced.events() == [[1]]
    synced.sync()


def test_a_case_change_under_a_collation_that_ignores_case_is_captured(synced: Synced):
    collation = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        synced.run(collation)
    except Exception as error:  # noqa: BLE001 - FeatureNotSupported, or another error in a build without ICU
        pytest.skip(f"this build of PostgreSQL has no ICU: {error}")
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text COLLATE blind)", "INSERT INTO docs VALUES (1, 'abc')"
    )
    synced.pipeline()
    synced.run("UPDATE docs SET body = 'ABC'")
    assert synced.events() == [[1]]
    synced.sync()


def test_a_number_of_a_type_with_the_name_of_another_is_compared_as_a_number(synced: Synced):
    synced.run('CREATE DOMAIN "text" AS numeric', "CREATE TABLE docs (id int PRIMARY KEY, body public.text)")
    synced.run("INSERT INTO docs VALUES (1, 1.0)")
    synced.pipeline()
    synced.run("UPDATE docs SET body = 1.00")
    assert synced.events() == [[1]]
    synced.sync()


@pytest.mark.parametrize(
    ("kind", "before", "same", "after"),
    [
        ("smallint", "1", "1.0", "-1"),
        ("bigint", "1", "'01'", "4294967297"),
        ("boolean", "true", "'on'", "false"),
        (
            "uuid",
            "'0000000000000000000000000000000a'",
            "'{0000000000000000000000000000000A}'",
            "gen_random_uuid()",
        ),
        ("date", "'2024-01-31'", "'Jan 31, 2024'", "'infinity'"),
        ("timestamptz", "'2024-01-31 12:00+00'", "'2024-01-31 14:00+02'", "'2024-01-31 14:00+00'"),
        ("timestamp(0)", "'2024-01-31 12:00'", "'2024-01-31 12:00:00.4'", "'2024-01-31 12:00:01'"),
        ("text", "'a'", "'a' || ''", "'a '"),
        ("varchar(9)", "'a'", "'a' || ''", "'A'"),
        ("char(3)", "'a'", "'a  '", "'A'"),
        ("bytea", "'a'", r"'\x61'", r"'\x6100'"),
    ],
)
def test_a_value_is_a_change_only_if_it_is_stored_otherwise(
    synced: Synced, kind: str, before: str, same: str, after: str
):
    synced.run(f"CREATE TABLE docs (id int PRIMARY KEY, body text, extra {kind})")
    synced.run(f"INSERT INTO docs VALUES (1, 'one', {before})")
    synced.declare(text=["body", "extra"])
    synced.apply()
    synced.settle()
    synced.run(f"UPDATE docs SET extra = {same}")
    assert synced.events() == []
    for value in (after, "NULL", before):
        synced.run(f"UPDATE docs SET extra = {value}")
        assert synced.events() == [[1]]
        synced.settle()


def test_a_row_that_changes_often_in_one_transaction_is_embedded_once(docs: Synced):
    paid = docs.paid()
    with docs.database.connect() as connection, connection.transaction():
        for number in range(20):
            connection.execute("UPDATE docs SET body = 'version ' || %s WHERE id = 1", [number])
    assert docs.events() == [[1]] * 20
    docs.sync()
    assert docs.paid() == paid + 1


def test_an_unlogged_table_is_a_source_like_any_other(synced: Synced):
    synced.run("CREATE UNLOGGED TABLE docs (id int PRIMARY KEY, body text)", "INSERT INTO docs VALUES (1, 'one')")
    synced.pipeline()
    synced.run("UPDATE docs SET body = 'uno'")
    synced.sync()


def test_two_pipelines_on_one_source_share_the_event_and_have_a_work_row_each(synced: Synced):
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one', 'first')")
    synced.declare("bodies")
    synced.declare("notes", text=["note"], where="id < 100")
    synced.apply()
    synced.sync()
    synced.run("UPDATE docs SET note = 'second'", "INSERT INTO docs VALUES (2, 'two', 'n'), (200, 'far', 'n')")
    assert synced.events() == [[1], [2], [200]]
    synced.sync()
    assert set(synced.vectors("bodies")) == {(1,), (2,), (200,)}
    assert set(synced.vectors("notes")) == {(1,), (2,)}
    synced.run("DELETE FROM docs WHERE id = 2")
    assert set(synced.vectors("bodies")) == {(1,), (200,)}  # both at once, by one trigger
    assert set(synced.vectors("notes")) == {(1,)}
    assert synced.database.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 5
    synced.sync()
