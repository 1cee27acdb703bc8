"""Parameters that the file adds to requests: a provider's `extra_body`, and `body` of documents and queries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any

from pgvector_sync.embedding.dialects.dialect import Dialect

SECRET = re.compile(r"api_?key|secret|password|authorization|(^|_)token$", re.IGNORECASE)
"""Names of keys whose values are secrets."""
MAX_BYTES = 10_000
"""The size of all parameters as JSON. They are part of every request, and shown in plans."""
OF_PIPELINES = ("input_type", "task", "task_type", "text_type", "prompt", "prompt_name", "instruction", "instruct")
"""Parameters that decide the vectors. In a provider's section, a change of them would embed nothing again."""
OF_PROVIDERS = ("user",)
"""Parameters that don't. In a pipeline's section, a change of them would embed every row again."""


def misfits_of_provider(parameters: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield (place below `extra_body`, message) for what a provider's section can't have."""
    yield from _misfits(parameters, dialect)
    for name in _named(parameters, OF_PIPELINES):
        yield (
            f".{name}",
            "expected under body in [pipelines.NAME.document] and [pipelines.NAME.query]: it decides the vectors",
        )


def misfits_of_pipeline(parameters: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield (place below `body`, message) for what `document` and `query` can't have."""
    yield from _misfits(parameters, dialect)
    for name in _named(parameters, OF_PROVIDERS):
        yield f".{name}", "expected in the provider's extra_body: it doesn't decide the vectors"


def _misfits(parameters: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    if not parameters:
        return
    if dialect.own_parameters is None:
        yield "", f"not supported by the dialect {dialect.name}"
        return
    for name in _named(parameters, dialect.own_parameters):
        yield f".{name}", f"not supported: {dialect.own_parameters[name.casefold()]}"
    faults = list(_faults("", parameters))
    yield from faults
    if not faults and len(json.dumps(parameters).encode()) > MAX_BYTES:
        yield "", f"expected at most {MAX_BYTES:,} bytes"


def _named(parameters: Mapping[str, Any], names: Mapping[str, str] | tuple[str, ...]) -> list[str]:
    """Return the parameters with these names, in any case: some servers don't distinguish it."""
    return [name for name in parameters if name.casefold() in names]


def _faults(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield (place, message) for secrets, and for values that can't be stored or sent as JSON."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if SECRET.search(name):
                yield f"{place}.{name}", "secrets belong in the environment: name the variable in api_key_env"
            elif "\0" in name:
                yield place, "expected names without NUL characters"
            else:
                yield from _faults(f"{place}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _faults(place, inner)
    elif isinstance(value, date | time) or (isinstance(value, float) and not math.isfinite(value)):
        yield place, "expected a string, number, boolean, list or table"
    elif isinstance(value, str) and "\0" in value:
        yield place, "expected a text without NUL characters"
