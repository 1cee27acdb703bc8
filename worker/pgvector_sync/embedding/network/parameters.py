"""The parameters that the file adds to requests: `extra_body` of a provider, `body` of documents and queries.

A row of the database is checked like the file, since other roles may have written it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pgvector_sync.embedding.network.rerouting import is_address, names_another_place
from pgvector_sync.embedding.network.secrets import is_name_of_secret, looks_like_secret

if TYPE_CHECKING:
    from pgvector_sync.embedding.dialects.dialect import Dialect

LARGEST = 4_096
"""The bytes of all parameters of a table as JSON: they are sent with every request."""
DEEPEST = 5
LONGEST_NAME = 100

_ELSEWHERE = "not supported: an endpoint could send your texts to another host or model because of it"
_BELONGS_IN_ENVIRONMENT = "secrets belong in the environment: name the variable in api_key_env"


def problems(body: object, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield (path, what was expected) for parameters that can't be sent. No value is quoted (G13).

    The path begins with the parameter's name and is empty for the whole table.
    """
    if not isinstance(body, Mapping):
        yield "", "expected a table of parameters"
        return
    if dialect.own_parameters is None and body:
        yield "", f"not supported by the dialect {dialect.name}"
        return
    found = False
    for name, value in body.items():
        for problem in _problems(name, value, dialect):
            found = True
            yield problem
    if not found and len(json.dumps(body, ensure_ascii=False).encode()) > LARGEST:
        yield "", f"expected at most {LARGEST:,} bytes as JSON: the parameters are sent with every request"


def _problems(name: str, value: object, dialect: Dialect) -> Iterator[tuple[str, str]]:
    lower = name.lower()  # some servers don't distinguish upper and lower case
    if reason := (dialect.own_parameters or {}).get(lower):
        yield name, f"not supported: {reason}"
    else:
        yield from _unfit(name, name, value, depth=1)


def _unfit(path: str, name: str, value: object, *, depth: int) -> Iterator[tuple[str, str]]:
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        yield "", f"expected names of 1 to {LONGEST_NAME} printable characters"
    elif is_name_of_secret(name):
        yield path, _BELONGS_IN_ENVIRONMENT
    elif names_another_place(name) or (isinstance(value, str) and is_address(value)):
        yield path, _ELSEWHERE
    elif depth > DEEPEST:
        yield path, f"expected at most {DEEPEST} levels of tables and arrays"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unfit(f"{path}.{key}", key, inner, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _unfit(f"{path}[{number}]", name, inner, depth=depth + 1)
    elif message := _unfit_scalar(name, value):
        yield path, message


def _unfit_scalar(name: str, value: object) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "expected text without the character U+0000"
        if looks_like_secret(value, name=name):
            return 'expected no secret: name its variable in api_key_env or, as "$VARIABLE", in headers'
    elif isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number: JSON has neither nan nor inf"
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return "expected an integer of at most 64 bits"
    elif not isinstance(value, bool | int | float):
        return "expected a string, number, boolean, array or table: JSON has no dates and times; quote them"
    return None
