"""The order of the queues, and the length of one, which is read before each bell."""

from __future__ import annotations

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from pgvector_sync.cli import celery as commands
from pgvector_sync.dispatch.queues import Queues, queue_depth
from support.servers import Valkey


def test_maintenance_is_served_before_bulk_by_our_command_and_by_celery_s() -> None:
    assert commands.QUEUES.split(",") == ["live", "maintenance", "bulk"]
    assert list(Queues().all) == ["live", "maintenance", "bulk"]


def opened(client: redis.Redis) -> int:
    return int(client.info("stats")["total_connections_received"])  # type: ignore[index]


def test_the_length_of_a_queue_is_read_without_a_new_connection(app: Celery, client: redis.Redis) -> None:
    client.lpush("embed.live", "one", "two")
    assert queue_depth(app, "embed.live") == 2
    before = opened(client)
    for _ in range(5):
        assert queue_depth(app, "embed.live") == 2
    assert opened(client) == before


def test_a_connection_that_the_broker_has_closed_is_replaced_at_once(app: Celery, client: redis.Redis) -> None:
    assert queue_depth(app, Queues("embed.").maintenance) == 0
    client.client_kill_filter(_type="normal", skipme=True)
    assert queue_depth(app, Queues("embed.").maintenance) == 0


def test_a_broker_that_is_away_raises_and_is_asked_again_when_it_is_back(app: Celery, valkey: Valkey) -> None:
    assert queue_depth(app, "embed.live") == 0
    valkey.kill()
    for _ in range(2):
        with pytest.raises((OperationalError, redis.RedisError)):
            queue_depth(app, "embed.live")
    valkey.start()
    assert queue_depth(app, "embed.live") == 0
