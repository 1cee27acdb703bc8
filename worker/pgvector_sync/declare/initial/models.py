"""Which provider and model a first pipeline gets: as asked for, else by the keys in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from pgvector_sync.declare.file import BUILT_IN
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.network.hosts import address_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Provider
from pgvector_sync.settings import Settings

OLLAMA = Provider("ollama", base_url="http://localhost:11434/v1")
PROVIDERS = BUILT_IN | {"ollama": OLLAMA}
_MODELS = {
    "openai": "text-embedding-3-small",
    "voyage": "voyage-4",
    "cohere": "embed-v4.0",
    "gemini": "gemini-embedding-001",
    "ollama": "nomic-embed-text",
}
_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
    "voyage-4": 1024,
    "voyage-4-large": 1024,
    "voyage-4-lite": 1024,
    "embed-v4.0": 1536,
    "gemini-embedding-001": 1536,  # of 3072, so that an index of `vector` is possible
    "gemini-embedding-2": 1536,
    "mistral-embed": 1024,
    "nomic-embed-text": 768,
    "nomic-embed-text-v1.5": 768,
    "embeddinggemma": 768,
    "mxbai-embed-large": 1024,
    "all-minilm": 384,
    "bge-m3": 1024,
    "bge-small-en-v1.5": 384,
    "bge-base-en-v1.5": 768,
    "bge-large-en-v1.5": 1024,
    "multilingual-e5-small": 384,
    "multilingual-e5-base": 768,
    "multilingual-e5-large": 1024,
    "qwen3-embedding-0.6b": 1024,
    "qwen3-embedding-4b": 2560,
    "qwen3-embedding-8b": 4096,
}
"""Dimensions by the last part of a model's name, in lower case."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The provider and model of a pipeline."""

    provider: Provider
    model: str
    dimensions: int
    address: str
    why: str
    """Why this provider."""
    missing: tuple[str, ...]
    """What this environment still lacks, as lines for a shell."""

    @property
    def declared(self) -> bool:
        """Whether the provider needs a section in the file."""
        return self.provider.name not in BUILT_IN


def choose_model(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    provider: str | None = None,
    model: str | None = None,
    dimensions: int | None = None,
) -> ModelChoice:
    """Choose what wasn't asked for. Raises ConfigError for an unknown provider, or a model of unknown size."""
    name, why = (provider, "as asked for") if provider else _by_environment(settings, environ)
    chosen = PROVIDERS.get(name)
    if chosen is None:
        raise ConfigError(
            f"expected one of {', '.join(sorted(PROVIDERS))}; got {name!r}",
            where="--provider",
            hint="for another endpoint, set OPENAI_BASE_URL, or declare [providers.NAME]: docs/providers.md",
        )
    dialect, address = dialect_of(chosen), address_of(chosen, settings)
    other = name == "openai" and bool(settings.openai_base_url) and "api.openai.com" not in address
    model = model or dialect.default_model or (None if other else _MODELS.get(name))
    if model is None:
        raise ConfigError(
            f"expected the name of a model of {address}, which OPENAI_BASE_URL names",
            where="--model",
            hint="pgvector-sync init TABLE --model NAME --dimensions NUMBER",
        )
    return ModelChoice(
        chosen, model, dimensions or _dimensions(chosen, model), address, why, tuple(_missing(chosen, environ))
    )


def _by_environment(settings: Settings, environ: Mapping[str, str]) -> tuple[str, str]:
    if settings.openai_base_url:
        return "openai", "OPENAI_BASE_URL is set"
    for provider in BUILT_IN.values():
        if provider.api_key_env and environ.get(provider.api_key_env):
            return provider.name, f"{provider.api_key_env} is set"
    if find_spec("wordllama") is not None:
        return "local", "no key of a provider is set, and the extra `local` is installed"
    return "openai", "the default, since neither a key nor the extra `local` was found"


def _dimensions(provider: Provider, model: str) -> int:
    if not dialect_of(provider).remote:
        from pgvector_sync.embedding.local_models.models import sizes_of

        return sizes_of(model)[-1]
    base = model.rpartition("/")[2].lower()
    names = (base, base.replace(":", "-"), base.partition(":")[0])  # Ollama's models have tags
    known = next((_DIMENSIONS[name] for name in names if name in _DIMENSIONS), None)
    if known is None:
        raise ConfigError(
            f"the size of {model}'s vectors isn't known",
            where="--dimensions",
            hint="add --dimensions NUMBER: the model's documentation says how many its vectors have",
        )
    return known


def _missing(provider: Provider, environ: Mapping[str, str]) -> list[str]:
    lines = []
    if provider.api_key_env and not environ.get(provider.api_key_env):
        lines.append(f"export {provider.api_key_env}=…")
    if provider is OLLAMA and "localhost:11434" not in environ.get("PGVECTOR_SYNC_ALLOWED_HOSTS", ""):
        lines.append("export PGVECTOR_SYNC_ALLOWED_HOSTS=http://localhost:11434")
    if not dialect_of(provider).remote and find_spec("wordllama") is None:
        lines.append("pip install 'pgvector-sync[local]'")
    return lines
