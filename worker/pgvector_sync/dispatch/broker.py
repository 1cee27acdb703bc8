"""The broker of our own Celery app, and the settings to connect to it.

An application that has registered our tasks keeps its own settings.
"""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from kombu.transport import get_transport_cls
from redis.exceptions import AuthenticationError, RedisError

from pgvector_sync.dispatch import transport
from pgvector_sync.errors import ConfigError
from pgvector_sync.redis_client import (
    ESCAPED,
    EXPECTED,
    SENTINEL,
    is_redis,
    open_client,
    place_of,
    plain_url,
    require_whole_account,
    scheme_of,
    sentinels,
    tls_failure,
)
from pgvector_sync.settings import Settings

SOCKET_TIMEOUT = timedelta(seconds=10)
CONNECT_TIMEOUT = timedelta(seconds=5)


def broker_settings(settings: Settings) -> dict[str, Any]:
    """Return the part of Celery's settings that describes the broker. Raises ConfigError."""
    url, variable = settings.broker(), settings.broker_variable
    if not is_redis(url) and settings.celery_broker_url is not None:
        _require_supported(scheme_of(url))
        _require_parsable(url)
        return {"broker_url": url}
    options = {
        "ack_emulation": False,
        "queue_order_strategy": "priority",  # the order of task_queues, live first
        "priority_steps": [0],
        "socket_timeout": SOCKET_TIMEOUT.total_seconds(),
        "socket_connect_timeout": CONNECT_TIMEOUT.total_seconds(),
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": settings.redis_prefix,
    }
    if scheme_of(url) == SENTINEL:
        address = sentinels(url, variable)
        options |= {
            "master_name": address.master,
            "sentinels": address.urls,
            "sentinel_kwargs": address.sentinel_options(CONNECT_TIMEOUT),
        }
        return {
            "broker_url": address.broker_url,
            "broker_transport": f"{transport.__name__}:SentinelTransport",
            "broker_transport_options": options,
        }
    plain = _for_kombu(plain_url(url, variable))
    broker = {
        "broker_url": plain,
        "broker_transport": f"{transport.__name__}:Transport",
        "broker_transport_options": options,
    }
    if plain.startswith("rediss:") and "ssl_cert_reqs" not in urlsplit(plain).query:
        broker["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}  # the default of redis-py
    return broker


def _for_kombu(url: str) -> str:
    """Remove the parameters that only redis-py knows."""
    parts = urlsplit(url)
    known = [(name, value) for name, value in parse_qsl(parts.query) if name.startswith("ssl_")]
    return urlunsplit(parts._replace(query=urlencode(known)))


def _require_supported(scheme: str) -> None:
    """Raise ConfigError for a kind of broker that kombu doesn't support or whose package is missing."""
    try:
        get_transport_cls(scheme.partition("+")[0] or "none")
    except (KeyError, ImportError, ValueError):
        raise ConfigError(
            f"unsupported kind of broker: {scheme or 'no scheme'}",
            where="CELERY_BROKER_URL",
            hint=f"expected {EXPECTED}, or another kind that Celery supports; unset it to use REDIS_URL",
        ) from None


def _require_parsable(url: str) -> None:
    """Raise ConfigError if the URL can't be parsed, or part of its password isn't parsed as the password."""
    try:
        for part in url.split(";"):
            require_whole_account(part)
            urlsplit(part).port  # noqa: B018 - raises
    except ValueError:
        hint = f"expected {scheme_of(url)}://user:password@host:port/…, {ESCAPED}"
        raise ConfigError("not a broker URL", where="CELERY_BROKER_URL", hint=hint) from None


def check_redis(settings: Settings) -> None:
    """Raise ConfigError for permanent problems with Redis. If it is down, a worker waits for it later."""
    url = settings.redis()
    place = place_of(url)
    with open_client(url, timeout=CONNECT_TIMEOUT) as client:
        try:
            mode = client.info("server").get("redis_mode")
        except AuthenticationError:
            raise ConfigError(
                f"{place} rejected the password",
                where="REDIS_URL",
                hint="correct the user and password in REDIS_URL",
            ) from None
        except (RedisError, OSError) as failure:
            reason = tls_failure(url, "REDIS_URL", failure)
            if reason is None:
                return
            raise ConfigError(
                f"can't connect to {place}: {reason[0]}", where="REDIS_URL", hint=reason[1]
            ) from None
    if mode == "cluster":
        raise ConfigError(
            f"{place} is a Redis Cluster, which Celery can't use as a broker",
            where="REDIS_URL",
            hint="use a single Redis or Valkey server, or one behind Sentinel: sentinel://host:26379/0",
        )
