"""Which runs the relay rings for."""

from __future__ import annotations

import pytest
import redis
from celery import Celery

from pgvector_sync.dispatch.doorbell import Doorbell
from pgvector_sync.dispatch.queues import Queues
from pgvector_sync.dispatch.ringing import ring_for
from pgvector_sync.dispatch.slots import Slots
from pgvector_sync.dispatch.tokens import Tokens
from pgvector_sync.engine.turn import Turn
from pgvector_sync.model.request import Kind
from pgvector_sync.settings import Settings

RECONCILES = [(run_id, Kind.RECONCILE, "docs") for run_id in range(1, 6)]


@pytest.fixture
def doorbell(app: Celery, client: redis.Redis, redis_url: str) -> Doorbell:
    settings = Settings(REDIS_URL=redis_url, _env_file=None)
    return Doorbell(app, Tokens(client, "test"), Slots(client, "test"), settings, Queues("embed."))


@pytest.mark.parametrize(
    ("slots", "reconciling", "rung"), [(None, 0, 1), (1, 0, 1), (2, 0, 1), (4, 0, 2), (4, 1, 1), (4, 2, 0)]
)
def test_reconciliations_take_at_most_half_of_the_slots(
    doorbell: Doorbell, client: redis.Redis, slots: int | None, reconciling: int, rung: int
) -> None:
    if slots is not None:
        doorbell.slots.announce("worker", slots)
    for _ in range(2):  # a bell that rings already takes up room as well
        ring_for(Turn(0, RECONCILES, [], reconciling), doorbell)
    assert client.llen("embed.maintenance") == rung


def test_backfills_and_re_embeds_are_all_rung_for(doorbell: Doorbell, client: redis.Redis) -> None:
    ring_for(Turn(0, [(1, Kind.BACKFILL, "docs"), (2, Kind.REEMBED, "docs"), *RECONCILES], []), doorbell)
    assert client.llen("embed.bulk") == 2
