"""What can't be a source: refused before anything changes, with what to do about it."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import Refused
from support.synced import DOCS, Synced


def refusal(synced: Synced) -> Refused:
    """Return the refusal of the declared file, after checking that nothing was created."""
    with pytest.raises(Refused) as refused:
        synced.apply()
    assert synced.names() == []
    ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgvector%%'"
    assert synced.database.value(ours) == 0
    assert synced.database.value("SELECT count(*) FROM pg_class WHERE relname LIKE '%%_embedding'") == 0
    assert synced.database.value("SELECT count(*) FROM pgvector_sync.provider") == 0
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE VIEW docs AS SELECT 1 AS id, 'x' AS body", "is a view"),
        ("CREATE MATERIALIZED VIEW docs AS SELECT 1 AS id, 'x' AS body", "is a materialized view"),
        ("CREATE SEQUENCE docs", "is a sequence"),
        ("CREATE TABLE base (id int PRIMARY KEY, body text); CREATE TABLE docs () INHERITS (base)", "inheritance hierarchy"),
        ("CREATE TABLE docs (id int PRIMARY KEY, body text); CREATE TABLE heir () INHERITS (docs)", "inheritance hierarchy"),
        ("CREATE TABLE docs (id int, body text)", "has no primary key"),
        ("CREATE TABLE docs (id int UNIQUE, body text)", "has no primary key"),
        ("CREATE TABLE docs (id int PRIMARY KEY DEFERRABLE, body text)", "has no primary key"),
        ("CREATE TABLE docs (id int NOT NULL, body text); CREATE UNIQUE INDEX ON docs (id) WHERE id > 0", "has no primary"),
        ("CREATE TABLE docs (id int NOT NULL, body text); CREATE UNIQUE INDEX ON docs (abs(id))", "has no primary"),
        ("CREATE TABLE docs (id int PRIMARY KEY, title text)", "has no column body"),
        ("CREATE TABLE docs (chunk_no int PRIMARY KEY, body text)", "has the name of a column of the target"),
        ("CREATE TABLE docs_embedding (); CREATE TABLE docs (id int PRIMARY KEY, body text)", "already exists"),
        ("CREATE TABLE articles (id int)", "there is no table docs"),
    ],
)  # fmt: skip
@pytest.mark.quick_variants(7)
def test_a_table_that_triggers_cannot_serve_is_refused(synced: Synced, statement: str, reason: str):
    synced.run(statement)
    synced.declare()
    synced_classes = "SELECT count(*) FROM pg_class WHERE relname LIKE '%%_embedding'"
    if "docs_embedding" in statement:
        with pytest.raises(Refused, match=reason):
            synced.apply()
        assert synced.database.value(synced_classes) == 1
    else:
        assert reason in str(refusal(synced))


@pytest.mark.parametrize(
    "kind",
    [
        "double precision",
        "real",
        "bytea",
        "inet",
        "time",
        "name",
        "money",
    ],
)
def test_a_key_without_a_canonical_form_is_refused_and_the_ones_that_have_it_are_named(synced: Synced, kind: str):
    synced.run(f"CREATE TABLE docs (id {kind} PRIMARY KEY, body text)")
    synced.declare()
    refused = refusal(synced)
    assert "unsupported type" in str(refused)
    assert "bigint" in refused.hint
    assert 'key = ["column"]' in refused.hint


def test_a_domain_is_refused_as_a_key(synced: Synced):
    synced.run("CREATE DOMAIN number AS int", "CREATE TABLE docs (id number PRIMARY KEY, body text)")
    synced.declare()
    assert "unsupported type" in str(refusal(synced))


def test_an_enum_is_refused_as_a_key_with_a_way_out_that_works(synced: Synced):
    synced.run(
        "CREATE TYPE color AS ENUM ('red', 'blue')",
        "CREATE TABLE docs (id int, kind color, body text, PRIMARY KEY (id, kind))",
        "INSERT INTO docs VALUES (1, 'red', 'one'), (1, 'blue', 'two')",
    )
    synced.declare()
    refused = refusal(synced)
    assert "key column kind of public.docs is the enum public.color" in str(refused)
    synced.run(refused.hint.partition("without one: ")[2].partition(";")[0])
    synced.pipeline(key=["row_id"])
    synced.run("ALTER TYPE color RENAME VALUE 'red' TO 'rouge'", "UPDATE docs SET body = 'uno'")
    synced.sync()


def test_a_citext_key_is_refused(synced: Synced):
    if not synced.database.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'"):
        pytest.skip("this build of PostgreSQL carries no contrib modules, so no citext")
    synced.run("CREATE EXTENSION citext", "CREATE TABLE docs (id citext PRIMARY KEY, body text)")
    synced.declare()
    assert "an unsupported type: public.citext" in str(refusal(synced))


def test_a_key_with_a_nondeterministic_collation_is_refused(synced: Synced):
    collation = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        synced.run(collation)
    except Exception as error:  # noqa: BLE001 - FeatureNotSupported, or another error in a build without ICU
        pytest.skip(f"this build of PostgreSQL has no ICU: {error}")
    synced.run("CREATE TABLE docs (id text COLLATE blind PRIMARY KEY, body text)")
    synced.declare()
    assert "nondeterministic collation" in str(refusal(synced))


def test_a_foreign_table_is_refused(synced: Synced):
    if not synced.database.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'file_fdw'"):
        pytest.skip("this build of PostgreSQL carries no foreign data wrapper")
    synced.run("CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    synced.run("CREATE FOREIGN TABLE docs (id int, body text) SERVER files OPTIONS (filename '/dev/null')")
    synced.declare()
    assert "is a foreign table" in str(refusal(synced))


def test_a_temporary_table_is_refused(synced: Synced):
    with synced.database.connect() as other:
        other.execute("CREATE TEMPORARY TABLE docs (id int PRIMARY KEY, body text)")
        schema = other.execute(
            "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'docs'"
        ).fetchone()[0]
        synced.declare(source=f"{schema}.docs")
        assert "is a temporary table" in str(refusal(synced))


def test_a_partition_is_refused_and_its_parent_is_named(synced: Synced):
    synced.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (10)",
    )
    synced.declare(source="docs_1")
    refused = refusal(synced)
    assert "public.docs_1 is a partition of public.docs" in str(refused)
    assert 'source = "public.docs"' in refused.hint


def test_a_misspelt_table_is_refused_with_the_near_ones(synced: Synced):
    synced.run("CREATE SCHEMA shop", 'CREATE TABLE shop."Docs" (id int)', "CREATE TABLE public.doc (id int)")
    synced.declare()
    hint = refusal(synced).hint
    assert hint is not None
    assert hint.startswith('did you mean public.doc or shop."Docs"?')


def test_a_table_with_capitals_is_shown_in_its_quotes(synced: Synced):
    synced.run('CREATE SCHEMA "Shop"', 'CREATE TABLE "Shop"."ProductItem" (id int PRIMARY KEY, body text)')
    synced.declare(source="Shop.ProductItem")
    hint = refusal(synced).hint or ""
    assert """source = '"Shop"."ProductItem"'""" in hint
    synced.declare(source='"Shop"."ProductItem"')
    assert synced.plan().pending


def test_a_key_that_is_not_unique_is_refused(synced: Synced):
    synced.run(DOCS)
    synced.declare(key=["note"])
    assert "has no unique NOT NULL key (note)" in str(refusal(synced))
    synced.declare(key=["nope"])
    assert "has no column nope" in str(refusal(synced))


def test_a_target_name_that_is_too_long_is_refused_with_the_way_out(synced: Synced):
    name = "ж" * 27
    synced.run(f"CREATE TABLE {name} (id int PRIMARY KEY, body text)")
    synced.declare(source=name)
    refused = refusal(synced)
    assert "longer than 63 bytes" in str(refused)
    assert 'target = "short_name"' in refused.hint
    synced.declare(source=name, target="short_name")
    synced.apply()


@pytest.mark.parametrize(
    "taken", ["CREATE TABLE vectors ()", "CREATE VIEW vectors AS SELECT 1", "CREATE SEQUENCE vectors"]
)
def test_a_target_name_that_is_taken_is_refused(synced: Synced, taken: str):
    synced.run(DOCS, taken)
    synced.declare(target="vectors")
    assert "public.vectors already exists" in str(refusal(synced))


def test_a_target_in_a_missing_schema_is_refused_with_the_statement_that_creates_it(synced: Synced):
    synced.run(DOCS)
    synced.declare(target='"My Vectors".docs')
    hint = refusal(synced).hint
    assert hint == 'CREATE SCHEMA "My Vectors";'
    synced.run(hint)
    synced.apply()


def test_if_one_pipeline_is_refused_nothing_is_changed_and_every_reason_is_given(synced: Synced):
    synced.run(DOCS, "CREATE VIEW looks AS SELECT * FROM docs")
    synced.declare("good")
    synced.declare("bad", source="looks")
    synced.declare("worse", text={"sql": "random()"})
    refused = refusal(synced)
    assert "pipeline bad: public.looks is a view" in str(refused)
    assert "pipeline worse: the expression depends on more than the row: random()" in str(refused)
    assert "good" not in str(refused)
