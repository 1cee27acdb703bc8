"""Parses the URLs of Redis and Valkey servers, and opens clients: a single server, with TLS or through Sentinel.

redis://user:password@host:6379/0        rediss:// for TLS; valkey:// and valkeys:// work as well
sentinel://user:password@host:26379,host:26379/0?master_name=mymaster
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry
from redis.sentinel import Sentinel

from pgvector_sync import tls
from pgvector_sync.errors import ConfigError

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
"""The schemes for a single server, with the names that redis-py and kombu use."""
SENTINEL = "sentinel"
SENTINEL_PORT = 26379
MASTER_NAME = "mymaster"
"""The name in the examples of Redis' own sentinel.conf."""
EXPECTED = "redis://user:password@host:6379/0 (rediss:// for TLS, or sentinel://host:26379,host:26379/0)"
ESCAPED = "with @ : / ? # and % in the password written as %40 %3A %2F %3F %23 %25"
MALFORMED_REPLY = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError)
"""What redis-py and kombu raise, besides errors of their own, for a reply that no Redis sends: a length that isn't
a number, endless nesting, a number instead of a list."""
_FALSE = {"0", "f", "false", "n", "no"}
"""The values that redis-py parses as false."""
_ENDED = ("EOF occurred", "Broken pipe", "reset by peer")
"""What an error says if the server has closed the connection."""
_ADDRESS_WITHOUT_SCHEME = re.compile(r"^[\w.\[\]-]+:\d+(/\d+)?$")


class Client(Redis):
    """A client whose every error is a RedisError, whatever the server replies."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except MALFORMED_REPLY as error:
            raise InvalidResponse(f"unexpected reply from Redis ({type(error).__name__})") from None


@dataclass(frozen=True)
class Sentinels:
    """The addresses of sentinels, and the master to ask them for."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)

    def sentinel_options(self, timeout: timedelta) -> dict[str, Any]:
        """Return the options of connections to the sentinels. If one is down, the next is tried at once."""
        options: dict[str, Any] = {
            "socket_timeout": timeout.total_seconds(),
            "socket_connect_timeout": timeout.total_seconds(),
            "retry": Retry(NoBackoff(), 0),
        }
        return options | ({"password": self.sentinel_password} if self.sentinel_password else {})

    @property
    def broker_url(self) -> str:
        """The URL for kombu, which expects a single host in it."""
        user, password = quote(self.username or "", safe=""), quote(self.password or "", safe="")
        host, port = self.hosts[0]
        return f"sentinel://{user}:{password}@{host}:{port}/{self.database}"

    @property
    def urls(self) -> list[str]:
        """One URL per sentinel."""
        return [f"sentinel://{host}:{port}" for host, port in self.hosts]


def scheme_of(url: str) -> str:
    """Return the scheme in lower case, empty if there is none."""
    return url.partition("://")[0].lower() if "://" in url else ""


def is_redis(url: str) -> bool:
    """Whether the URL is one of Redis; a broker may be of another kind."""
    return scheme_of(url) in (*SCHEMES, SENTINEL)


def require_whole_account(url: str) -> None:
    """Raise ValueError if an unescaped `/`, `?` or `#` in the password ends the authority part early.

    Otherwise a part of the password would be parsed as host and port, and shown in messages.
    """
    rest = url.partition("://")[2]
    if any("@" in part for part in re.split(r"[/?#]", rest)[1:]):
        raise ValueError


def plain_url(url: str, variable: str) -> str:
    """Return a single server's URL as redis-py and kombu expect it.

    Raises ConfigError, which never shows the URL.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        hint = f"use redis://{url}" if _ADDRESS_WITHOUT_SCHEME.match(url) else f"expected {EXPECTED}"
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
    """Parse a `sentinel://` URL, or Celery's form: one URL per sentinel, separated by `;`.

    Raises ConfigError, which never shows the URL.
    """
    expected = "expected sentinel://user:password@host:26379,host:26379/0?master_name=mymaster"
    hosts: list[tuple[str, int]] = []
    try:
        for sentinel_url in url.split(";"):
            require_whole_account(sentinel_url)
        parts = [urlsplit(sentinel_url) for sentinel_url in url.split(";")]
        for part in parts:
            for place in part.netloc.rpartition("@")[2].split(","):
                address = urlsplit(f"//{place}")
                hosts.append((address.hostname or "", address.port or SENTINEL_PORT))
        database = int(next((part.path.strip("/") for part in parts if part.path.strip("/")), "0"))
    except ValueError:
        hosts = []
    if (
        not hosts
        or not all(host for host, _ in hosts)
        or any(scheme_of(sentinel_url) != SENTINEL for sentinel_url in url.split(";"))
    ):
        raise ConfigError("not a Redis Sentinel URL", where=variable, hint=expected)
    parameters = {name: values[-1] for part in parts for name, values in parse_qs(part.query).items()}
    unknown = set(parameters) - {"master_name", "sentinel_password"}
    if unknown:
        raise ConfigError(f"unknown parameter {', '.join(sorted(unknown))}", where=variable, hint=expected)
    user, colon, password = next(
        (part.netloc.rpartition("@")[0] for part in parts if "@" in part.netloc), ""
    ).partition(":")
    return Sentinels(
        tuple(hosts),
        master=parameters.get("master_name", MASTER_NAME),
        database=database,
        username=unquote(user) or None,
        password=unquote(password) if colon else None,
        sentinel_password=parameters.get("sentinel_password"),
    )


def open_client(url: str, *, timeout: timedelta, variable: str = "REDIS_URL", **options: Any) -> Redis:
    """Open a client that connects at the first use and reconnects automatically; safe across threads.

    Raises ConfigError.
    """
    seconds = timeout.total_seconds()
    options |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if scheme_of(url) != SENTINEL:
        return Client.from_url(plain_url(url, variable), **options)
    address = sentinels(url, variable)
    manager = Sentinel(address.hosts, sentinel_kwargs=address.sentinel_options(timeout))  # type: ignore[no-untyped-call]
    account = {"db": address.database, "username": address.username, "password": address.password}
    client: Redis = manager.master_for(address.master, Client, **account, **options)  # type: ignore[no-untyped-call]
    return client


def exposed(url: str) -> tuple[str, str] | None:
    """Return how connections to a remote server are exposed, and what to change; None if they aren't."""
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
    parameters = {name: values[-1].lower() for name, values in parse_qs(urlsplit(url).query).items()}
    if (
        parameters.get("ssl_cert_reqs", "required") != "required"
        or parameters.get("ssl_check_hostname", "true") in _FALSE
    ):
        return (
            "encrypted, but the server's certificate isn't verified, so another server could answer",
            "remove ssl_cert_reqs and ssl_check_hostname from",
        )
    return None


def tls_failure(url: str, variable: str, error: Exception) -> tuple[str, str] | None:
    """Return why a TLS connection to a single server fails, and what to do; None if TLS isn't the reason.

    A server that rejects a client's certificate may close the connection before the client has read why. Then this
    makes a second connection, which only reads.
    """
    if SCHEMES.get(scheme_of(url)) != "rediss":
        return None
    terms = replace(tls.REDIS, variable=variable)
    kwargs = Redis.from_url(plain_url(url, variable)).connection_pool.connection_kwargs
    names = (terms.authority, terms.certificate, terms.key)
    for name in names:
        if kwargs.get(name) and not os.access(kwargs[name], os.R_OK):
            return f"the file that {name} in {variable} names can't be read", "correct its path and permissions"
    message = tls.messages_of(error)
    if any(words in message for words in _ENDED) and exposed(url) is None:
        files = tls.Files(*(kwargs.get(name) or "" for name in names))
        message = tls.handshake(kwargs.get("host", "localhost"), kwargs.get("port", 6379), files)
    return tls.explain(message, terms)


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def place_of(url: str, variable: str = "REDIS_URL") -> str:
    """Return how messages name the server, without user and password."""
    if scheme_of(url) == SENTINEL:
        address = sentinels(url, variable)
        hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts)
        return f"{address.master}/{address.database} via the sentinels {hosts}"
    kwargs = Redis.from_url(plain_url(url, variable)).connection_pool.connection_kwargs
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}/{kwargs.get('db', 0)}"
