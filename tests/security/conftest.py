"""Each test here carries out an attack with only the attacker's rights: see docs/security.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.attack import WORKERS, Attack
from support.beginnings import Beginning
from support.deployment import Deployment, new_deployment
from support.hostile_endpoint import Hostile, answer, whole
from support.provider_attack import GRANTS, Write, writer
from support.servers import Database
from support.shop import LOOT, PARTITIONS, ROWS, Connection, Role, serve
from support.synced import DIMENSIONS, OURS, Synced


@pytest.fixture
def attack(synced: Synced, role: Callable[..., str]) -> Attack:
    worker = role("worker", *WORKERS)
    attacker = role(
        "attacker", "CREATE SCHEMA loot AUTHORIZATION {role}", "GRANT CREATE ON SCHEMA public TO {role}"
    )
    attack = Attack(synced, attacker, worker)
    attack.as_attacker(
        "CREATE TABLE loot.ran (who text)",
        "GRANT USAGE ON SCHEMA loot TO PUBLIC",
        "GRANT ALL ON loot.ran TO PUBLIC",
    )
    return attack


@pytest.fixture
def deployment(bare_database: Database) -> Iterator[Deployment]:
    """A database before the first run of `sql/roles.sql`, and its administrator, who isn't a superuser."""
    with new_deployment(bare_database) as deployment:
        yield deployment


# -- the table of providers ----------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Hostile]:
    """A server of the attacker that answers like an endpoint and keeps what it receives."""
    with Hostile(whole(answer(1, DIMENSIONS))) as server:
        yield server


@pytest.fixture
def write(beginning: Beginning, synced: Synced, role: Role) -> Write:
    """Updates columns of the provider's row, as a role that may do nothing else."""
    return writer(synced, role("attacker", *GRANTS))


# -- the shop ------------------------------------------------------------------------------------------------


@pytest.fixture
def owner(synced: Synced, role: Role) -> str:
    """A role that owns the schema `shop` and its tables."""
    name = role("shopkeeper", "CREATE SCHEMA shop AUTHORIZATION {role}")
    with synced.database.connect_as(name) as connection:
        for statement in LOOT:
            connection.execute(statement)
    synced.run("SELECT shop.fold()")
    assert synced.database.execute("SELECT who FROM shop.loot") == [("postgres",)], "the trap works"
    synced.run("TRUNCATE shop.loot")
    return name


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
    """Returns the roles, other than the attacker, that have executed the attacker's code."""

    def roles() -> set[str]:
        return {who for (who,) in synced.database.execute("SELECT who FROM shop.loot")} - {owner}

    return roles


@pytest.fixture
def member(synced: Synced, owner: str, role: Role) -> str:
    """A role that applies and syncs, and isn't a superuser."""
    grants = ("GRANT USAGE, CREATE ON SCHEMA shop TO {role}", "GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA shop TO {role}")  # fmt: skip
    with synced.database.connect_as(owner) as connection:
        connection.execute("CREATE TABLE shop.docs (id bigint PRIMARY KEY, body text)")
        connection.execute(ROWS)
    return role("sync_owner", *OURS, *grants)
