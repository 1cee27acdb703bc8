"""`pgvector-sync.toml`: the providers and pipelines that a user declares, checked and frozen.

Only `apply` reads the file. All problems are reported at once, each with its key, what was expected and what was
given. Values that may be secrets are never repeated (G13).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pgvector_sync.declare.index_options import misfits_of_index
from pgvector_sync.declare.parameters import misfits_of_pipeline, misfits_of_provider
from pgvector_sync.declare.problems import Problems
from pgvector_sync.declare.sections import TABLES, FileSection, PipelineSection, ProviderSection
from pgvector_sync.embedding.dialects import DIALECTS, built_in_providers, dialect_of
from pgvector_sync.embedding.dialects.dialect import Dialect
from pgvector_sync.embedding.network import headers
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Options, Provider

MINIMAL = """\
[pipelines.articles]
source = "public.articles"
text = ["title", "body"]
provider = "openai"
model = "text-embedding-3-small"
dimensions = 1536
"""

BUILT_IN = built_in_providers()
"""Providers that don't need a section in the file."""

_NO_PROVIDER = Provider("")
_NAME_RULE = "starting with a letter, of at most 40 characters"


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """A pipeline as declared. If the file omits the schema or key, `apply` looks it up in the database.

    Names are spelled as in the catalog: folded to lower case unless quoted in the file.
    """

    name: str
    source: tuple[str | None, str]
    """(schema or None, table)"""
    text_columns: tuple[str, ...] | None
    """None if `text` is an expression."""
    key: tuple[str, ...] | None
    target: tuple[str | None, str] | None
    options: Options


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file. `providers` holds the declared ones and the built-in ones that a pipeline uses."""

    path: Path
    providers: dict[str, Provider]
    pipelines: dict[str, PipelineConfig]


def load_config(path: Path, *, needs_pipelines: bool = True) -> Config:
    """Read and check the file. Raises ConfigError with all problems, and the key of the first.

    needs_pipelines: a file without a pipeline is a problem.
    """
    problems = Problems()
    providers: dict[str, Provider] = {}
    pipelines: dict[str, PipelineConfig] = {}
    if file := problems.checked(FileSection, _read(path)):
        providers = dict(_providers(file, problems))
        pipelines = dict(_pipelines(file, BUILT_IN | providers, problems))
        _check_targets(pipelines, problems)
        if needs_pipelines and not file.pipelines:
            problems.append(("pipelines", "expected at least one [pipelines.NAME], got none"))
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
        raise ConfigError(
            "no such file",
            where=where,
            hint=f"propose one: pgvector-sync init TABLE; or write one, such as\n{MINIMAL}",
        ) from None
    except OSError as error:  # a directory, no permission
        raise ConfigError(f"can't be read: {error.strerror}", where=where) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"expected UTF-8, got another encoding in line {line}", where=where) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # huge numbers and deep nesting don't raise TOMLDecodeError
        raise ConfigError(f"not valid TOML: {error}", where=where) from None


def _providers(file: FileSection, problems: Problems) -> Iterator[tuple[str, Provider]]:
    for name, values in file.providers.items():
        place = f"providers.{name}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name):
            problems.append((place, f"expected a name of a-z, 0-9, - and _, {_NAME_RULE}"))
        section = problems.checked(ProviderSection, values, place)
        if section is None:
            continue
        values_set = {field: getattr(section, field) for field in section.model_fields_set}
        if values_set.get("dialect", "openai") not in DIALECTS:
            problems.append((f"{place}.dialect", f"expected one of {', '.join(sorted(DIALECTS))}"))
            continue
        built_in = BUILT_IN.get(name)
        if built_in is None or values_set.get("dialect", built_in.dialect) != built_in.dialect:
            built_in = Provider(name)
        provider = replace(built_in, **values_set)
        problems += [(f"{place}.{field}", message) for field, message in _misfits(provider)]
        yield name, provider


def _misfits(provider: Provider) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for keys that the dialect requires or doesn't support, or that are contradictory."""
    longest, request = provider.max_input_tokens, provider.max_request_tokens
    if longest is not None and request is not None and longest > request:
        yield "max_input_tokens", f"expected at most max_request_tokens, {request:,}; got {longest:,}"
    dialect = dialect_of(provider)
    yield from _unsupported(provider, dialect)
    for path, message in headers.problems(provider.headers):
        yield f"headers.{path}".rstrip("."), message
    if provider.api_key_env is not None:
        for name in sorted(name for name in provider.headers if name.lower() in dialect.key_headers):
            yield f"headers.{name}", "expected either this header or api_key_env, whose key is sent in it"
    for path, message in misfits_of_provider(provider.extra_body, dialect):
        yield f"extra_body.{path}".rstrip("."), message
    if dialect.needs_address and provider.base_url is None:
        yield "base_url", "expected the endpoint's URL, got nothing"
    if dialect.endpoint and provider.base_url and provider.base_url.endswith(dialect.endpoint):
        yield (
            "base_url",
            f"expected the URL without {dialect.endpoint}, which is appended for each call",
        )


def _unsupported(provider: Provider, dialect: Dialect) -> Iterator[tuple[str, str]]:
    unsupported = [
        *(["api_key_env"] if not dialect.takes_key else []),
        *(["base_url"] if not dialect.needs_address else []),
        *(["headers", "extra_body", "ca_file", "proxy"] if not dialect.remote else []),
    ]
    for key in unsupported:
        if getattr(provider, key):
            yield key, f"not supported: the dialect {dialect.name} runs in the worker's process"
    for name in sorted(dialect.unused_options):
        if getattr(provider, name) is not None:
            yield name, f"not supported: the dialect {dialect.name} has no such choice"


def _pipelines(
    file: FileSection, providers: Mapping[str, Provider], problems: Problems
) -> Iterator[tuple[str, PipelineConfig]]:
    known = sorted({*BUILT_IN, *file.providers})
    for name, values in file.pipelines.items():
        place = f"pipelines.{name}"
        # The name becomes part of table names, which Postgres truncates at 63 bytes.
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
            problems.append((place, f"expected a name of a-z, 0-9 and _, {_NAME_RULE}"))
        section = problems.checked(PipelineSection, _dialect_defaults(values, providers) | values, place)
        tables = {
            key: problems.checked(inner, values[key], f"{place}.{key}")
            for key, (inner, _) in TABLES.items()
            if isinstance(values.get(key), dict)
        }
        if section is None:
            continue
        options = dict(section)
        if options["provider"] not in known:
            message = f"expected one of {', '.join(known)}; got {options['provider']!r}"
            problems.append((f"{place}.provider", message))
        if None in tables.values():
            continue
        for key, (_, kind) in TABLES.items():
            options[key] = kind(**dict(tables.get(key) or {}))
        problems += [(f"{place}.{key}", why) for key, why in _input_misfits(options, providers)]
        if {"every", "cron"} <= values.get("reconcile", {}).keys():
            problems.append((f"{place}.reconcile", "expected every or cron, got both"))
        written = values.get("index", {}).keys()
        misfits = misfits_of_index(
            options["index"], options["vector_type"], options["dimensions"], written=written
        )
        problems += [(f"{place}.index.{key}", why) for key, why in misfits]
        options["dialect"] = providers.get(options["provider"], _NO_PROVIDER).dialect
        price = file.prices.get(options["model"])
        options["price"] = None if price is None else Decimal(str(price))
        yield name, _pipeline(name, options)


def _input_misfits(options: Mapping[str, Any], providers: Mapping[str, Provider]) -> Iterator[tuple[str, str]]:
    if provider := providers.get(options["provider"]):
        for key in ("document", "query"):
            misfits = misfits_of_pipeline(options[key].body, dialect_of(provider))
            yield from ((f"{key}.body.{path}".rstrip("."), why) for path, why in misfits)


def _dialect_defaults(values: Mapping[str, Any], providers: Mapping[str, Provider]) -> dict[str, Any]:
    """The defaults of the provider's dialect."""
    provider = providers.get(str(values.get("provider")))
    if provider is None:
        return {}
    dialect = dialect_of(provider)
    model = values.get("model", dialect.default_model)
    defaults = {"model": model, "dimensions": dialect.default_dimensions(str(model))}
    return {name: value for name, value in defaults.items() if value is not None}


def _pipeline(name: str, values: dict[str, Any]) -> PipelineConfig:
    text = values["text"]
    options = Options(**{field.name: values[field.name] for field in fields(Options)} | {"text": text.sql})
    return PipelineConfig(name, values["source"], text.columns, values["key"], values["target"], options)


def _check_targets(pipelines: dict[str, PipelineConfig], problems: Problems) -> None:
    owners = {pipeline.source: f"the source of {pipeline.name}" for pipeline in pipelines.values()}
    for name, pipeline in pipelines.items():
        if pipeline.target is not None:
            # Without a schema, a target is created in its source's schema.
            target = (pipeline.target[0] or pipeline.source[0], pipeline.target[1])
            if target in owners:
                message = f"expected a table that nothing else uses, got {owners[target]}"
                problems.append((f"pipelines.{name}.target", message))
            owners[target] = f"the target of {name}"
