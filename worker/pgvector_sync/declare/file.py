"""`pgvector-sync.toml`: the providers and pipelines that a user declares, checked and frozen.

Only `apply` reads the file. Everything wrong in it is reported at once, each with its key, what was expected
and what was given; what may be a secret is never repeated (G13).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pgvector_sync.declare.problems import Problems
from pgvector_sync.declare.sections import FileSection, PipelineSection, ProviderSection, ReconcileSection
from pgvector_sync.embedding.dialects import DIALECTS, built_in_providers, dialect_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Options, Provider, Schedule

MINIMAL = """\
[pipelines.articles]
source = "public.articles"
text = ["title", "body"]
provider = "openai"
model = "text-embedding-3-small"
dimensions = 1536
"""

BUILT_IN = built_in_providers()
"""Providers that need no section of their own."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A pipeline as declared. What the file leaves open (a schema, the key) `apply` finds in the database.

    Names are as the catalog has them: folded to lower case where the file doesn't quote them.
    """

    name: str
    source: tuple[str | None, str]
    """(schema or None, table)"""
    text_columns: tuple[str, ...] | None
    """None: `text` is an expression."""
    key: tuple[str, ...] | None
    target: tuple[str | None, str] | None
    options: Options


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. `providers` holds those declared, and the built-in ones that a pipeline names."""

    path: Path
    providers: dict[str, Provider]
    pipelines: dict[str, PipelineConfig]


def load_config(path: Path) -> Config:
    """Read and check the file. Raises ConfigError with the first problem's key, the further ones below it."""
    problems = Problems()
    providers: dict[str, Provider] = {}
    pipelines: dict[str, PipelineConfig] = {}
    if file := problems.checked(FileSection, _read(path)):
        providers = dict(_providers(file, problems))
        pipelines = dict(_pipelines(file, BUILT_IN | providers, problems))
        _check_targets(pipelines, problems)
        if not file.pipelines:
            problems.append(("pipelines", "expected at least one [pipelines.NAME], found none"))
    if problems:
        (key, message), *others = problems
        further = "".join(f"\n{path}: {other}: {what}" for other, what in others)
        raise ConfigError(message + further, where=str(path), key=key)
    named = {pipeline.options.provider for pipeline in pipelines.values()}
    built_in = {name: provider for name, provider in BUILT_IN.items() if name in named}
    return Config(path=path, providers=built_in | providers, pipelines=pipelines)


def _read(path: Path) -> dict[str, Any]:
    where = str(path)
    try:
        # A byte order mark, which some Windows editors write, isn't TOML.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=where, hint=f"write one such as\n\n{MINIMAL}") from None
    except OSError as error:  # a directory, no permission
        raise ConfigError(f"can't be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"expected UTF-8, found another encoding in line {line}", where=where) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # absurd numbers and nesting aren't TOMLDecodeErrors
        raise ConfigError(f"not valid TOML: {error}", where=where) from None


def _providers(file: FileSection, problems: Problems) -> Iterator[tuple[str, Provider]]:
    for name, values in file.providers.items():
        place = f"providers.{name}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name):
            problems.append((place, "expected a name of a-z, 0-9, - and _, first a letter, at most 40 long"))
        section = problems.checked(ProviderSection, values, place)
        if section is None:
            continue
        given = {field: getattr(section, field) for field in section.model_fields_set}
        if given.get("dialect", "openai") not in DIALECTS:
            problems.append((f"{place}.dialect", f"expected one of {', '.join(sorted(DIALECTS))}"))
            continue
        built_in = BUILT_IN.get(name)
        if built_in is None or given.get("dialect", built_in.dialect) != built_in.dialect:
            built_in = Provider(name)
        provider = replace(built_in, **given)
        problems += [(f"{place}.{field}", message) for field, message in _unfit(provider)]
        yield name, provider


def _unfit(provider: Provider) -> Iterator[tuple[str, str]]:
    """Keys that the provider's dialect has and the section lacks, or the reverse."""
    dialect = dialect_of(provider)
    if provider.api_key_env is not None and not dialect.takes_key:
        yield "api_key_env", f"the dialect {dialect.name} runs in the process and has none"
    if provider.base_url is not None and not dialect.needs_address:
        yield "base_url", f"the dialect {dialect.name} runs in the process and has none"
    if dialect.needs_address and provider.base_url is None:
        yield "base_url", "expected the endpoint's URL, but not given"
    if dialect.endpoint and provider.base_url and provider.base_url.endswith(dialect.endpoint):
        yield (
            "base_url",
            f"expected the URL without {dialect.endpoint}, which is appended to it for every call",
        )


def _pipelines(
    file: FileSection, providers: Mapping[str, Provider], problems: Problems
) -> Iterator[tuple[str, PipelineConfig]]:
    known = sorted({*BUILT_IN, *file.providers})
    for name, values in file.pipelines.items():
        place = f"pipelines.{name}"
        # It becomes a part of names of tables and triggers, which Postgres cuts at 63 bytes.
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            problems.append((place, "expected a name of a-z, 0-9 and _, first a letter, at most 40 long"))
        section = problems.checked(PipelineSection, _usual(values, providers) | values, place)
        if section is None:
            continue
        given = dict(section)
        if given["provider"] not in known:
            message = f"expected one of {', '.join(known)}; got {given['provider']!r}"
            problems.append((f"{place}.provider", message))
        schedule = problems.checked(ReconcileSection, given["reconcile"], f"{place}.reconcile")
        if schedule is None:
            continue
        if {"every", "cron"} <= schedule.model_fields_set:
            problems.append((f"{place}.reconcile", "expected every or cron, got both"))
        given["reconcile"] = Schedule(**dict(schedule))
        price = file.prices.get(given["model"])
        given["price"] = None if price is None else Decimal(str(price))
        yield name, _pipeline(name, given)


def _usual(values: Mapping[str, Any], providers: Mapping[str, Provider]) -> dict[str, Any]:
    """The options that the provider's dialect has a default for."""
    provider = providers.get(str(values.get("provider")))
    if provider is None:
        return {}
    dialect = dialect_of(provider)
    usual = {"model": dialect.default_model, "dimensions": dialect.default_dimensions}
    return {name: value for name, value in usual.items() if value is not None}


def _pipeline(name: str, given: dict[str, Any]) -> PipelineConfig:
    text = given["text"]
    options = {field.name: given[field.name] for field in fields(Options)} | {"text": text.sql}
    return PipelineConfig(name, given["source"], text.columns, given["key"], given["target"], Options(**options))


def _check_targets(pipelines: dict[str, PipelineConfig], problems: Problems) -> None:
    taken = {pipeline.source: f"the source of {pipeline.name}" for pipeline in pipelines.values()}
    for name, pipeline in pipelines.items():
        if pipeline.target is not None:
            # Without a schema of its own a target lives beside its source.
            target = (pipeline.target[0] or pipeline.source[0], pipeline.target[1])
            if target in taken:
                message = f"expected a table of its own, got {taken[target]}"
                problems.append((f"pipelines.{name}.target", message))
            taken[target] = f"the target of {name}"
