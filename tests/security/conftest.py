"""Every test here carries out an attack, as an actor with only that actor's rights: see docs/security.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.attack import WORKERS, Attack
from support.synced import Synced


@pytest.fixture
def attack(synced: Synced, role: Callable[..., str]) -> Attack:
    worker = role("worker", *WORKERS)
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
