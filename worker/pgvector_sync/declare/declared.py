"""What a file declares, checked against this environment before `apply` touches the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pgvector_sync.declare.file import Config
from pgvector_sync.embedding.hosts import OPENAI_BASE_URL, check_provider, setting_of_address
from pgvector_sync.embedding.local import check_dimensions, sizes_of
from pgvector_sync.errors import ConfigError, Misconfigured
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class _Problem:
    key: str
    """In the file."""
    failure: Misconfigured


def check_declared(config: Config, settings: Settings) -> list[str]:
    """Warnings about what is missing here and may be there for the workers.

    Raises ConfigError for what no worker could do: dimensions that the local model doesn't make, a broken address,
    plain http to a host that isn't named with its scheme.
    """
    problems = [*_of_providers(config, settings), *_of_local_models(config)]
    if wrong := [problem for problem in problems if not problem.failure.elsewhere]:
        first, *others = wrong
        further = "".join(f"\n{config.path}: {other.key}: {other.failure}" for other in others)
        hints = dict.fromkeys(problem.failure.hint for problem in wrong if problem.failure.hint)
        message = f"{first.failure}{further}"
        raise ConfigError(message, where=str(config.path), key=first.key, hint="\n".join(filter(None, hints)))
    return [
        f"{problem.key}: {problem.failure}; where the workers run: {problem.failure.hint}" for problem in problems
    ]


def _of_providers(config: Config, settings: Settings) -> Iterator[_Problem]:
    for name in sorted({pipeline.provider for pipeline in config.pipelines.values()}):
        provider = config.providers[name]
        if provider.base_url is None:
            continue
        setting = setting_of_address(provider, settings)
        try:
            check_provider(provider, settings)
        except Misconfigured as failure:
            option = "" if setting == OPENAI_BASE_URL else f".{failure.option}"
            yield _Problem(f"providers.{name}{option}", failure)


def _of_local_models(config: Config) -> Iterator[_Problem]:
    sizes = cache(sizes_of)
    for pipeline in config.pipelines.values():
        if config.providers[pipeline.provider].base_url is not None:
            continue
        try:
            check_dimensions(pipeline.dimensions, sizes(pipeline.model))
        except Misconfigured as failure:
            yield _Problem(f"pipelines.{pipeline.name}.{failure.option}", failure)
