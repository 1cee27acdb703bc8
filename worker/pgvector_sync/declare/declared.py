"""What a file declares, checked against this environment before `apply` touches the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pgvector_sync.declare.file import Config
from pgvector_sync.embedding.hosts import OPENAI_BASE_URL, check_provider, setting_of_address
from pgvector_sync.embedding.local import ONNX_PREFIX, WRONG_DIMENSIONS, check_dimensions, sizes_of
from pgvector_sync.errors import ConfigError, Misconfigured
from pgvector_sync.settings import Settings

_OF_THE_KEY = {"key_not_bound", "not_a_key"}
_ELSEWHERE = {"host_not_allowed", "key_not_bound"}


@dataclass(frozen=True, slots=True)
class _Problem:
    key: str
    """In the file."""
    failure: Misconfigured
    elsewhere: bool
    """It may be right where the workers run, whose environment is another."""


def check_declared(config: Config, settings: Settings) -> list[str]:
    """Warnings about what is missing here and may be there for the workers.

    Raises ConfigError for what no worker could do: dimensions that the local model doesn't make, a broken address,
    plain http to a host that isn't named with its scheme.
    """
    problems = [*_of_providers(config, settings), *_of_local_models(config)]
    if wrong := [problem for problem in problems if not problem.elsewhere]:
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
            field = ".api_key_env" if failure.code in _OF_THE_KEY else ".base_url"
            key = f"providers.{name}" + ("" if setting == OPENAI_BASE_URL else field)
            yield _Problem(key, failure, elsewhere=failure.code in _ELSEWHERE)


def _of_local_models(config: Config) -> Iterator[_Problem]:
    sizes = cache(sizes_of)
    for pipeline in config.pipelines.values():
        if config.providers[pipeline.provider].base_url is not None:
            continue
        try:
            check_dimensions(pipeline.dimensions, sizes(pipeline.model))
        except Misconfigured as failure:
            key = f"pipelines.{pipeline.name}." + ("dimensions" if failure.code == WRONG_DIMENSIONS else "model")
            missing = failure.code == "missing_extra" or (
                pipeline.model.startswith(ONNX_PREFIX) and failure.code == "model_not_found"
            )
            yield _Problem(key, failure, elsewhere=missing)
