"""Where our own Celery app's broker is, and the settings to speak to it with.

An application that has registered us keeps its own way.
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
)
from pgvector_sync.settings import Settings

SOCKET_TIMEOUT = timedelta(seconds=10)
CONNECT_TIMEOUT = timedelta(seconds=5)


def broker_settings(settings: Settings) -> dict[str, Any]:
    """The part of Celery's settings that says where the broker is and how to speak to it. Raises ConfigError."""
    url, variable = settings.broker(), settings.broker_variable
    if not is_redis(url) and settings.celery_broker_url is not None:
        _require_known(scheme_of(url))
        _require_readable(url)
        return {"broker_url": url}
    options = {
        "ack_emulation": False,
        "queue_order_strategy": "priority",  # in the order of task_queues: live first
        "priority_steps": [0],
        "socket_timeout": SOCKET_TIMEOUT.total_seconds(),
        "socket_connect_timeout": CONNECT_TIMEOUT.total_seconds(),
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": settings.redis_prefix,
    }
    if scheme_of(url) == SENTINEL:
        found = sentinels(url, variable)
        options |= {
            "master_name": found.master,
            "sentinels": found.urls,
            "sentinel_kwargs": found.sentinel_options(CONNECT_TIMEOUT),
        }
        return {
            "broker_url": found.broker_url,
            "broker_transport": f"{transport.__name__}:SentinelTransport",
            "broker_transport_options": options,
        }
    plain = _for_kombu(plain_url(url, variable))
    made = {
        "broker_url": plain,
        "broker_transport": f"{transport.__name__}:Transport",
        "broker_transport_options": options,
    }
    if plain.startswith("rediss:") and "ssl_cert_reqs" not in urlsplit(plain).query:
        made["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}  # as redis-py has it
    return made


def _for_kombu(url: str) -> str:
    """Without the parameters that only redis-py knows."""
    parts = urlsplit(url)
    known = [(name, value) for name, value in parse_qsl(parts.query) if name.startswith("ssl_")]
    return urlunsplit(parts._replace(query=urlencode(known)))


def _require_known(scheme: str) -> None:
    """Raises ConfigError for a kind of broker that kombu doesn't know, or whose package is missing."""
    try:
        get_transport_cls(scheme.partition("+")[0] or "none")
    except (KeyError, ImportError, ValueError):
        raise ConfigError(
            f"unsupported kind of broker: {scheme or 'no scheme'}",
            where="CELERY_BROKER_URL",
            hint=f"expected {EXPECTED}, or another kind that Celery knows; unset it to use REDIS_URL",
        ) from None


def _require_readable(url: str) -> None:
    """Raises ConfigError where a piece of the password would be taken for something else."""
    try:
        for one in url.split(";"):
            require_whole_account(one)
            urlsplit(one).port  # noqa: B018 - raises
    except ValueError:
        hint = f"expected {scheme_of(url)}://user:password@host:port/…, {ESCAPED}"
        raise ConfigError("not a broker URL", where="CELERY_BROKER_URL", hint=hint) from None


def check_redis(settings: Settings) -> None:
    """Raises ConfigError for what time doesn't cure; a Redis that is away is waited for later."""
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
        except (RedisError, OSError):
            return
    if mode == "cluster":
        raise ConfigError(
            f"{place} is a Redis Cluster, which Celery can't use as a broker",
            where="REDIS_URL",
            hint="use a single Redis or Valkey server, or one behind Sentinel: sentinel://host:26379/0",
        )
