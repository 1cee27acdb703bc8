"""The provider's id of a request, which its support asks for.

A header may contain anything, the text or the key too. So an id is only taken if it looks like a random one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pgvector_sync.embedding.secret_parts import shows_part_of

HEADERS = (
    *("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "x-amzn-requestid", "x-debug-trace-id"),
    *("mistral-correlation-id", "x-kong-request-id", "x-litellm-call-id", "x-generation-id", "cf-ray"),
)
"""The best first: several are from a gateway in front of the provider."""
_RANDOM = re.compile(
    r"(?:(?:req|request|gen|embd|cmpl|call)[_-])?"
    r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|(?=.*\d)[0-9a-f]{12,64}"
    r"|(?=(?:.*\d){3})(?=(?:.*[A-Z]){3})(?=(?:.*[a-z]){3})[A-Za-z0-9]{20,40})"
    r"(?:-[A-Z]{3})?",  # the airport after which Cloudflare names a place
    re.ASCII,
)


def request_id(headers: Mapping[str, str], secrets: Iterable[str]) -> str | None:
    """Return the id of an answer, None if it has none that may be shown."""
    for name in HEADERS:
        value = headers.get(name, "").strip()
        if _RANDOM.fullmatch(value) and not any(shows_part_of(value, secret) for secret in secrets):
            return value
    return None
