"""The owner of a target's schema, or a role with a grant on a target, can't use the rights of the triggers' owner."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pgvector_sync.errors import Refused
from support.shop import PARTITIONS, TYPES, Connection, Role, apply, problem, serve, superuser
from support.synced import DIMENSIONS, Synced

# -- the target ----------------------------------------------------------------------------------------------

REMADE = {
    "a trigger": "CREATE TRIGGER t BEFORE DELETE ON shop.docs_embedding EXECUTE FUNCTION shop.fire()",
    "a rule": "CREATE RULE r AS ON DELETE TO shop.docs_embedding DO ALSO SELECT shop.take()",
    "an index": "CREATE INDEX ON shop.docs_embedding ((shop.fold()))",
    "a constraint": "ALTER TABLE shop.docs_embedding ADD CHECK (shop.fold())",
}


def remake(attacker: Connection, kind: str) -> None:
    """Replaces the target by a table of the same shape, as the schema's owner."""
    attacker.execute("SET constraint_exclusion = on")
    attacker.execute(
        f"""CREATE TABLE shop.n (id bigint NOT NULL, chunk_no int NOT NULL DEFAULT 0, chunk text,
            embedding vector({DIMENSIONS}) NOT NULL, fingerprint bytea NOT NULL, model text NOT NULL,
            embedded_at timestamptz NOT NULL, PRIMARY KEY (id, chunk_no))"""
    )
    attacker.execute("DROP TABLE shop.docs_embedding")
    attacker.execute("ALTER TABLE shop.n RENAME TO docs_embedding")
    attacker.execute("GRANT ALL ON shop.docs_embedding TO public")
    attacker.execute(
        "INSERT INTO shop.docs_embedding VALUES (1, 0, NULL, array_fill(1, ARRAY[%s])::vector, '', '', now())",
        [DIMENSIONS],
    )
    attacker.execute(REMADE[kind])
    attacker.execute("TRUNCATE shop.loot")


@pytest.mark.parametrize("kind", REMADE)
def test_the_owner_of_a_schema_cant_replace_our_target_by_one_with_code(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]], kind: str
):
    remake(attacker, kind)
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert robbed() == set()
    assert synced.events() == [[1]]


def test_a_pipeline_whose_target_belongs_to_another_role_stops_and_says_so(
    synced: Synced, attacker: Connection, owner: str, robbed: Callable[[], set[str]]
):
    remake(attacker, "a trigger")
    attacker.execute("UPDATE shop.docs SET body = 'new' WHERE id = 1")
    reason = problem(synced)
    assert f"shop.docs_embedding belongs to {owner}, and the triggers of shop.docs run as" in reason
    assert 'run `ALTER TABLE "shop"."docs_embedding" OWNER TO' in reason
    synced.turns(3)
    assert synced.database.value("SELECT count(*) FROM shop.docs_embedding") == 1
    assert robbed() == set()


@pytest.mark.parametrize("trigger", ["EXECUTE FUNCTION mine.fire()", "WHEN (mine.fold()) EXECUTE FUNCTION ours()"])
def test_a_role_that_may_make_triggers_on_a_target_cant_have_them_executed_by_a_delete(
    synced: Synced, attacker: Connection, role: Role, robbed: Callable[[], set[str]], trigger: str
):
    synced.run("CREATE FUNCTION ours() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'")
    app = role(
        "app",
        "CREATE SCHEMA mine AUTHORIZATION {role}",
        "GRANT USAGE ON SCHEMA mine TO public",
        "GRANT TRIGGER ON shop.docs_embedding TO {role}",
    )
    with synced.database.connect_as(app) as other:
        other.execute("CREATE FUNCTION mine.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM shop.take(); RETURN OLD; END'")  # fmt: skip
        other.execute("CREATE FUNCTION mine.fold() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM shop.take(); RETURN true; END'")  # fmt: skip
        other.execute(f"CREATE TRIGGER t BEFORE DELETE ON shop.docs_embedding FOR EACH ROW {trigger}")
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert robbed() == set()
    assert synced.events() == [[1]]


def test_a_role_that_may_refer_to_a_target_cant_make_the_applications_commit_fail(
    synced: Synced, attacker: Connection, role: Role
):
    app = role(
        "app",
        "CREATE SCHEMA mine AUTHORIZATION {role}",
        "GRANT REFERENCES, SELECT ON shop.docs_embedding TO {role}",
    )
    with synced.database.connect_as(app) as other:
        other.execute("CREATE TABLE mine.r (id bigint, n int DEFAULT 0, FOREIGN KEY (id, n) REFERENCES shop.docs_embedding DEFERRABLE INITIALLY DEFERRED)")  # fmt: skip
        other.execute("INSERT INTO mine.r VALUES (1)")
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert synced.events() == [[1]]


def test_a_superusers_delete_is_left_to_the_drain_where_the_schemas_owner_could_rename_it_meanwhile(
    synced: Synced, attacker: Connection
):
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert (1,) in synced.vectors()
    with superuser(synced) as runtime:
        synced.settle(runtime=runtime)
    assert (1,) not in synced.vectors()


def test_an_owner_of_the_triggers_that_isnt_a_superuser_deletes_at_once_in_the_same_place(
    synced: Synced, owner: str, member: str
):
    synced.declare(source="shop.docs")
    with synced.acting_as(member) as runtime:
        synced.apply(runtime)
        synced.settle(runtime=runtime)
        with synced.database.connect_as(owner) as attacker:
            attacker.execute("DELETE FROM shop.docs WHERE id = 1")
        assert set(synced.vectors()) == {(2,), (3,), (4,)}
        synced.settle(runtime=runtime)


# -- the functions -------------------------------------------------------------------------------------------


def borrow(connection: Connection, *functions: str) -> None:
    connection.execute("CREATE TABLE shop.mine (id bigint, body text)")
    for function in functions:
        connection.execute(
            f"""CREATE TRIGGER {function} AFTER {"DELETE" if function == "delete_1" else "INSERT"} ON shop.mine FOR EACH ROW
                EXECUTE FUNCTION pgvector_sync.{function}()"""
        )


@pytest.mark.parametrize("function", ["insert_1", "update_1", "delete_1", "remove_1", "sweep_1"])
def test_the_owner_of_a_plain_source_cant_put_the_functions_on_another_table(
    synced: Synced, attacker: Connection, owner: str, function: str
):
    synced.run(f"GRANT USAGE ON SCHEMA pgvector_sync TO {owner}")  # as for `enqueue`
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        borrow(attacker, function)


def test_the_owner_of_a_partitioned_source_cant_put_the_sweep_on_another_table(
    synced: Synced, partitioned: Connection, owner: str
):
    synced.run(f"GRANT USAGE ON SCHEMA pgvector_sync TO {owner}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        borrow(partitioned, "sweep_1")


def test_a_function_on_another_table_leaves_events_and_deletes_no_vector(synced: Synced, owner: str):
    serve(synced, owner, *PARTITIONS)
    synced.run("ALTER SCHEMA shop OWNER TO CURRENT_USER", f"GRANT CREATE ON SCHEMA shop TO {owner}")
    synced.run(f"GRANT USAGE ON SCHEMA pgvector_sync TO {owner}")
    with synced.database.connect_as(owner) as partitioned:
        borrow(partitioned, "insert_1", "delete_1")
        partitioned.execute("INSERT INTO shop.mine VALUES (1, 'other'), (NULL, 'none')")
        partitioned.execute("DELETE FROM shop.mine")
        assert synced.events() == [[1], None, [1], None]
        assert (1,) in synced.vectors()
        partitioned.execute("DELETE FROM shop.docs_1 WHERE id = 1")  # whereas this is a partition of the source
        assert (1,) not in synced.vectors()


def test_a_former_owner_of_a_source_may_no_longer_use_the_functions(synced: Synced, owner: str, role: Role):
    serve(synced, owner, *PARTITIONS)
    heir = role("heir")
    synced.run(f"ALTER TABLE shop.docs OWNER TO {heir}")
    apply(synced)
    query = "SELECT has_function_privilege(%s, 'pgvector_sync.insert_1()', 'EXECUTE')"
    assert not synced.database.value(query, owner)
    assert synced.database.value(query, heir)
    synced.run(f"ALTER TABLE shop.docs OWNER TO {owner}")


def test_default_privileges_let_no_other_role_use_the_functions(synced: Synced, owner: str):
    synced.run(f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {owner}")
    serve(synced, owner)
    query = "SELECT bool_or(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc WHERE proname ~ '^(insert|update|delete|remove|sweep)_1$'"
    assert not synced.database.value(query, owner)


def test_enqueue_calls_no_cast_of_the_callers(
    synced: Synced, attacker: Connection, owner: str, robbed: Callable[[], set[str]]
):
    synced.run(
        f"GRANT USAGE ON SCHEMA pgvector_sync TO {owner}",
        f"GRANT EXECUTE ON FUNCTION pgvector_sync.enqueue(text, anyelement) TO {owner}",
    )
    for statement in TYPES["an enum with a cast to json"]:
        attacker.execute(statement)
    with pytest.raises(psycopg.errors.WrongObjectType):
        attacker.execute("SELECT pgvector_sync.enqueue('docs', '9'::shop.k)")
    assert robbed() == set()


# -- apply ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["CREATE INDEX ON shop.docs ((shop.fold()))", "CREATE INDEX ON shop.docs (body) WHERE shop.fold()"])  # fmt: skip
def test_the_owner_of_a_source_cant_have_code_write_as_the_role_that_applies(
    synced: Synced, owner: str, member: str, robbed: Callable[[], set[str]], place: str
):
    with synced.database.connect_as(owner) as attacker:
        attacker.execute(place)
    synced.declare(source="shop.docs")
    with synced.acting_as(member) as runtime, pytest.raises(Refused, match=r"shop\.fold\(\)"):
        synced.apply(runtime)
    assert robbed() == set()
