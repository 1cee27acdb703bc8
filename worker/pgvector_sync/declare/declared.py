"""Checking a file against this environment, before `apply` changes the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgvector_sync.declare.file import Config
from pgvector_sync.declare.prefix_room import prefixes_without_room
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
    invalid URL, plain http to a host that isn't allowed with its scheme, a prefix that leaves no room for a text.
    """
    problems = [*_provider_problems(config, settings), *_spec_problems(config)]
    prefixes = list(_prefixes_without_room(config))
    problems += [_Problem(key, Misconfigured(what, hint="shorten it")) for key, what, fatal in prefixes if fatal]
    if fatal := [problem for problem in problems if not problem.failure.elsewhere]:
        first, *others = fatal
        further = "".join(f"\n{config.path}: {other.key}: {other.failure}" for other in others)
        hints = dict.fromkeys(problem.failure.hint for problem in fatal if problem.failure.hint)
        message = f"{first.failure}{further}"
        raise ConfigError(message, where=str(config.path), key=first.key, hint="\n".join(filter(None, hints)))
    return [
        f"{problem.key}: {problem.failure}; in the workers' environment: {problem.failure.hint}"
        for problem in problems
    ] + [f"{key}: {what}, so that little of a longer text is embedded" for key, what, _ in prefixes]


def _prefixes_without_room(config: Config) -> Iterator[tuple[str, str, bool]]:
    for pipeline in config.pipelines.values():
        options = pipeline.options
        for place, what, fatal in prefixes_without_room(options, config.providers[options.provider]):
            yield f"pipelines.{pipeline.name}.{place}", what, fatal


def _provider_problems(config: Config, settings: Settings) -> Iterator[_Problem]:
    for name in sorted({pipeline.options.provider for pipeline in config.pipelines.values()}):
        provider = config.providers[name]
        try:
            dialect_of(provider).check_provider(provider, settings)
        except Misconfigured as failure:
            option = "" if failure.option is None else f".{failure.option}"
            yield _Problem(f"providers.{name}{option}", failure)


def _spec_problems(config: Config) -> Iterator[_Problem]:
    declared: dict[Dialect, list[tuple[str, Spec]]] = {}
    for pipeline in config.pipelines.values():
        specs = declared.setdefault(dialect_of(config.providers[pipeline.options.provider]), [])
        specs.append((f"pipelines.{pipeline.name}", Spec.of_documents(pipeline.options)))
        if pipeline.options.query.model is not None:
            specs.append((f"pipelines.{pipeline.name}.query", Spec.of_queries(pipeline.options)))
    for dialect, specs in declared.items():
        failures = dialect.check_specs(spec for _, spec in specs)
        for (place, _), failure in zip(specs, failures, strict=True):
            if failure is not None:
                option = "model" if place.endswith(".query") else failure.option
                yield _Problem(f"{place}.{option}", failure)
