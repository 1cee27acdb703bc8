"""Who may read: clients that send the token, and only with requests that were meant for this server.

Without a token, a web page that a user of this machine visits must not be able to read ours. Its scripts can send
requests to a loopback address by letting their own name resolve to it (DNS rebinding), but the header Host then
holds that name.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection, Mapping
from ipaddress import ip_address

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Paths that need no token, since a kubelet sends none. They tell no more than a word without it."""
CHALLENGE = 'Basic realm="pgvector-sync: any user name, and the token as password", charset="UTF-8"'
"""Lets a browser ask for the token. Tools send it as `Authorization: Bearer …`."""


def has_token(headers: Mapping[str, str], token: str) -> bool:
    """Whether a request carries the token: as bearer token, or as the password of any user."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    sent = credentials.strip()
    match scheme.lower():
        case "bearer":
            password = sent.encode("utf-8", "replace")
        case "basic":
            try:
                _, _, password = base64.b64decode(sent, validate=True).partition(b":")
            except ValueError:
                return False
        case _:
            return False
    return hmac.compare_digest(password, token.encode())  # constant time


def is_our_host(header: str, allowed: Collection[str]) -> bool:
    """Whether Host is an IP address, which no name can be rebound to, `localhost`, or one of the allowed names."""
    name = host_name(header)
    if name == "localhost" or name in allowed:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def host_name(header: str) -> str:
    """Return the name in a Host header, without its port, in lower case."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
