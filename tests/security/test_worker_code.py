"""What a worker runs: its own statements and what its owner trusts, never a function of somebody who can merely create one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from synced import TEXT_LIMIT, Synced

WORKER = (
    "GRANT USAGE ON SCHEMA pgvector_sync TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgvector_sync TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA pgvector_sync TO {role}",
)
"""As documented for a worker's role, besides what it needs on source and target."""
MARK = 666
"""The attacker's function takes this advisory lock, which a read-only transaction allows and no rollback takes back."""


@dataclass
class Attack:
    """An attacker with a schema of his own, an application's table, and a worker with no more than its grants."""

    synced: Synced
    attacker: str
    worker: str

    def as_attacker(self, *statements: str) -> None:
        """Each in a transaction of its own, with only his rights."""
        with self.synced.database.connect() as connection:
            connection.execute(f"SET SESSION AUTHORIZATION {self.attacker}")
            for one in statements:
                connection.execute(one)

    def function(self, name: str, arguments: str, result: str, value: str, more: str = "") -> str:
        """A function of his that notes who runs it, and then returns what was asked for."""
        return f"""CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {result} LANGUAGE plpgsql {more} AS $f$
        BEGIN
            PERFORM pg_catalog.pg_advisory_lock_shared({MARK});
            BEGIN
                INSERT INTO loot.ran (who) VALUES (current_user);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
            RETURN {value};
        END $f$"""

    def sync(self) -> None:
        """A worker, with its own rights, until nothing moves."""
        with self.synced.acting_as(self.worker) as runtime:
            self._turns(runtime)
            self.holders = self.synced.database.value(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", MARK
            )

    def _turns(self, runtime: object) -> None:
        from pgvector_sync.operate.loop import Loop

        loop = Loop(runtime)  # type: ignore[arg-type]
        for _ in range(12):
            loop.turn()

    def nothing_ran(self) -> None:
        assert self.holders == 0
        who = self.synced.database.execute("SELECT who FROM loot.ran")
        assert [role for (role,) in who if role != self.attacker] == []


@pytest.fixture
def attack(synced: Synced, role: Callable[..., str]) -> Attack:
    worker = role("worker", *WORKER)
    attacker = role(
        "attacker", "CREATE SCHEMA loot AUTHORIZATION {role}", "GRANT CREATE ON SCHEMA public TO {role}"
    )
    made = Attack(synced, attacker, worker)
    made.as_attacker(
        "CREATE TABLE loot.ran (who text)",
        "GRANT USAGE ON SCHEMA loot TO PUBLIC",
        "GRANT ALL ON loot.ran TO PUBLIC",
    )
    return made


def documents(attack: Attack, **values: object) -> None:
    """A source of the superuser's, its target, and the worker's grants on both."""
    synced = attack.synced
    synced.run(
        "CREATE TABLE docs (id bigint PRIMARY KEY, body text, note text)",
        "INSERT INTO docs VALUES (1, 'one', 'n')",
    )
    synced.declare(**values)
    synced.apply()
    grant(attack)


def grant(attack: Attack) -> None:
    attack.synced.run(
        f"GRANT SELECT ON docs TO {attack.worker}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON docs_embedding TO {attack.worker}",
    )


def test_a_better_fitting_convert_to_in_public_does_not_run_as_the_worker(attack: Attack) -> None:
    documents(attack)
    attack.as_attacker(attack.function("public.convert_to", "a text, b text", "bytea", "'\\x00'::bytea"))
    attack.sync()
    attack.nothing_ran()
    attack.synced.exact()


def test_an_operator_in_public_does_not_run_as_the_worker(attack: Attack) -> None:
    documents(attack)
    attack.synced.run(f"UPDATE docs SET body = repeat('x', {TEXT_LIMIT + 1})")
    attack.as_attacker(
        attack.function("public.join_them", "a text, b integer", "text", "'joined'"),
        "CREATE OPERATOR public.|| (FUNCTION = public.join_them, LEFTARG = text, RIGHTARG = integer)",
    )
    attack.sync()
    attack.nothing_ran()
    assert attack.synced.dead() == [([1], "too_large")]
