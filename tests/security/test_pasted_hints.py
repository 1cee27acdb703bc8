"""Statements that we advise do only what they say, whatever names other roles have chosen."""

from __future__ import annotations

import pytest

from pgvector_sync.engine.watch import look_now
from pgvector_sync.errors import Refused
from pgvector_sync.store.blockers import Holder
from support.attack import Attack, documents

HOSTILE = [
    'x"; DROP TABLE precious; --%s {} [/x]',
    "x'; DROP TABLE precious; --%(key)s {key}",
    "x\\'\n); DROP TABLE precious; --",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_sql_in_a_name_is_quoted_in_executed_statements(attack: Attack, name: str) -> None:
    """Everything works with a table, a column, a schema and a constraint of such a name."""
    synced = attack.synced
    quoted = '"' + name.replace('"', '""') + '"'
    synced.run(
        "CREATE TABLE precious ()",
        f"CREATE SCHEMA {quoted}",
        f"CREATE TABLE {quoted}.{quoted} ({quoted} bigint PRIMARY KEY, body text)",
        f"INSERT INTO {quoted}.{quoted} VALUES (1, 'one')",
    )
    synced.declare(source=f"{quoted}.{quoted}", text={"sql": "body"}, target="docs_embedding")
    synced.apply()
    synced.sync()
    synced.run(f"DELETE FROM {quoted}.{quoted}", f"INSERT INTO {quoted}.{quoted} VALUES (2, 'two')")
    synced.sync()
    synced.run(f"DROP TRIGGER pgvector_sync_insert ON {quoted}.{quoted}")
    look_now(synced.owner.database)
    synced.remove()
    assert synced.database.value("SELECT to_regclass('precious') IS NOT NULL")


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_of_a_prepared_transaction_is_one_literal(attack: Attack, name: str) -> None:
    holder = Holder(None, name, "public", "docs", "ShareLock", "", None, None, 1.0, False, False)
    (commit, rollback) = holder.way_out.split(" or ROLLBACK PREPARED ")
    for literal in (commit.removeprefix("COMMIT PREPARED "), rollback):
        assert attack.synced.database.value(f"SELECT {literal}") == name


def test_sql_in_the_name_of_a_function_is_quoted_in_the_advice(attack: Attack) -> None:
    name = '"f""; DROP TABLE precious; --"'
    attack.synced.run("CREATE TABLE precious ()")
    attack.as_attacker(attack.function(f"public.{name}", "t text", "text", "t", "IMMUTABLE"))
    with pytest.raises(Refused) as refused:
        documents(attack, text={"sql": f"public.{name}(body)"})
    attack.synced.run(str(refused.value.hint).replace("…", "CURRENT_USER"))
    assert attack.synced.database.value("SELECT to_regclass('precious') IS NOT NULL")
