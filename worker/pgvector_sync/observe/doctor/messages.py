"""Checks that Redis and the broker answer and are configured to deliver doorbells.

Whether Redis persists its data doesn't matter: messages hold no state.
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
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.redis_client import (
    ESCAPED,
    exposed,
    is_redis,
    open_client,
    place_of,
    require_whole_account,
    tls_failure,
)
from pgvector_sync.settings import Settings

TIMEOUT = timedelta(seconds=5)
DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671, "pyamqp": 5672}


def redis(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is None:
        yield warning(
            "REDIS_URL isn't set: only `sync` can run here, not `worker` or `beat`",
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
    exposure = exposed(url)
    if exposure is None:
        return ok(seen)
    why, change = exposure
    return warning(f"{seen}: {why}", f"{change} {variable}, if the server supports TLS")


def _eviction(client: Redis) -> Iterator[Finding]:
    try:
        policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except (NoPermissionError, ResponseError):
        yield ok("maxmemory-policy can't be read", "make sure that it is noeviction")
        return
    if policy != "noeviction":
        yield warning(
            f"maxmemory-policy is {policy}: under memory pressure doorbells are evicted, and changes wait longer",
            "CONFIG SET maxmemory-policy noeviction (for a managed service, in its parameters)",
        )


def _shared(client: Redis, settings: Settings) -> Iterator[Finding]:
    """Detect another pgvector-sync in this Redis database. Its relay holds its key only while it runs."""
    own = None if settings.database_url is None else f"{settings.namespace()}:relay"
    others = {
        key for key in client.scan_iter(f"{settings.redis_prefix}pgvector-sync:*:relay", count=1000) if key != own
    }
    if others:
        yield warning(
            "another pgvector-sync uses this Redis database (or this one with DATABASE_URL spelled differently): "
            "their queues have the same names, so workers take each other's messages",
            "give each its own Redis database (REDIS_URL=redis://host:6379/1) or PGVECTOR_SYNC_REDIS_PREFIX",
        )


def broker(settings: Settings) -> Iterator[Finding]:
    """Check the broker. Brokers other than Redis only get a TCP connection; Celery checks the protocol."""
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
        host, port = parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        yield error(
            "CELERY_BROKER_URL isn't a valid URL", f"expected a URL such as redis://host:6379/0, {ESCAPED}"
        )
        return
    if host is None or port is None:
        yield ok(f"not checked: a broker of type {parts.scheme or 'unknown'}")
        return
    try:
        socket.create_connection((host, port), TIMEOUT.total_seconds()).close()
    except OSError as failure:
        yield error(
            f"can't connect to {host}:{port} ({type(failure).__name__})",
            "start the broker, or correct CELERY_BROKER_URL",
        )
    else:
        yield ok(f"{host}:{port} answers")


@contextmanager
def opened(url: str, variable: str) -> Iterator[tuple[Redis, str]]:
    """Open a client; yields it with its server's address to show.

    Raises SyncError with a hint. Never shows the URL, which may hold a password.
    """
    client = open_client(
        url,
        timeout=TIMEOUT,
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
        raise Refused(
            f"{place} rejected the password", hint=f"correct the user and password in {variable}"
        ) from None
    except RedisTimeoutError:
        raise Refused(
            f"{place} didn't answer within {TIMEOUT.total_seconds():g} s",
            hint=f"check the host in {variable}, and that firewalls and security groups allow this machine",
        ) from None
    except RedisError as failure:
        if reason := tls_failure(url, variable, failure):
            raise Refused(f"can't connect to {place}: {reason[0]}", hint=reason[1]) from None
        raise Refused(
            f"can't connect to {place} ({type(failure).__name__})",
            hint=f"start Redis or Valkey, or correct {variable}",
        ) from None
