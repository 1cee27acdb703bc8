"""The headers that a provider's section adds to each request: which are allowed, and where a secret comes from.

A row of the table of providers is checked like the file, since other roles may have written it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pgvector_sync.embedding.network.rerouting import names_another_place
from pgvector_sync.embedding.network.secrets import is_name_of_secret, looks_like_secret
from pgvector_sync.errors import Misconfigured
from pgvector_sync.settings.variables import is_never_a_key

MOST = 20
"""Headers per provider."""
LONGEST_NAME = 100
LONGEST_VALUE = 1_000

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+", re.ASCII | re.IGNORECASE)
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
"""Printable ASCII without blanks at either end."""
_VARIABLE = re.compile(r"(?P<scheme>[A-Za-z-]{1,40} )?\$(?P<name>[A-Z_][A-Z0-9_]*)", re.ASCII)
_WITHIN = re.compile(r"\$(?:[A-Z_]{2}|\{)", re.ASCII)
"""What looks like a variable, where it would be sent as it is."""

_FIXED = {
    *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "via"),
    *(
        "range",
        "cookie",
        "set-cookie",
        "date",
        "origin",
        "forwarded",
        "x-real-ip",
        "content-length",
        "http2-settings",
    ),
}
_FIXED_FAMILIES = ("content-", "accept", "proxy-", "if-", "sec-", "x-forwarded-", "access-control-")
"""These frame the message, choose the form of the answer, or state where a request comes from."""


_REROUTES = "not supported: it makes some servers and gateways call another host, path or method"


def problems(headers: object) -> Iterator[tuple[str, str]]:
    """Yield (name, what was expected) for headers that can't be sent. No value is quoted (G13)."""
    if not isinstance(headers, Mapping):
        yield "", "expected a table of headers"
        return
    if len(headers) > MOST:
        yield "", f"expected at most {MOST} headers"
    seen: set[str] = set()
    for name, value in headers.items():
        if message := _problem(name, value):
            # A name that isn't one isn't quoted: it may be a whole line with its value.
            yield name if _NAME.fullmatch(name) and len(name) <= LONGEST_NAME else "", message
        elif name.lower() in seen:
            yield name, "expected each header once; upper and lower case make no difference"
        seen.add(name.lower())


def variables(headers: Mapping[str, str]) -> list[str]:
    """Return the environment variables that the values name."""
    return [match["name"] for value in headers.values() if (match := _VARIABLE.fullmatch(value))]


def secrets_in(headers: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Return the values of the variables that headers name."""
    return [key_in(environ, name) for name in variables(headers)]


def resolve(headers: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to send, in lower case, with the values of variables.

    Raises Misconfigured for a variable that isn't set or holds characters that a header can't.
    """
    resolved = {}
    for name, value in headers.items():
        match = _VARIABLE.fullmatch(value)
        secret = None if match is None else (match["scheme"] or "") + key_in(environ, match["name"])
        resolved[name.lower()] = secret or value
    return resolved


def key_in(environ: Mapping[str, str], name: str) -> str:
    """Return the key in an environment variable. Raises Misconfigured if there is none."""
    key = environ.get(name, "").strip()
    if not key:
        raise Misconfigured(
            f"{name} is not set", code="missing_key", hint=f"export {name}=... where the workers run"
        )
    if not (key.isascii() and key.isprintable()):
        raise Misconfigured(
            f"{name} contains characters that aren't allowed in a key",
            code="bad_key",
            hint=f"set {name} again",
        )
    return key


def _problem(name: str, value: object) -> str | None:
    return _problem_of_name(name) or (
        _problem_of_value(name, value) if isinstance(value, str) else "expected a string"
    )


def _problem_of_name(name: str) -> str | None:
    lower = name.lower()
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return f"expected a header's name of at most {LONGEST_NAME} letters, digits and hyphens"
    if lower in _FIXED or lower.startswith(_FIXED_FAMILIES):
        return "not supported: pgvector-sync or the network sets this header"
    return _REROUTES if names_another_place(name) else None


def _problem_of_value(name: str, value: str) -> str | None:
    if match := _VARIABLE.fullmatch(value):
        if is_never_a_key(match["name"]):
            return f"{match['name']} holds something else than a provider's key and is never sent"
        return None
    if value.startswith("$"):
        return "expected the name of an environment variable in upper case after the $"
    if not _VALUE.fullmatch(value) or len(value) > LONGEST_VALUE:
        return f"expected 1 to {LONGEST_VALUE} printable ASCII characters, no blank at either end"
    if _WITHIN.search(value):
        return 'expected a variable alone or after a scheme, as in "Bearer $MY_KEY"'
    if value.startswith(("{", "[")) and "://" in value:  # a gateway's configuration, such as x-portkey-config
        return _REROUTES
    if is_name_of_secret(name) or looks_like_secret(value, name=name):
        return (
            "expected no secret: put it into an environment variable and name that, as in "
            f'"{name}" = "$MY_KEY"; the variable must be bound to the host in PGVECTOR_SYNC_ALLOWED_HOSTS'
        )
    return None
