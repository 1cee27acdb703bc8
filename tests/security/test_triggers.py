"""The owner of a source, of a schema, or of a grant on a target gets none of the rights of the triggers' owner.

The triggers here belong to a superuser, the worst case. Each attack is carried out with the attacker's rights only, and
leaves the name of the role that executed the attacker's code in `shop.loot`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest

from pgvector_sync.engine import watch
from pgvector_sync.errors import Refused
from pgvector_sync.observe.status import read_status
from pgvector_sync.runtime import Runtime
from support.synced import DIMENSIONS, OURS, Synced, runtime_of

Role = Callable[..., str]
Connection = psycopg.Connection[Any]

ROWS = "INSERT INTO shop.docs SELECT g, 'row ' || g FROM generate_series(1, 4) g"
PARTITIONS = (
    "CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text) PARTITION BY RANGE (id)",
    "CREATE TABLE shop.docs_1 PARTITION OF shop.docs FOR VALUES FROM (0) TO (3)",
    "CREATE TABLE shop.docs_2 PARTITION OF shop.docs FOR VALUES FROM (3) TO (1000)",
)
LOOT = (
    "CREATE TABLE shop.loot (who text)",
    "GRANT INSERT ON shop.loot TO public",
    "GRANT USAGE ON SCHEMA shop TO public",
    # volatile, so that it writes; what calls it pretends not to be, and may be evaluated while a statement is planned
    """CREATE FUNCTION shop.take() RETURNS int LANGUAGE sql
       AS 'INSERT INTO shop.loot VALUES (current_user) RETURNING 1'""",
    """CREATE FUNCTION shop.fold() RETURNS boolean LANGUAGE plpgsql IMMUTABLE
       AS 'BEGIN PERFORM shop.take(); RETURN true; END'""",
    """CREATE FUNCTION shop.fire() RETURNS trigger LANGUAGE plpgsql
       AS 'BEGIN PERFORM shop.take(); RETURN OLD; END'""",
)


@pytest.fixture
def owner(synced: Synced, role: Role) -> str:
    """Owns the schema `shop` and its tables."""
    name = role("shopkeeper", "CREATE SCHEMA shop AUTHORIZATION {role}")
    with synced.database.connect_as(name) as connection:
        for statement in LOOT:
            connection.execute(statement)
    return name


def serve(synced: Synced, owner: str, *tables: str) -> None:
    """The owner's table is a source, embedded and in sync."""
    with synced.database.connect_as(owner) as connection:
        for statement in tables or ("CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text)",):
            connection.execute(statement)
        connection.execute(ROWS)
        connection.execute("GRANT SELECT ON shop.docs TO public")
    synced.declare(source="shop.docs")
    apply(synced)
    with superuser(synced) as runtime:
        synced.settle(runtime=runtime)


def superuser(synced: Synced) -> AbstractContextManager[Runtime]:
    """Whose functions the triggers call."""
    return runtime_of(synced.database.url, synced.runtime.embedder)


def apply(synced: Synced) -> None:
    with superuser(synced) as runtime:
        synced.apply(runtime)


@pytest.fixture
def attacker(synced: Synced, owner: str) -> Connection:
    """A session of the owner of a plain source."""
    serve(synced, owner)
    return synced.database.connect_as(owner)


@pytest.fixture
def partitioned(synced: Synced, owner: str) -> Connection:
    """A session of the owner of a partitioned source."""
    serve(synced, owner, *PARTITIONS)
    return synced.database.connect_as(owner)


@pytest.fixture
def robbed(synced: Synced, owner: str) -> Callable[[], set[str]]:
    """The roles, besides the attacker, that have executed the attacker's code."""

    def roles() -> set[str]:
        return {who for (who,) in synced.database.execute("SELECT who FROM shop.loot")} - {owner}

    return roles


def problem(synced: Synced) -> str:
    """Why the schema watch has stopped the pipeline."""
    watch.look_now(synced.runtime.database)
    [status] = read_status(synced.runtime.database, "docs")
    assert status.state == "misconfigured"
    assert status.reason is not None
    return status.reason


def unreadable(synced: Synced) -> int:
    query = "SELECT count(*) FROM pgvector_sync.outbox WHERE error_class = 'key_unreadable'"
    return int(synced.database.value(query))


# -- the type of a key ---------------------------------------------------------------------------------------

TYPES = {
    "an enum with a cast to json": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS json LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN to_json(1); END'""",
        "CREATE CAST (shop.k AS json) WITH FUNCTION shop.cast(shop.k)",
    ),
    "an enum with an implicit cast to bigint": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS bigint LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN 1; END'""",
        "CREATE CAST (shop.k AS bigint) WITH FUNCTION shop.cast(shop.k) AS IMPLICIT",
    ),
    "an enum with an implicit cast to text": (
        "CREATE TYPE shop.k AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.k) RETURNS text LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN 1; END'""",
        "CREATE CAST (shop.k AS text) WITH FUNCTION shop.cast(shop.k) AS IMPLICIT",
    ),
    "an array of such an enum": (
        "CREATE TYPE shop.e AS ENUM ('1', '9')",
        """CREATE FUNCTION shop.cast(shop.e) RETURNS json LANGUAGE plpgsql
           AS 'BEGIN PERFORM shop.take(); RETURN to_json(1); END'""",
        "CREATE CAST (shop.e AS json) WITH FUNCTION shop.cast(shop.e)",
        "CREATE DOMAIN shop.k AS shop.e[]",
    ),
    "a domain": ("CREATE DOMAIN shop.k AS bigint CHECK (shop.fold())",),
    "a composite": ("CREATE TYPE shop.e AS ENUM ('1')", "CREATE TYPE shop.k AS (a shop.e, b bigint)"),
}
NEW = {"an array of such an enum": "'{9}'", "a composite": "'(1,9)'"}


@pytest.mark.parametrize("kind", TYPES)
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
    assert "key column id of shop.docs is shop." in problem(synced)


def test_a_key_without_a_value_is_an_event_without_a_key(synced: Synced, attacker: Connection):
    attacker.execute("ALTER TABLE shop.docs DROP CONSTRAINT docs_pkey, ALTER id DROP NOT NULL")
    attacker.execute("INSERT INTO shop.docs VALUES (NULL, 'nothing')")
    attacker.execute("UPDATE shop.docs SET body = 'still nothing' WHERE id IS NULL")
    attacker.execute("DELETE FROM shop.docs WHERE id IS NULL")
    assert synced.events() == [None] * 3
    assert unreadable(synced) == 3
    assert "not a unique NOT NULL key" in problem(synced)


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
    assert "shop.docs is a view now" in problem(synced)


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
    assert "key column id of shop.docs is shop.k now" in problem(synced)


def test_a_source_has_no_index_expression_evaluated_while_the_triggers_plan(
    partitioned: Connection, robbed: Callable[[], set[str]]
):
    partitioned.execute("CREATE INDEX ON shop.docs_2 ((shop.fold()))")
    partitioned.execute("DELETE FROM shop.docs_1")  # only planning a look into shop.docs comes by the index
    assert robbed() == set()


def test_a_source_has_no_constraint_evaluated_while_the_triggers_plan(
    partitioned: Connection, robbed: Callable[[], set[str]]
):
    partitioned.execute("ALTER TABLE shop.docs_2 ADD CHECK (shop.fold())")
    partitioned.execute("SET plan_cache_mode = force_generic_plan")  # else docs_2 is pruned before
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


# -- the target ----------------------------------------------------------------------------------------------

REMADE = {
    "a trigger": "CREATE TRIGGER t BEFORE DELETE ON shop.docs_embedding EXECUTE FUNCTION shop.fire()",
    "a rule": "CREATE RULE r AS ON DELETE TO shop.docs_embedding DO ALSO SELECT shop.take()",
    "an index": "CREATE INDEX ON shop.docs_embedding ((shop.fold()))",
    "a constraint": "ALTER TABLE shop.docs_embedding ADD CHECK (shop.fold())",
}


def remake(attacker: Connection, kind: str) -> None:
    """The schema's owner puts a table of the same shape in the target's place."""
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
def test_the_owner_of_a_schema_cant_put_a_target_with_code_in_the_place_of_ours(
    synced: Synced, attacker: Connection, robbed: Callable[[], set[str]], kind: str
):
    remake(attacker, kind)
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert robbed() == set()
    assert synced.events() == [[1]]


def test_a_pipeline_whose_target_belongs_to_somebody_else_stops_and_says_so(
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


@pytest.fixture
def member(synced: Synced, owner: str, role: Role) -> str:
    """Applies and syncs, and is no superuser."""
    grants = ("GRANT USAGE, CREATE ON SCHEMA shop TO {role}", "GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA shop TO {role}")  # fmt: skip
    with synced.database.connect_as(owner) as connection:
        connection.execute("CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text)")
        connection.execute(ROWS)
    return role("sync_owner", *OURS, *grants)


def test_a_superusers_delete_is_left_to_the_drain_where_the_schemas_owner_could_rename_it_meanwhile(
    synced: Synced, attacker: Connection
):
    attacker.execute("DELETE FROM shop.docs WHERE id = 1")
    assert (1,) in synced.vectors()
    with superuser(synced) as runtime:
        synced.settle(runtime=runtime)
    assert (1,) not in synced.vectors()


def test_an_owner_of_the_triggers_that_is_no_superuser_deletes_at_once_in_the_same_place(
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


def borrow(connection: Connection, function: str = "capture_1") -> None:
    connection.execute("CREATE TABLE shop.mine (id bigint, body text)")
    connection.execute(
        f"""CREATE TRIGGER t AFTER INSERT OR DELETE ON shop.mine FOR EACH ROW
            EXECUTE FUNCTION pgvector_sync.{function}()"""
    )


@pytest.mark.parametrize("function", ["capture_1", "sweep_1"])
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
        borrow(partitioned)
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
    query = "SELECT has_function_privilege(%s, 'pgvector_sync.capture_1()', 'EXECUTE')"
    assert not synced.database.value(query, owner)
    assert synced.database.value(query, heir)
    synced.run(f"ALTER TABLE shop.docs OWNER TO {owner}")


def test_default_privileges_let_nobody_use_the_functions(synced: Synced, owner: str):
    synced.run(f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {owner}")
    serve(synced, owner)
    query = "SELECT bool_or(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc WHERE proname IN ('capture_1', 'sweep_1')"
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
