"""OpenAI's embeddings API, which most other providers and servers offer as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import HttpDialect, Request
from pgvector_sync.embedding.dialects.known import known_by
from pgvector_sync.embedding.error_body import parameter
from pgvector_sync.embedding.refusal import Refusal, says_too_large
from pgvector_sync.errors import InputRejected, ProviderError
from pgvector_sync.model import Provider, Purpose, Spec

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

LIMITS = Limits(max_inputs=2_048, max_request_tokens=300_000, max_input_tokens=8_191, parallel_requests=4)
"""The limits of OpenAI itself. Requests run in parallel since long texts are sent one per request, and their batch
must end before its deadline."""
_PARAMETERS = ("encoding_format", "output_dimensionality", "output_dimension", "dimensions", "input_type")
"""What an endpoint may complain about."""

_FORM = "vectors are read as one list of floats per text"
_OWN_PARAMETERS = {
    **dict.fromkeys(("input", "inputs", "texts", "messages"), "it contains the texts"),
    "model": "set model in the pipeline's section",
    "dimensions": "set dimensions in the pipeline's section",
    "output_dimension": 'set dimensions in the pipeline\'s section, and dimensions_parameter = "output_dimension"',
    "encoding_format": "set encoding in the provider's section",
    "stream": "an answer is read as a whole",
    **dict.fromkeys(("output_dtype", "embedding_type", "embedding_types", "return_multivector"), _FORM),
    **dict.fromkeys(("embed_dtype", "endianness"), _FORM),  # vLLM's, for base64
    "late_chunking": "a vector would depend on the other texts of its request",
}


class OpenAICompatible(HttpDialect):
    name = "openai"
    built_in = Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    endpoint = "/embeddings"
    own_parameters = _OWN_PARAMETERS
    sdk_headers = True

    def limits(self, provider: Provider) -> Limits:
        return LIMITS.overridden(known_by(provider.base_url)).overridden(provider)

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        del purpose  # the API has no parameter for it
        body: dict[str, object] = {**provider.extra_body, **spec.body, "input": list(texts), "model": spec.model}
        if (encoding := _encoding(provider)) != "none":
            body["encoding_format"] = encoding
        if (size := _dimensions_parameter(provider)) != "none":
            body[size] = spec.dimensions
        return Request(self.endpoint, body)

    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        from pgvector_sync.embedding.answer import read_answer

        return read_answer(body, count=len(texts), dimensions=dimensions)

    def classify(self, refusal: Refusal) -> ProviderError:
        """Add, to a rejected input, the settings to change if every input is rejected."""
        error = super().classify(refusal)
        if isinstance(error, InputRejected) and not says_too_large(error):
            error.hint = f"{_advice(refusal)}, then: pgvector-sync apply"
        return error


def _advice(refusal: Refusal) -> str:
    name = refusal.provider.name
    match parameter(refusal.body, _PARAMETERS):
        case "encoding_format":
            sent = _encoding(refusal.provider)
            others = " or ".join(f'"{value}"' for value in ("float", "none", "base64") if value != sent)
            return f"set encoding = {others} in [providers.{name}]"
        case "dimensions" | "output_dimension" | "output_dimensionality":
            return (
                "check the pipeline's dimensions; if the model has a single size, set "
                f'dimensions_parameter = "none" in [providers.{name}]'
            )
        case "input_type":
            return "set `input_type` in the `body` of the pipeline's `document` and `query`"
        case _:
            return (
                "check the pipeline's model and dimensions, and encoding and dimensions_parameter in "
                f"[providers.{name}]"
            )


def _encoding(provider: Provider) -> str:
    return provider.encoding or known_by(provider.base_url).encoding or "base64"


def _dimensions_parameter(provider: Provider) -> str:
    return provider.dimensions_parameter or known_by(provider.base_url).dimensions_parameter or "dimensions"
