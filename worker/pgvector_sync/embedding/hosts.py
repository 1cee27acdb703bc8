"""Which hosts a worker may send texts and keys to: its environment decides, never a row in the database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pgvector_sync.errors import Misconfigured
from pgvector_sync.settings import LOCAL_HOSTS, Settings

if TYPE_CHECKING:
    from pgvector_sync.model import Provider

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"

# Narrow on purpose: what two parsers could read differently (a user before an @, a backslash, a host that
# isn't ASCII) is no address at all.
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?(/[^\s@\\]*)?",
    re.ASCII | re.IGNORECASE,
)


def address_of(provider: Provider, settings: Settings) -> str:
    """Where the provider is called. OPENAI_BASE_URL wins for the default key, which belongs to it."""
    if settings.openai_base_url and provider.api_key_env == OPENAI_KEY:
        return settings.openai_base_url
    return provider.base_url or ""


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Lower-case host names, without ports."""
    named = [f"//{entry.strip()}" for entry in settings.allowed_hosts.split(",") if entry.strip()]
    named += [settings.openai_base_url] if settings.openai_base_url else []
    return frozenset({OPENAI_HOST, *LOCAL_HOSTS, *filter(None, map(_host_of, named))})


def check_address(address: str, allowed: frozenset[str]) -> None:
    """Raises Misconfigured unless the address is https (http on loopback will do) on an allowed host."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        # Not quoted: a malformed address may well hold a password.
        raise Misconfigured(
            "the provider's base_url is no address of the form https://host/path", code="bad_address"
        )
    host = match["host"].strip("[]").lower()
    if host not in allowed:
        raise Misconfigured(
            f"this worker's environment does not allow calls to {host}",
            code="host_not_allowed",
            hint=f"if {host} may see your texts and its key, add it to PGVECTOR_SYNC_ALLOWED_HOSTS",
        )
    if match["scheme"].lower() != "https" and host not in LOCAL_HOSTS:
        raise Misconfigured(
            f"{host} would be called over http, where anyone on the way can read texts and key",
            code="https_required",
            hint=f"use https://{host}",
        )


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
