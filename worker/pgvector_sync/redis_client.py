"""Addresses of a Redis or Valkey, and clients for them: a single server, TLS, or one found through Sentinel.

redis://user:password@host:6379/0        rediss:// for TLS; valkey:// and valkeys:// mean the same
sentinel://user:password@host:26379,host:26379/0?master_name=mymaster
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry
from redis.sentinel import Sentinel

from pgvector_sync.errors import ConfigError

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
"""What a single server's URL may begin with, and how redis-py and kombu spell it."""
SENTINEL = "sentinel"
SENTINEL_PORT = 26379
MASTER_NAME = "mymaster"
"""The name in Redis' own examples of sentinel.conf."""
EXPECTED = "redis://user:password@host:6379/0 (rediss:// for TLS, or sentinel://host:26379,host:26379/0)"
ESCAPED = "with @ : / ? # and % in the password written as %40 %3A %2F %3F %23 %25"
NOT_UNDERSTOOD = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError)
"""What redis-py and kombu raise, beside errors of theirs, for a reply that no Redis gives: a length that is no
number, one within another without end, a number in place of a list."""
_NO = {"0", "f", "false", "n", "no"}
"""As redis-py reads a parameter."""
_LIKELY_MEANT = re.compile(r"^[\w.\[\]-]+:\d+(/\d+)?$")


class Client(Redis):
    """Whatever the server says, an error is a RedisError."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except NOT_UNDERSTOOD as error:
            raise InvalidResponse(f"unexpected reply from Redis ({type(error).__name__})") from None


@dataclass(frozen=True)
class Sentinels:
    """Where the sentinels are, and which master they are asked for."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)

    def sentinel_options(self, timeout: timedelta) -> dict[str, Any]:
        """Of the connections to the sentinels themselves: where one is away, the next is asked at once."""
        options: dict[str, Any] = {
            "socket_timeout": timeout.total_seconds(),
            "socket_connect_timeout": timeout.total_seconds(),
            "retry": Retry(NoBackoff(), 0),
        }
        return options | ({"password": self.sentinel_password} if self.sentinel_password else {})

    @property
    def broker_url(self) -> str:
        """For kombu, which wants one host in it."""
        user, password = quote(self.username or "", safe=""), quote(self.password or "", safe="")
        host, port = self.hosts[0]
        return f"sentinel://{user}:{password}@{host}:{port}/{self.database}"

    @property
    def urls(self) -> list[str]:
        """One per sentinel."""
        return [f"sentinel://{host}:{port}" for host, port in self.hosts]


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def is_redis(url: str) -> bool:
    """Whether it is spoken to in Redis' protocol; brokers may be of another kind."""
    return scheme_of(url) in (*SCHEMES, SENTINEL)


def require_whole_account(url: str) -> None:
    """Raises ValueError where `/`, `?` or `#` in a password ends the host's part early: what would then be taken
    for the host and the port, and be shown in messages, is a piece of the password.
    """
    rest = url.partition("://")[2]
    if any("@" in part for part in re.split(r"[/?#]", rest)[1:]):
        raise ValueError


def plain_url(url: str, variable: str) -> str:
    """The URL of a single server as redis-py and kombu take it. Raises ConfigError; never shows the URL."""
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        hint = f"write redis://{url}" if _LIKELY_MEANT.match(url) else f"expected {EXPECTED}"
        unknown = f"unsupported scheme {scheme}://" if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else "no scheme"
        raise ConfigError(f"not a Redis URL: {unknown}", where=variable, hint=hint)
    plain = SCHEMES[scheme] + url[len(scheme) :]
    try:
        require_whole_account(url)
        urlsplit(plain).port  # noqa: B018 - raises
        Redis.from_url(plain).close()
    except ValueError:
        hint = f"expected {EXPECTED}, {ESCAPED}"
        raise ConfigError("not a Redis URL", where=variable, hint=hint) from None
    return plain


def sentinels(url: str, variable: str) -> Sentinels:
    """What a `sentinel://` URL says; Celery's spelling, one URL per sentinel with `;` between, works as well.

    Raises ConfigError; never shows the URL.
    """
    expected = "expected sentinel://user:password@host:26379,host:26379/0?master_name=mymaster"
    hosts: list[tuple[str, int]] = []
    try:
        for each in url.split(";"):
            require_whole_account(each)
        parts = [urlsplit(one) for one in url.split(";")]
        for part in parts:
            for place in part.netloc.rpartition("@")[2].split(","):
                one = urlsplit(f"//{place}")
                hosts.append((one.hostname or "", one.port or SENTINEL_PORT))
        database = int(next((part.path.strip("/") for part in parts if part.path.strip("/")), "0"))
    except ValueError:
        hosts = []
    if (
        not hosts
        or not all(host for host, _ in hosts)
        or any(scheme_of(one) != SENTINEL for one in url.split(";"))
    ):
        raise ConfigError("not a Redis Sentinel URL", where=variable, hint=expected)
    given = {name: values[-1] for part in parts for name, values in parse_qs(part.query).items()}
    unknown = set(given) - {"master_name", "sentinel_password"}
    if unknown:
        raise ConfigError(f"unknown parameter {', '.join(sorted(unknown))}", where=variable, hint=expected)
    user, colon, password = next(
        (part.netloc.rpartition("@")[0] for part in parts if "@" in part.netloc), ""
    ).partition(":")
    return Sentinels(
        tuple(hosts),
        master=given.get("master_name", MASTER_NAME),
        database=database,
        username=unquote(user) or None,
        password=unquote(password) if colon else None,
        sentinel_password=given.get("sentinel_password"),
    )


def open_client(url: str, *, timeout: timedelta, variable: str = "REDIS_URL", **options: Any) -> Redis:
    """A client that connects when first used and reconnects by itself; safe across threads. Raises ConfigError."""
    seconds = timeout.total_seconds()
    options |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if scheme_of(url) != SENTINEL:
        return Client.from_url(plain_url(url, variable), **options)
    found = sentinels(url, variable)
    manager = Sentinel(found.hosts, sentinel_kwargs=found.sentinel_options(timeout))  # type: ignore[no-untyped-call]
    account = {"db": found.database, "username": found.username, "password": found.password}
    client: Redis = manager.master_for(found.master, Client, **account, **options)  # type: ignore[no-untyped-call]
    return client


def exposed(url: str) -> tuple[str, str] | None:
    """What somebody on the way to a server on another machine can do, and what to change; None: nothing."""
    if scheme_of(url) == SENTINEL:
        hosts = [host for host, _ in sentinels(url, "REDIS_URL").hosts]
    else:
        hosts = [urlsplit(url).hostname or "localhost"]
    if all(map(_is_local, hosts)):
        return None
    if SCHEMES.get(scheme_of(url)) != "rediss":
        return (
            "not encrypted, so anyone on the network path can read its password and send messages",
            "use rediss:// in",
        )
    given = {name: values[-1].lower() for name, values in parse_qs(urlsplit(url).query).items()}
    if given.get("ssl_cert_reqs", "required") != "required" or given.get("ssl_check_hostname", "true") in _NO:
        return (
            "encrypted, but the server's certificate isn't verified, so another server could answer",
            "remove ssl_cert_reqs and ssl_check_hostname from",
        )
    return None


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def place_of(url: str, variable: str = "REDIS_URL") -> str:
    """How to call the server in a message, without the account."""
    if scheme_of(url) == SENTINEL:
        found = sentinels(url, variable)
        hosts = ", ".join(f"{host}:{port}" for host, port in found.hosts)
        return f"{found.master}/{found.database} via the sentinels {hosts}"
    given = Redis.from_url(plain_url(url, variable)).connection_pool.connection_kwargs
    return f"{given.get('host', 'localhost')}:{given.get('port', 6379)}/{given.get('db', 0)}"
