"""Checking a file against this environment, before `apply` changes the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgvector_sync.declare.file import Config, PipelineConfig
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.dialects.dialect import Dialect
from pgvector_sync.errors import ConfigError, Misconfigured
from pgvector_sync.model import Spec
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class _Problem:
    key: str
    """The key in the file, such as `providers.openai.base_url`."""
    failure: Misconfigured


def check_declared(config: Config, settings: Settings) -> list[str]:
    """Return warnings about settings that are missing here, but may be set for the workers.

    Raises ConfigError for what can't work in any environment: dimensions that the local model doesn't support, an
    invalid URL, plain http to a host that isn't allowed with its scheme.
    """
    problems = [*_provider_problems(config, settings), *_spec_problems(config)]
    if fatal := [problem for problem in problems if not problem.failure.elsewhere]:
        first, *others = fatal
        further = "".join(f"\n{config.path}: {other.key}: {other.failure}" for other in others)
        hints = dict.fromkeys(problem.failure.hint for problem in fatal if problem.failure.hint)
        message = f"{first.failure}{further}"
        raise ConfigError(message, where=str(config.path), key=first.key, hint="\n".join(filter(None, hints)))
    return [
        f"{problem.key}: {problem.failure}; in the workers' environment: {problem.failure.hint}"
        for problem in problems
    ]


def _provider_problems(config: Config, settings: Settings) -> Iterator[_Problem]:
    for name in sorted({pipeline.options.provider for pipeline in config.pipelines.values()}):
        provider = config.providers[name]
        try:
            dialect_of(provider).check_provider(provider, settings)
        except Misconfigured as failure:
            option = "" if failure.option is None else f".{failure.option}"
            yield _Problem(f"providers.{name}{option}", failure)


def _spec_problems(config: Config) -> Iterator[_Problem]:
    declared: dict[Dialect, list[PipelineConfig]] = {}
    for pipeline in config.pipelines.values():
        declared.setdefault(dialect_of(config.providers[pipeline.options.provider]), []).append(pipeline)
    for dialect, pipelines in declared.items():
        specs = [Spec.of_documents(pipeline.options) for pipeline in pipelines]
        for pipeline, failure in zip(pipelines, dialect.check_specs(specs), strict=True):
            if failure is not None:
                yield _Problem(f"pipelines.{pipeline.name}.{failure.option}", failure)
