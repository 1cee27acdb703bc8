"""The owner of a source, its schema or its key's type can't use the rights of the triggers' owner."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.shop import TYPES, Connection, apply, problem, superuser, unreadable
from support.synced import Synced

# -- the type of a key ---------------------------------------------------------------------------------------

NEW = {"an array of such an enum": "'{9}'", "a composite": "'(1,9)'"}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.quick_variants(3)
def test_the_owner_of_a_source_cant_have_a_keys_type_execute_code_for_the_triggers(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]], kind: str
):
    for statement in TYPES[kind]:
        attacker.execute(statement)
    attacker.execute("ALTER TABLE shop.docs RENAME id TO was; ALTER TABLE shop.docs DROP CONSTRAINT docs_pkey")
    attacker.execute("ALTER TABLE shop.docs ALTER was DROP NOT NULL, ADD id shop.k")
    attacker.execute("INSERT INTO shop.docs (id) VALUES (" + NEW.get(kind, "'9'") + ")")
    attacker.execute("UPDATE shop.docs SET body = 'new'")
    attacker.execute("UPDATE shop.docs SET id = NULL")
    attacker.execute("DELETE FROM shop.docs")
    assert robbed() == set()
    assert unreadable(synced) > 3
    assert "key column id of shop.docs is now shop." in problem(synced)


def test_a_null_in_a_key_becomes_an_event_without_a_key(synced: Synced, attacker: Connection):
    attacker.execute("ALTER TABLE shop.docs DROP CONSTRAINT docs_pkey, ALTER id DROP NOT NULL")
    attacker.execute("INSERT INTO shop.docs VALUES (NULL, 'nothing')")
    attacker.execute("UPDATE shop.docs SET body = 'still nothing' WHERE id IS NULL")
    attacker.execute("DELETE FROM shop.docs WHERE id IS NULL")
    assert synced.events() == [None] * 3
    assert unreadable(synced) == 3
    assert "no longer a unique NOT NULL key" in problem(synced)


def test_a_keys_type_executes_no_code_where_the_triggers_delete_vectors_at_once(
    synced: Synced, attacker: Connection, owner: str, robbed: Callable[[], set[str]]
):
    """The owner of the source doesn't own the schema of the target, so nothing else keeps the triggers from deleting."""
    synced.run("CREATE SCHEMA vault")
    synced.declare("other", source="shop.docs", target="vault.docs_embedding")
    apply(synced)
    with superuser(synced) as runtime:
        synced.settle(runtime=runtime)
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert set(synced.vectors("other")) == {(2,), (3,), (4,)}
    for statement in TYPES["an enum with an implicit cast to bigint"]:
        attacker.execute(statement)
    attacker.execute("ALTER TABLE shop.docs RENAME id TO was; ALTER TABLE shop.docs DROP CONSTRAINT docs_pkey")
    attacker.execute("ALTER TABLE shop.docs ALTER was DROP NOT NULL, ADD id shop.k DEFAULT '9'")
    attacker.execute("DELETE FROM shop.docs")
    assert robbed() == set()
    assert set(synced.vectors("other")) == {(2,), (3,), (4,)}


# -- the source ----------------------------------------------------------------------------------------------


def test_a_view_in_the_sources_place_is_not_evaluated_for_the_triggers(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]]
):
    attacker.execute("ALTER TABLE shop.docs RENAME TO was")
    attacker.execute("CREATE VIEW shop.docs AS SELECT 7::bigint * shop.take() AS id")
    attacker.execute("GRANT SELECT ON shop.docs TO public")
    attacker.execute("DELETE FROM shop.was WHERE id = 1")
    attacker.execute("UPDATE shop.was SET id = 20 WHERE id = 2")
    assert robbed() == set()
    assert synced.events() == [[1], [20], [2]]
    assert "shop.docs is now a view" in problem(synced)


def test_a_table_in_the_sources_place_has_no_cast_called_by_the_triggers(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]]
):
    for statement in TYPES["an enum with an implicit cast to bigint"]:
        attacker.execute(statement)
    attacker.execute("ALTER TABLE shop.docs RENAME TO was")
    attacker.execute("CREATE TABLE shop.docs (id shop.k, body text)")
    attacker.execute("INSERT INTO shop.docs VALUES ('9', 'nine')")
    attacker.execute("DELETE FROM shop.was WHERE id = 1")
    assert robbed() == set()
    assert synced.events() == [[1]]
    assert "key column id of shop.docs is now shop.k" in problem(synced)


def test_a_source_has_no_index_expression_evaluated_while_the_triggers_plan(
    partitioned: Connection, robbed: Callable[[], set[str]]
):
    partitioned.execute("CREATE INDEX ON shop.docs_2 ((shop.fold()))")
    partitioned.execute("DELETE FROM shop.docs_1")  # only planning a query of shop.docs would evaluate the index
    assert robbed() == set()


def test_a_source_has_no_constraint_evaluated_while_the_triggers_plan(
    partitioned: Connection, robbed: Callable[[], set[str]]
):
    partitioned.execute("ALTER TABLE shop.docs_2 ADD CHECK (shop.fold())")
    partitioned.execute("SET plan_cache_mode = force_generic_plan")  # otherwise docs_2 is pruned first
    partitioned.execute("DELETE FROM shop.docs_1")
    assert robbed() == set()


def test_a_temporary_schema_shadows_nothing_that_the_triggers_name(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]]
):
    attacker.execute("CREATE TEMP TABLE taken AS SELECT current_user")
    for table in ("pg_class", "pg_trigger", "pg_proc", "pg_namespace", "pg_database", "outbox", "docs_embedding"):
        attacker.execute(f"CREATE TEMP VIEW {table} AS SELECT shop.take() AS oid")
    for name in ("int8", "regtype", "regclass", "jsonb", "oid"):
        attacker.execute(f"CREATE DOMAIN pg_temp.{name} AS text CHECK (shop.fold())")
    attacker.execute("CREATE FUNCTION pg_temp.pg_typeof(bigint) RETURNS regtype LANGUAGE sql AS $$SELECT shop.take(); SELECT 'int8'::regtype$$")  # fmt: skip
    attacker.execute("SET search_path = pg_temp, pg_catalog")
    attacker.execute("INSERT INTO shop.docs VALUES (9, 'nine')")
    attacker.execute("UPDATE shop.docs SET id = 10 WHERE id = 9")
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert robbed() == set()
    assert synced.events() == [[9], [10], [9], [1]]
