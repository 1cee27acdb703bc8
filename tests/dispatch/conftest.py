from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from pgvector_sync.dispatch.broker import broker_settings
from pgvector_sync.dispatch.registration import register
from pgvector_sync.settings import Settings


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the emptied Valkey."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """An application's app with our tasks and our broker settings, in queues with the prefix `embed.`."""
    app = Celery("shop", set_as_current=False)
    app.conf.update(broker_settings(Settings(REDIS_URL=redis_url, _env_file=None)))
    register(app, prefix="embed.")
    app.finalize()
    yield app
    app.close()
