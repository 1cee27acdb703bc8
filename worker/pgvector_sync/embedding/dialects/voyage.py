"""Voyage AI's own API, which looks like OpenAI's but has other parameters and errors.

Sources: https://docs.voyageai.com/reference/embeddings-api, https://docs.voyageai.com/docs/error-codes,
https://docs.voyageai.com/docs/embeddings. The same API is at https://ai.mongodb.com/v1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import Request
from pgvector_sync.embedding.dialects.native import NativeDialect
from pgvector_sync.embedding.refusal import Refusal, by_body, by_status, meaning, model_unknown
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

_FLEXIBLE = (256, 512, 1024, 2048)
_PHRASES = {
    "context window": "context_length_exceeded",
    "tokens per submitted batch": "max_tokens_per_request",
    "payment method": "no_payment_method",
    "supported models are": "model_not_supported",
    "batch size": "too_many_inputs",
}
"""An error of Voyage's is prose without a code."""


class Voyage(NativeDialect):
    name = "voyage"
    built_in = Provider(
        "voyage", base_url="https://api.voyageai.com/v1", api_key_env="VOYAGE_API_KEY", dialect="voyage"
    )
    endpoint = "/embeddings"
    # 120,000 tokens are the limit of the largest models; voyage-4 accepts 320,000 and voyage-4-lite a million.
    known_limits = Limits(
        max_inputs=1_000, max_request_tokens=120_000, max_input_tokens=32_000, parallel_requests=4
    )
    own_parameters: Mapping[str, str] = {
        "model": "set the pipeline's model",
        "output_dimension": "set the pipeline's dimensions",
        **dict.fromkeys(("input", "output_dtype", "encoding_format"), "pgvector-sync sets it"),
    }
    sizes: Mapping[str, Sequence[int]] = {
        **dict.fromkeys(("voyage-4-large", "voyage-4", "voyage-4-lite"), _FLEXIBLE),
        **dict.fromkeys(("voyage-3-large", "voyage-3.5", "voyage-3.5-lite", "voyage-code-3"), _FLEXIBLE),
        **dict.fromkeys(("voyage-3", "voyage-multilingual-2", "voyage-finance-2", "voyage-law-2"), (1024,)),
        "voyage-3-lite": (512,),
        "voyage-code-2": (1536,),
    }

    def parameters(self, spec: Spec, purpose: Purpose) -> dict[str, Any]:
        del spec
        # By default Voyage cuts off what a model can't read.
        return {"input_type": purpose.value, "truncation": False}

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        body = {
            **self.merged(spec, purpose, provider),
            "model": spec.model,
            "input": list(texts),
            "output_dtype": "float",
            "encoding_format": "base64",
        }
        if self.takes_size(spec.model):
            body["output_dimension"] = spec.dimensions
        return Request(self.endpoint, body)

    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        from pgvector_sync.embedding.answer import read_answer

        return read_answer(body, count=len(texts), dimensions=dimensions)

    def classify(self, refusal: Refusal) -> ProviderError:
        body = refusal.body
        code = meaning(body.get("detail"), _PHRASES) if isinstance(body, Mapping) else None
        if refusal.status == 400 and code == "model_not_supported":
            return model_unknown(refusal, code)
        return by_status(refusal, code) if code else by_body(refusal)
