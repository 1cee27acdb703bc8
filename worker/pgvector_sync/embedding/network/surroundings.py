"""Opens an HTTP client with the environment's certificates and proxies, or reports which variable is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2

from pgvector_sync.embedding.network.bounded_client import BoundedClient
from pgvector_sync.errors import Misconfigured

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_WRONG = (OSError, ImportError, ValueError, httpx2.InvalidURL)
"""What a client raises for a missing file, a file without certificates, a missing SOCKS package, or a bad
address."""


def open_client(*, trust_env: bool, **options: Any) -> BoundedClient:
    """Open a client; the arguments are those of BoundedClient.

    Raises Misconfigured with the name of the variable, never its value, which may hold a password.
    """
    try:
        return BoundedClient(trust_env=trust_env, **options)
    except _WRONG as error:
        raise _misconfigured(error) from None


def _misconfigured(error: Exception) -> Misconfigured:
    if isinstance(error, OSError):
        name = next((name for name in CERTIFICATES if os.environ.get(name)), " or ".join(CERTIFICATES))
        return Misconfigured(
            f"{name} doesn't point to certificates ({type(error).__name__})",
            code="certificates",
            hint=f"point {name} to PEM certificates or unset it where the workers run, then restart them",
        )
    name = next(_refused_proxies(), "a proxy variable")
    if isinstance(error, ImportError):
        return Misconfigured(
            f"{name} names a SOCKS proxy, which needs the package socksio",
            code="proxy",
            hint=f"pip install socksio where the workers run, or unset {name}; then restart them",
        )
    return Misconfigured(
        f"{name} isn't a valid proxy address",
        code="proxy",
        hint=f"set {name} to http://host:port or unset it, where the workers run, and restart them",
    )


def _refused_proxies() -> Iterator[str]:
    for name in (spelling for upper in PROXIES for spelling in (upper.lower(), upper)):
        value = os.environ.get(name)
        if value and _fails(lambda value=value: httpx2.Client(proxy=value, trust_env=False).close()):  # type: ignore[misc]
            yield name


def _fails(action: Callable[[], object]) -> bool:
    with suppress(*_WRONG):
        action()
        return False
    return True
