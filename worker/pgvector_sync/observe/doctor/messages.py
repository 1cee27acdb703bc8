"""Redis and the broker: there, and set up so that doorbells arrive.

Whether Redis keeps its data over a restart is all the same: messages hold no state.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from pgvector_sync.errors import Refused
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.redis_client import (
    ESCAPED,
    exposed,
    is_redis,
    open_client,
    place_of,
    require_whole_account,
)
from pgvector_sync.settings import Settings

ANSWER_WITHIN = timedelta(seconds=5)
PORTS = {"amqp": 5672, "amqps": 5671, "pyamqp": 5672}


def redis(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        yield warning(
            "REDIS_URL is not set: `worker` and `beat` can't run here, `sync` can",
            "export REDIS_URL=redis://host:6379/0",
        )
        return
    with opened(settings.redis(), "REDIS_URL") as (client, place):
        started = time.monotonic()
        client.ping()
        took = (time.monotonic() - started) * 1000
        seen = f"{place} ({took:.0f} ms)"
        yield _transport(seen, settings.redis(), "REDIS_URL")
        yield from _eviction(client)
        if settings.broker() == settings.redis():
            yield from _shared(client, settings)


def _transport(seen: str, url: str, variable: str) -> Finding:
    found = exposed(url)
    if found is None:
        return ok(seen)
    why, change = found
    return warning(f"{seen}: {why}", f"{change} {variable}, where the server speaks TLS")


def _eviction(client: Redis) -> Iterator[Finding]:
    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except (NoPermissionError, ResponseError):
        yield ok("its maxmemory-policy can't be read", "see that it is noeviction")
        return
    if policy != "noeviction":
        yield warning(
            f"maxmemory-policy is {policy}: short of memory, it throws doorbells away and changes wait longer",
            "CONFIG SET maxmemory-policy noeviction (where the service is managed, in its parameters)",
        )


def _shared(client: Redis, settings: Settings) -> Iterator[Finding]:
    """A relay holds its key only while it runs, so an idle neighbour isn't seen."""
    own = None if settings.database_url is None else f"{settings.namespace()}:relay"
    others = {
        key for key in client.scan_iter(f"{settings.redis_prefix}pgvector-sync:*:relay", count=1000) if key != own
    }
    if others:
        yield warning(
            "another pgvector-sync uses this Redis database: queues have the same names, so one's workers "
            "take the other's messages (or its workers know this database by another DATABASE_URL)",
            "give each a Redis database of its own (REDIS_URL=redis://host:6379/1), "
            "or a PGVECTOR_SYNC_REDIS_PREFIX of its own",
        )


def broker(settings: Settings) -> Iterator[Finding]:
    """Nothing but a connection: what speaks AMQP is Celery's to check."""
    if settings.celery_broker_url is None:
        if settings.redis_url is not None:
            yield ok("REDIS_URL")
        return
    url = settings.broker()
    if is_redis(url):
        with opened(url, "CELERY_BROKER_URL") as (client, place):
            client.ping()
            yield _transport(place, url, "CELERY_BROKER_URL")
            yield from _eviction(client)
        return
    try:
        require_whole_account(url)
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        yield error("CELERY_BROKER_URL isn't a URL", f"expected one such as redis://host:6379/0, {ESCAPED}")
        return
    if host is None or port is None:
        yield ok(f"a broker of the kind {parts.scheme or 'unknown'}, which is not looked at")
        return
    try:
        socket.create_connection((host, port), ANSWER_WITHIN.total_seconds()).close()
    except OSError as failure:
        yield error(
            f"nothing answers at {host}:{port} ({type(failure).__name__})",
            "start the broker, or correct CELERY_BROKER_URL",
        )
    else:
        yield ok(f"{host}:{port} answers")


@contextmanager
def opened(url: str, variable: str) -> Iterator[tuple[Redis, str]]:
    """A client, and how to call its server. Raises SyncError with what to do, and never shows the URL."""
    client = open_client(
        url,
        timeout=ANSWER_WITHIN,
        variable=variable,
        decode_responses=True,
        encoding_errors="replace",
        retry=Retry(NoBackoff(), 0),
    )
    place = place_of(url, variable)
    try:
        with client:
            yield client, place
    except AuthenticationError:
        raise Refused(f"{place} refuses the password", hint=f"correct user and password in {variable}") from None
    except RedisTimeoutError:
        raise Refused(
            f"{place} doesn't answer within {ANSWER_WITHIN.total_seconds():g} s",
            hint=f"check the host in {variable}, and that firewall and security group let this machine in",
        ) from None
    except RedisError as failure:
        raise Refused(
            f"{place} is out of reach ({type(failure).__name__})",
            hint=f"start Redis or Valkey there, or correct {variable}",
        ) from None
