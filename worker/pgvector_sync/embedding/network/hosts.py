"""Which hosts a worker may send texts to, and which key to which host.

The environment of the worker decides, never a row in the database.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from pgvector_sync.embedding.network.headers import variables
from pgvector_sync.errors import Misconfigured
from pgvector_sync.settings import Settings
from pgvector_sync.settings.host_entries import HOST, VARIABLE, has_port, read_entries
from pgvector_sync.settings.variables import is_never_a_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgvector_sync.model import Provider

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_BASE_URL = "OPENAI_BASE_URL"
ALLOWED_HOSTS = "PGVECTOR_SYNC_ALLOWED_HOSTS"
OTHER_HOSTS = {
    "api.cohere.com": "CO_API_KEY",
    "api.voyageai.com": "VOYAGE_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
}
"""The hosts of the other built-in providers, each with the variable that its maker's own client reads. They are
allowed together with that key only, so a worker without the key sends no text there."""

# As narrow as HOST: no escapes, no empty segments, no dot segments. And no query, which would swallow the
# endpoint: a person who can change the address could then call other endpoints with the key.
_PATH = r"(/(?!\.{1,2}(/|$))[a-z0-9._~!$&'()*+,:=-]{1,200}){0,20}/?"
_ADDRESS = re.compile(rf"(?P<scheme>https?)://{HOST}(?P<path>{_PATH})?", re.ASCII | re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A host that the environment allows."""

    host: str
    """In lower case, without brackets."""
    port: int | None = None
    """None means every port."""
    plain: bool = False
    """Whether it is listed with the scheme http, so that calls needn't be encrypted."""
    key: str | None = None
    """The name of the variable whose value may be sent there."""
    only_with_key: bool = False
    """Whether calls without `key` aren't allowed."""

    def admits(self, key: str | None) -> bool:
        """Whether a call with the key in this variable is allowed; None is a call without a key."""
        return not self.only_with_key if key is None else key == self.key

    def covers(self, scheme: str, host: str, port: int) -> bool:
        return host == self.host and self.port in (None, port) and (scheme == "https" or self.plain)


def address_of(provider: Provider, settings: Settings) -> str:
    """Return the URL of a provider.

    OPENAI_BASE_URL takes precedence for every provider whose key is in OPENAI_API_KEY: the variables belong
    together.
    """
    if settings.openai_base_url and provider.api_key_env == OPENAI_KEY:
        return settings.openai_base_url
    return provider.base_url or ""


def setting_of_address(provider: Provider, settings: Settings) -> str:
    """Return the name of the setting that decides `address_of`: the variable, or the option in the file."""
    decided = settings.openai_base_url and provider.api_key_env == OPENAI_KEY
    return OPENAI_BASE_URL if decided else f"base_url of {provider.name}"


def allowed_hosts(settings: Settings) -> frozenset[Allowed]:
    """Return the hosts that the environment allows.

    These are api.openai.com and the host of OPENAI_BASE_URL, both with OPENAI_API_KEY, the hosts of the other
    built-in providers, each only with its own key, and the entries of PGVECTOR_SYNC_ALLOWED_HOSTS: `host` or
    `host:port`, with or without a scheme, and with `=VARIABLE` for a key that may be sent there.
    """
    named = (_allowed(entry) for entry in read_entries(settings.allowed_hosts))
    return frozenset([*_openai(settings), *_others(), *named])


def check_provider(provider: Provider, settings: Settings, *, endpoint: str) -> str:
    """Return the provider's URL, to which calls append `endpoint`.

    Raises Misconfigured unless the environment allows the host (for http: lists it with that scheme) and binds the
    provider's key to it.
    """
    address, setting = address_of(provider, settings), setting_of_address(provider, settings)
    match = _ADDRESS.fullmatch(address)
    if match is None or not has_port(match):
        # Not quoted: a malformed address may contain a password.
        raise Misconfigured(
            f"{setting} isn't a URL of the form https://host/path", code="bad_address", option="base_url"
        )
    if (match["path"] or "").rstrip("/").endswith(endpoint):
        raise Misconfigured(
            f"{setting} ends in {endpoint}, which is appended to it for every call",
            code="bad_address",
            option="base_url",
            hint=f"remove {endpoint} from it",
        )
    _check_key_name(provider)
    to = Destination.of(match)
    for key, option in _keys(provider):
        _check_destination(key, to, setting, settings, option=option)
    return address


def takes_sdk_headers(address: str, settings: Settings) -> bool:
    """Whether an address is OpenAI's own or that of OPENAI_BASE_URL.

    Only those get the headers that the openai SDK reads from the environment: organization, project and custom
    ones.
    """
    match = _ADDRESS.fullmatch(address)
    return match is not None and Destination.of(match).among(_openai(settings))


def is_loopback(host: str) -> bool:
    """Whether a host (without brackets) is `localhost`, a loopback address or the unspecified address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request is sent."""

    scheme: str
    host: str
    port: int
    place: str
    """Host and port as written."""

    @classmethod
    def named(cls, address: str) -> Destination:
        """Return the destination of a URL that `check_provider` has returned."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise ValueError("expected the URL of a provider")
        return cls.of(match)

    @classmethod
    def of(cls, match: re.Match[str]) -> Destination:
        scheme, written = match["scheme"].lower(), match["host"].lower()
        port = int(match["port"] or _PORTS[scheme])
        return cls(scheme, _host(match), port, f"{written}:{match['port']}" if match["port"] else written)

    def among(self, allowed: Iterator[Allowed]) -> bool:
        return any(entry.covers(self.scheme, self.host, self.port) for entry in allowed)


def _check_key_name(provider: Provider) -> None:
    name = provider.api_key_env
    if name is None or (re.fullmatch(VARIABLE, name, re.ASCII | re.IGNORECASE) and not is_never_a_key(name)):
        return
    # Not quoted: it may be a key that was written instead of the name.
    raise Misconfigured(
        f"api_key_env of {provider.name} doesn't name a provider's key, so its value isn't sent",
        code="not_a_key",
        option="api_key_env",
        hint="set it to the name of the variable that holds the provider's key, then: pgvector-sync apply",
    )


def _keys(provider: Provider) -> list[tuple[str | None, str]]:
    """Return the variables whose values are sent, each with its option; one pair with None if there are none."""
    keys: list[tuple[str | None, str]] = [(name, "headers") for name in variables(provider.headers)]
    if provider.api_key_env is not None or not keys:
        keys.insert(0, (provider.api_key_env, "api_key_env"))
    return keys


def _check_destination(key: str | None, to: Destination, setting: str, settings: Settings, *, option: str) -> None:
    covering = [entry for entry in allowed_hosts(settings) if entry.covers(to.scheme, to.host, to.port)]
    if any(entry.admits(key) for entry in covering):
        return
    line = allowing_line(to, key, settings)
    if covering and key is not None:
        raise Misconfigured(
            f"this environment does not bind {key} to {to.place}, the host of {setting}, so the key isn't sent",
            code="key_not_bound",
            option=option,
            elsewhere=True,
            hint=f"if {to.place} may receive the key in {key}: {line}",
        )
    if to.scheme == "http" and not is_loopback(to.host):
        raise Misconfigured(
            f"{setting} calls {to.place} over http, so anyone on the network path can read texts and key",
            code="https_required",
            option="base_url",
            hint=f"use https or, if the network is your own, allow the host with its scheme: {line}",
        )
    allows_https = to.scheme == "http" and any(
        entry.covers("https", to.host, to.port) for entry in allowed_hosts(settings)
    )
    calls = f"calls over http to {to.place} (only over https)" if allows_https else f"calls to {to.place}"
    sees = "your texts" if key is None else f"your texts and the key in {key}"
    raise Misconfigured(
        f"this environment does not allow {calls}, the host of {setting}",
        code="host_not_allowed",
        option="base_url",
        elsewhere=True,
        hint=f"if {to.place} may see {sees}: {line}",
    )


def allowing_line(to: Destination, key: str | None, settings: Settings) -> str:
    """Return the shell command that allows this destination, and binds the key to it."""
    return f"export {ALLOWED_HOSTS}={shlex.quote(_with(to, key, settings))}"


def _with(to: Destination, key: str | None, settings: Settings) -> str:
    """Return the value of PGVECTOR_SYNC_ALLOWED_HOSTS that allows this destination as well."""
    scheme = "http://" if to.scheme == "http" else ""
    added = f"{scheme}{to.place}" + (f"={key}" if key else "")
    entries = [match[0] for match in read_entries(settings.allowed_hosts)]
    replaced = {f"{scheme}{to.place}", added.removeprefix(scheme)}
    return ",".join([*(entry for entry in entries if entry.rstrip("/") not in replaced), added])


def _others() -> Iterator[Allowed]:
    for host, key in OTHER_HOSTS.items():
        yield Allowed(host, _PORTS["https"], key=key, only_with_key=True)


def _openai(settings: Settings) -> Iterator[Allowed]:
    yield Allowed(OPENAI_HOST, _PORTS["https"], key=OPENAI_KEY)
    if match := _ADDRESS.fullmatch(settings.openai_base_url or ""):
        to = Destination.of(match)
        yield Allowed(to.host, to.port, plain=to.scheme == "http", key=OPENAI_KEY)


def _allowed(match: re.Match[str]) -> Allowed:
    port = None if match["port"] is None else int(match["port"])
    return Allowed(_host(match), port, plain=(match["scheme"] or "").lower() == "http", key=match["key"])


def _host(match: re.Match[str]) -> str:
    """Return the host in lower case and without brackets; an IP address in its shortest form."""
    host = match["host"].strip("[]").lower()
    try:
        return str(ip_address(host))
    except ValueError:
        return host
