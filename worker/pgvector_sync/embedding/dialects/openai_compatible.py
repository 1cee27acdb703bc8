"""OpenAI's embeddings API, which most other providers and servers offer as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import HttpDialect, Request
from pgvector_sync.embedding.dialects.known import known_by
from pgvector_sync.embedding.refusal import Refusal, by_status, quota_used_up
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

LIMITS = Limits(max_inputs=2_048, max_request_tokens=300_000, max_input_tokens=8_191, parallel_requests=4)
"""The limits of OpenAI itself. Requests run in parallel since long texts are sent one per request, and their batch
must end before its deadline."""
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}

_FORM = "vectors are read as one list of floats per text"
_OWN_PARAMETERS = {
    "input": "it contains the texts",
    "model": "set model in the pipeline's section",
    "dimensions": "set dimensions in the pipeline's section",
    "output_dimension": 'set dimensions in the pipeline\'s section, and dimensions_parameter = "output_dimension"',
    "encoding_format": "set encoding in the provider's section",
    "stream": "an answer is read as a whole",
    "output_dtype": _FORM,
    "embedding_type": _FORM,
    "embedding_types": _FORM,
    "return_multivector": _FORM,
    "late_chunking": "a vector would depend on the other texts of its request",
}


class OpenAICompatible(HttpDialect):
    name = "openai"
    built_in = Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    endpoint = "/embeddings"
    own_parameters = _OWN_PARAMETERS

    def limits(self, provider: Provider) -> Limits:
        return LIMITS.overridden(known_by(provider.base_url)).overridden(provider)

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        del purpose  # the API has no parameter for it
        known = known_by(provider.base_url)
        body: dict[str, object] = {**provider.extra_body, **spec.body, "input": list(texts), "model": spec.model}
        if (encoding := provider.encoding or known.encoding or "base64") != "none":
            body["encoding_format"] = encoding
        if (parameter := provider.dimensions_parameter or known.dimensions_parameter or "dimensions") != "none":
            body[parameter] = spec.dimensions
        return Request(self.endpoint, body)

    def read(self, body: bytes, *, count: int, dimensions: int) -> Answer:
        from pgvector_sync.embedding.answer import read_answer

        return read_answer(body, count=count, dimensions=dimensions)

    def classify(self, refusal: Refusal) -> ProviderError:
        """Classify by `error.code`, then `error.type`: both may name a used-up quota, with several statuses."""
        body = refusal.body
        error = body.get("error", body) if isinstance(body, Mapping) else None
        words = [error.get("code"), error.get("type")] if isinstance(error, Mapping) else []
        codes = refusal.codes(words)
        code = codes[0] if codes else None
        return quota_used_up(refusal, code) if _QUOTA.intersection(codes) else by_status(refusal, code)
