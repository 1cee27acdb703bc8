"""Which hosts a worker may send texts and keys to: its environment decides, never a row in the database."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pgvector_sync.errors import Misconfigured
from pgvector_sync.settings import Settings

if TYPE_CHECKING:
    from pgvector_sync.model import Provider

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_BASE_URL = "OPENAI_BASE_URL"
ENDPOINT = "/embeddings"
"""What the client appends to an address."""

# Narrow on purpose: what two parsers could read differently (a user before an @, a backslash, a host that
# isn't ASCII) is no address at all.
_HOST = r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?"
_ADDRESS = re.compile(rf"(?P<scheme>https?)://{_HOST}(?P<path>/[^\s@\\]*)?", re.ASCII | re.IGNORECASE)
_ENTRY = re.compile(rf"((?P<scheme>https?)://)?{_HOST}/?", re.ASCII | re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A host that the environment names."""

    host: str
    """In lower case, without brackets."""
    port: int | None = None
    """None: every port."""
    plain: bool = False
    """Named with the scheme http: calls needn't be encrypted."""

    def covers(self, scheme: str, host: str, port: int) -> bool:
        return host == self.host and self.port in (None, port) and (scheme == "https" or self.plain)


def address_of(provider: Provider, settings: Settings) -> str:
    """Where the provider is called. OPENAI_BASE_URL wins for every provider whose key is in OPENAI_API_KEY, since
    the two variables belong together.
    """
    if settings.openai_base_url and provider.api_key_env == OPENAI_KEY:
        return settings.openai_base_url
    return provider.base_url or ""


def setting_of_address(provider: Provider, settings: Settings) -> str:
    """The name of what decided `address_of`: the variable, or the key in the file."""
    decided = settings.openai_base_url and provider.api_key_env == OPENAI_KEY
    return OPENAI_BASE_URL if decided else f"base_url of {provider.name}"


def allowed_hosts(settings: Settings) -> frozenset[Allowed]:
    """What the environment allows besides loopback: api.openai.com, the host of OPENAI_BASE_URL with its scheme,
    and the entries of PGVECTOR_SYNC_ALLOWED_HOSTS: `host`, `host:port`, and either of them with its scheme.
    """
    named = [_ENTRY.fullmatch(entry.strip()) for entry in settings.allowed_hosts.split(",")]
    own = _ADDRESS.fullmatch(settings.openai_base_url or "")
    found = {_allowed(match, port=match["port"]) for match in named if match}
    return frozenset({Allowed(OPENAI_HOST), *found} | ({_allowed(own, port=None)} if own else set()))


def _allowed(match: re.Match[str], *, port: str | None) -> Allowed:
    plain = (match["scheme"] or "").lower() == "http"
    return Allowed(_host(match), None if port is None else int(port), plain)


def check_address(address: str, allowed: Collection[Allowed], *, setting: str = "base_url") -> None:
    """Raises Misconfigured unless the address is on loopback or a host that is allowed, by https or, where the
    environment names the host with its scheme, by http. `setting` is what the address comes from, for the message.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        # Not quoted: a malformed address may well hold a password.
        raise Misconfigured(f"{setting} is not an address of the form https://host/path", code="bad_address")
    if (match["path"] or "").rstrip("/").endswith(ENDPOINT):
        raise Misconfigured(
            f"{setting} ends in {ENDPOINT}, which is appended to it for every call",
            code="bad_address",
            hint=f"leave {ENDPOINT} out",
        )
    host, scheme = _host(match), match["scheme"].lower()
    if is_loopback(host):
        return
    port = int(match["port"] or _PORTS[scheme])
    if any(entry.covers(scheme, host, port) for entry in allowed):
        return
    place = f"{host}:{match['port']}" if match["port"] else host
    if scheme == "http":
        raise Misconfigured(
            f"{setting} calls {place} over http, where anyone on the way can read texts and key",
            code="https_required",
            hint=f"use https, or, where the network between is your own, name the host with its scheme: "
            f"PGVECTOR_SYNC_ALLOWED_HOSTS=http://{place}",
        )
    raise Misconfigured(
        f"this environment does not allow calls to {place}, the host of {setting}",
        code="host_not_allowed",
        hint=f"if {host} may see your texts and its key, add it to PGVECTOR_SYNC_ALLOWED_HOSTS",
    )


def is_loopback(host: str) -> bool:
    """`localhost`, ::1 and all of 127.0.0.0/8, in lower case and without brackets."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(match: re.Match[str]) -> str:
    return match["host"].strip("[]").lower()
