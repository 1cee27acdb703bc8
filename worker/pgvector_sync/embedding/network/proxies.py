"""The proxy of a provider's section: whether the environment allows it, and the login that the environment holds.

The proxy sees which hosts are called, and everything that is sent over plain http.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgvector_sync.embedding.network.headers import key_in, variables
from pgvector_sync.embedding.network.hosts import Allowed, Destination, allowed_hosts, allowing_line, is_loopback
from pgvector_sync.errors import Misconfigured, ProviderError, Unavailable
from pgvector_sync.settings.host_entries import HOST, has_port
from pgvector_sync.settings.variables import is_never_a_key

if TYPE_CHECKING:
    from pgvector_sync.model import Provider
    from pgvector_sync.settings import Settings

NO_LOGIN = "the proxy requires a valid user and password"
HOW_TO_LOG_IN = (
    "where the workers run, export PROXY_LOGIN=user:password and append =PROXY_LOGIN to the proxy's entry in "
    "PGVECTOR_SYNC_ALLOWED_HOSTS, or add both to the URL in HTTPS_PROXY or HTTP_PROXY; restart the workers"
)
_DENIALS = {400, 401, 403, 404, 405}
_PROXY = re.compile(rf"(?P<scheme>http)://{HOST}/?", re.ASCII | re.IGNORECASE)


def check_proxy(provider: Provider, to: Destination, settings: Settings) -> Destination | None:
    """Return the provider's proxy for calls to a destination, None if it has none.

    Raises Misconfigured unless the environment allows the proxy and, if the call isn't encrypted, binds the
    provider's keys to it as well.
    """
    if provider.proxy is None:
        return None
    match = _PROXY.fullmatch(provider.proxy)
    if match is None or not has_port(match):
        # not quoted: it may contain a password
        raise Misconfigured(
            f"proxy of {provider.name} isn't a URL of the form http://host:port",
            code="bad_proxy",
            option="proxy",
            hint="a user and password belong in the environment: see docs/providers.md",
        )
    if is_loopback(to.host):
        raise Misconfigured(
            f"proxy of {provider.name} can't reach {to.place}, which is the worker's own machine",
            code="proxy_and_loopback",
            option="proxy",
            hint="remove `proxy`, or set base_url to an address that the proxy reaches; then: pgvector-sync apply",
        )
    proxy = Destination.of(match)
    entries = _entries(proxy, settings)
    if not entries:
        raise Misconfigured(
            f"this environment does not allow calls over http to {proxy.place}, the proxy of {provider.name}",
            code="host_not_allowed",
            option="proxy",
            elsewhere=True,
            hint=f"if {proxy.place} may see which hosts you call, and texts sent over http: "
            f"{allowing_line(proxy, None, settings)}",
        )
    for key in _readable_keys(provider, to):
        if key not in {entry.key for entry in entries}:
            raise Misconfigured(
                f"base_url of {provider.name} is called over http, so its proxy {proxy.place} could read the key "
                f"in {key}, which this environment does not bind to the proxy",
                code="key_not_bound",
                option="proxy",
                elsewhere=True,
                hint=f"use https or, if {proxy.place} may receive the key in {key}: "
                f"{allowing_line(proxy, key, settings)}",
            )
    return proxy


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as the HTTP client needs it."""

    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    """User and password."""


def proxy_of(provider: Provider, to: Destination, settings: Settings, environ: Mapping[str, str]) -> Proxy | None:
    """Return the provider's proxy for calls to a destination. Raises Misconfigured, as `check_proxy` does."""
    proxy = check_proxy(provider, to, settings)
    if proxy is None:
        return None
    return Proxy(f"http://{proxy.place}", _login(provider, proxy, to, settings, environ))


def proxy_refusal(answer: str) -> ProviderError:
    """Return the error for a proxy that opens no connection. `answer` begins with its status."""
    status = int(answer[:3]) if answer[:3].isdecimal() else None
    if status == 407:
        return Misconfigured(f"{NO_LOGIN} (407)", code="proxy", hint=HOW_TO_LOG_IN)
    if status in _DENIALS:
        return Misconfigured(
            f"the proxy denied the connection to the provider ({status})",
            code="proxy",
            hint="have the proxy allow the host and port of base_url, then resume the pipeline",
        )
    said = "" if status is None else f" ({status})"
    return Unavailable(f"the proxy could not connect to the provider{said}", code="proxy")


def _entries(proxy: Destination, settings: Settings) -> list[Allowed]:
    return [entry for entry in allowed_hosts(settings) if entry.covers(proxy.scheme, proxy.host, proxy.port)]


def _readable_keys(provider: Provider, to: Destination) -> list[str]:
    """Return the variables whose values the proxy of a call can read."""
    if to.scheme == "https":
        return []
    return [*filter(None, [provider.api_key_env]), *variables(provider.headers)]


def _login(
    provider: Provider, proxy: Destination, to: Destination, settings: Settings, environ: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return user and password, from the variable with `user:password` that the environment binds to the proxy."""
    bound = {entry.key for entry in _entries(proxy, settings) if entry.key} - set(_readable_keys(provider, to))
    # The keys of other providers may be bound to the proxy as well.
    names = sorted(name for name in bound if ":" in environ.get(name, "") and not is_never_a_key(name))
    if len(names) > 1:
        raise Misconfigured(
            f"expected one variable with the login of {proxy.place}, the proxy of {provider.name}; "
            f"this environment binds {', '.join(names)} to it",
            code="bad_proxy",
            option="proxy",
            elsewhere=True,
            hint="remove the entries of the others from PGVECTOR_SYNC_ALLOWED_HOSTS where the workers run",
        )
    if not names:
        return None
    user, _, password = key_in(environ, names[0]).partition(":")
    return user, password
