"""Recognizes headers and parameters by which a gateway sends a request to another host or model.

LiteLLM, Portkey, Helicone, OpenRouter and Envoy have such names. The environment decides where texts are sent, so
none of them may come from a file or a row.
"""

from __future__ import annotations

import re

_LAST_WORDS = {
    *("base", "callback", "callbacks", "destination", "endpoint", "host", "hosts", "proxies", "proxy", "target"),
    *("upstream", "uri", "url", "urls", "webhook", "webhooks"),
}
"""How names of addresses end: `api_base`, `langfuse_host`, `x-portkey-custom-host`, `targetUrl`."""
_NAMES = {
    *(
        "custom-llm-provider",
        "fallbacks",
        "context-window-fallback-dict",
        "gcs-bucket-name",
        "model-list",
        "models",
    ),
    *("extra-body", "extra-headers", "extra-query", "headers", "litellm-embedding-config", "litellm-params"),
    *("user-config", "x-http-method", "x-http-method-override", "x-method-override"),
}
"""The last are read as another method, which some servers take from a header."""
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)


def names_another_place(name: str) -> bool:
    """Whether a header or parameter of this name can change where a request goes, whatever its case."""
    words = re.split(r"[^a-z0-9]+", _CAPITAL.sub("-", name).lower())
    return words[-1] in _LAST_WORDS or bool({"-".join(words), name.lower().replace("_", "-")} & _NAMES)


def is_address(value: str) -> bool:
    """Whether a value is a URL, rather than a text that mentions one."""
    return _ADDRESS.match(value) is not None and not re.search(r"\s", value.strip())
