"""What `provider test` tests: a provider of the file or of the database, with one of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from pgvector_sync.declare.file import BUILT_IN, Config
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal, proposal_of
from pgvector_sync.embedding.network.hosts import address_of
from pgvector_sync.embedding.prices import price_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Options, Pipeline, Provider, Spec
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Known:
    """A provider, and the pipelines that use it."""

    provider: Provider
    options: Mapping[str, Options]
    """By the pipeline's name."""
    place: str | None
    """Where it is declared. None: it is built in."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider and the model that is tested."""

    provider: Provider
    spec: Spec
    query_spec: Spec
    price: Decimal | None
    """US dollars per million tokens."""
    pipeline: str | None
    """The pipeline whose settings are used."""
    proposal: Proposal | None
    """What the pipeline's section lacks for its model."""
    others: tuple[str, ...]
    """Pipelines of this provider with another model or other inputs, which aren't tested."""


def in_file(config: Config, name: str) -> Known | None:
    """Return a provider of the file, or a built-in one that it needn't declare; None if it has neither."""
    provider = config.providers.get(name)
    if provider is None:
        return None
    options = {pipeline.name: pipeline.options for pipeline in config.pipelines.values()}
    return Known(provider, _of(options, name), str(config.path))


def in_database(pipelines: list[Pipeline], providers: Mapping[str, Provider], name: str) -> Known | None:
    """Return a stored provider; None if there is none of this name."""
    provider = providers.get(name)
    if provider is None:
        return None
    return Known(provider, _of({pipeline.name: pipeline.options for pipeline in pipelines}, name), "the database")


def built_in(name: str) -> Known | None:
    """Return a provider that needs no section; None if there is none of this name."""
    provider = BUILT_IN.get(name)
    return None if provider is None else Known(provider, {}, None)


def choose(known: Known, settings: Settings, *, model: str | None = None, dimensions: int | None = None) -> Choice:
    """Choose the model to test: the given one, else that of the first pipeline, else the dialect's default.

    Raises ConfigError if there is none, or if its dimensions aren't known.
    """
    using = {name: options for name, options in known.options.items() if model in (None, options.model)}
    pipeline = min(using, default=None)
    if pipeline is not None:
        return _of_pipeline(known, settings, pipeline, dimensions)
    none = "no pipeline" if known.place is None else f"no pipeline of {known.place}"
    dialect = dialect_of(known.provider)
    model = model or dialect.default_model
    dimensions = dimensions or dialect.default_dimensions(model)
    if model is None:
        raise ConfigError(
            f"{none} uses {known.provider.name}",
            where="provider test",
            hint="name a model: --model MODEL --dimensions NUMBER",
        )
    if dimensions is None:
        raise ConfigError(
            f"the dimensions of {model} aren't known, since {none} uses it with {known.provider.name}",
            where="provider test",
            hint=f"--model {model} --dimensions NUMBER",
        )
    spec = Spec(model, dimensions, dialect=known.provider.dialect)
    return Choice(known.provider, spec, spec, _price(known.provider, model, settings), None, None, ())


def _of_pipeline(known: Known, settings: Settings, name: str, dimensions: int | None) -> Choice:
    options = known.options[name]
    spec, query_spec = (
        replace(each, dimensions=dimensions or each.dimensions)
        for each in (Spec.of_documents(options), Spec.of_queries(options))
    )
    specs = {other: (Spec.of_documents(its), Spec.of_queries(its)) for other, its in known.options.items()}
    others = sorted(other for other, pair in specs.items() if pair != specs[name])
    price = options.price if options.price is not None else _price(known.provider, options.model, settings)
    proposal = proposal_of(options, known.provider)
    return Choice(known.provider, spec, query_spec, price, name, proposal, tuple(others))


def _of(options: Mapping[str, Options], provider: str) -> dict[str, Options]:
    return {name: each for name, each in options.items() if each.provider == provider}


def _price(provider: Provider, model: str, settings: Settings) -> Decimal | None:
    return price_of(model, address_of(provider, settings)) if dialect_of(provider).billed else Decimal(0)
