"""What well-known hosts of OpenAI's embeddings API expect and allow, so that their users need no setting.

A setting of the provider always takes precedence. Servers that users run themselves have no host by which they can
be recognized; docs/providers.md says what to set for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Known:
    """The differences of one service from OpenAI's own. None: no difference is known."""

    hosts: tuple[str, ...]
    """Lower case. `.example.com` stands for every host below example.com."""
    sources: tuple[str, ...]
    """Public pages that document or report it."""
    encoding: Literal["base64", "float", "none"] | None = None
    """The `encoding_format` to ask for; "none" sends no such parameter."""
    dimensions_parameter: Literal["dimensions", "output_dimension", "none"] | None = None
    """The parameter that sets the size of vectors; "none" sends no such parameter."""
    max_inputs: int | None = None
    max_request_tokens: int | None = None
    max_input_tokens: int | None = None
    """Only where a longer text is rejected. One that is cut off may share its request with others."""


UNKNOWN = Known(hosts=(), sources=())
"""What is known about any other host: nothing."""

KNOWN = (
    Known(
        hosts=("generativelanguage.googleapis.com",),
        sources=(
            "https://github.com/RooCodeInc/Roo-Code/issues/7761",
            "https://github.com/StarTrail-org/LEANN/pull/214",
        ),
        encoding="float",
        max_inputs=100,
    ),
    Known(
        hosts=("api.voyageai.com", "ai.mongodb.com"),
        sources=(
            "https://www.mongodb.com/docs/api/doc/atlas-embedding-and-reranking-api/operation/operation-createembedding",
            "https://github.com/vectorize-io/hindsight/issues/925",
        ),
        encoding="base64",
        dimensions_parameter="output_dimension",
        max_inputs=1_000,
        max_request_tokens=120_000,  # of the largest models; others accept 320,000 or a million
        max_input_tokens=32_000,
    ),
    Known(
        hosts=("api.mistral.ai",),
        sources=(
            "https://docs.mistral.ai/api/endpoint/embeddings",
            "https://github.com/aurelio-labs/semantic-router/issues/297",
        ),
        encoding="float",
        dimensions_parameter="output_dimension",
        max_request_tokens=16_384,
        max_input_tokens=8_192,
    ),
    Known(
        hosts=(
            "dashscope.aliyuncs.com",
            "dashscope-intl.aliyuncs.com",
            ".maas.aliyuncs.com",
        ),
        sources=("https://alibabacloud.com/help/en/model-studio/embedding-interfaces-compatible-with-openai",),
        encoding="float",
        max_inputs=10,
        max_input_tokens=8_192,
    ),
    Known(
        hosts=("api.jina.ai",),
        sources=(
            "https://github.com/QuantumNous/new-api/issues/1941",
            "https://github.com/langgenius/dify-official-plugins/issues/1997",
        ),
        encoding="none",
        max_inputs=512,
        max_input_tokens=8_192,
    ),
    Known(
        hosts=("openrouter.ai",),
        sources=("https://github.com/plastic-labs/honcho/issues/932",),
        encoding="float",
    ),
    Known(
        hosts=("api.deepinfra.com",),
        sources=("https://github.com/deepset-ai/haystack/issues/9654",),
        encoding="float",
    ),
    Known(
        hosts=("api.siliconflow.cn", "api.siliconflow.com"),
        sources=("https://github.com/n4ze3m/page-assist/issues/371",),
        max_inputs=64,
    ),
    Known(
        hosts=("integrate.api.nvidia.com",),
        sources=("https://github.com/ogx-ai/ogx/issues/2892",),
        encoding="float",
    ),
    Known(
        hosts=("api.together.xyz", "api.together.ai"),
        sources=("https://docs.together.ai/docs/embeddings-rest",),
        encoding="none",
        dimensions_parameter="none",
    ),
    Known(
        hosts=("inference.do-ai.run",),
        sources=(
            "https://docs.digitalocean.com/reference/dots/reference/serverless-inference/inference-create-embedding/",
        ),
        dimensions_parameter="none",
    ),
    Known(
        hosts=("api.sambanova.ai",),
        sources=("https://docs.sambanova.ai/cloud/api-reference/endpoints/embeddings-api",),
        encoding="none",
        dimensions_parameter="none",
    ),
    Known(
        hosts=("api.cloudflare.com",),
        sources=("https://github.com/cloudflare/cloudflare-docs/issues/11316",),
        max_inputs=100,
    ),
)


def known_by(address: str | None) -> Known:
    """Return what is known about the host of an address."""
    try:
        host = urlsplit(address or "").hostname or ""
    except ValueError:
        return UNKNOWN
    return next((known for known in KNOWN if _covers(known.hosts, host)), UNKNOWN)


def _covers(hosts: tuple[str, ...], host: str) -> bool:
    return any(host.endswith(name) if name.startswith(".") else host == name for name in hosts)
