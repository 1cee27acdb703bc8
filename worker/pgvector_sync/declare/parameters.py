"""Where a parameter belongs: in `extra_body` of a provider, or in `body` of a pipeline's documents and queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgvector_sync.embedding.dialects.dialect import Dialect
from pgvector_sync.embedding.families.family import INPUT_PARAMETERS
from pgvector_sync.embedding.network import parameters

OF_PROVIDERS = ("user",)
"""Parameters that don't decide the vectors. As a pipeline's, a change of them would embed every row again."""


def misfits_of_provider(body: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield (path below `extra_body`, message) for what a provider's section can't have."""
    yield from parameters.problems(body, dialect)
    # here a change of them would embed nothing again
    for name in _named(body, INPUT_PARAMETERS):
        yield (
            name,
            "expected under body in [pipelines.NAME.document] and [pipelines.NAME.query]: it decides the vectors",
        )


def misfits_of_pipeline(body: Mapping[str, Any], dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Yield (path below `body`, message) for what `document` and `query` can't have."""
    yield from parameters.problems(body, dialect)
    for name in _named(body, OF_PROVIDERS):
        yield name, "expected in the provider's extra_body: it doesn't decide the vectors"


def _named(body: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the parameters with these names, in any case: some servers don't distinguish it."""
    return [name for name in body if name.casefold() in names]
