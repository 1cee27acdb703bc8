"""Cohere's own API, version 2.

Sources: https://docs.cohere.com/reference/embed, https://docs.cohere.com/reference/errors,
https://docs.cohere.com/docs/cohere-embed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import Request
from pgvector_sync.embedding.dialects.native import NativeDialect
from pgvector_sync.embedding.refusal import Refusal, by_body, by_status, meaning, model_unknown, quota_used_up
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

_INPUT_TYPES = {Purpose.DOCUMENT: "search_document", Purpose.QUERY: "search_query"}
_PHRASES = {
    "too many tokens": "too_many_tokens",
    "not supported by the": "model_not_supported",
    "make sure the correct model": "model_not_found",
    "calls / month": "monthly_limit",
    "valid input_type": "input_type",
    "at most 96": "too_many_inputs",
}
"""An error of Cohere's is prose without a code."""


class Cohere(NativeDialect):
    name = "cohere"
    built_in = Provider("cohere", base_url="https://api.cohere.com/v2", api_key_env="CO_API_KEY", dialect="cohere")
    endpoint = "/embed"
    compatible_path = "/compatibility/v1"
    repeats_texts = True
    # Cohere limits only the inputs. The other two keep a request from growing to megabytes, and a text that no
    # model can read from being sent with others.
    known_limits = Limits(
        max_inputs=96,
        max_request_tokens=500_000,
        max_input_tokens=128_000,
        parallel_requests=4,
        counts_inputs=True,
    )
    own_parameters: Mapping[str, str] = {
        "model": "set the pipeline's model",
        "output_dimension": "set the pipeline's dimensions",
        **dict.fromkeys(("texts", "inputs", "images", "embedding_types"), "pgvector-sync sets it"),
    }
    sizes: Mapping[str, Sequence[int]] = {
        "embed-v4.0": (256, 512, 1024, 1536),
        "embed-english-v3.0": (1024,),
        "embed-multilingual-v3.0": (1024,),
        "embed-english-light-v3.0": (384,),
        "embed-multilingual-light-v3.0": (384,),
    }

    def parameters(self, spec: Spec, purpose: Purpose) -> dict[str, Any]:
        del spec
        # By default Cohere cuts off what a model can't read.
        return {"input_type": _INPUT_TYPES[purpose], "truncate": "NONE"}

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        body = {
            **self.merged(spec, purpose, provider),
            "model": spec.model,
            "texts": list(texts),
            # The reference doesn't say which numbers are encoded in its base64.
            "embedding_types": ["float"],
        }
        if self.takes_size(spec.model):
            body["output_dimension"] = spec.dimensions
        return Request(self.endpoint, body)

    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        from pgvector_sync.embedding.answer import Answer, field, parse, read_in_order, whole_number

        count = len(texts)
        answer = parse(body, count=count, dimensions=dimensions, repeated=texts)
        vectors = read_in_order(field(answer, "embeddings", "float"), count=count, dimensions=dimensions)
        return Answer(vectors, whole_number(field(answer, "meta", "billed_units", "input_tokens")))

    def classify(self, refusal: Refusal) -> ProviderError:
        body = refusal.body
        code = meaning(body.get("message"), _PHRASES) if isinstance(body, Mapping) else None
        if refusal.status == 429 and code == "monthly_limit":  # of a trial key
            return quota_used_up(refusal, code)
        if refusal.status in {400, 404} and code in {"model_not_supported", "model_not_found"}:
            return model_unknown(refusal, code)
        if refusal.status == 498:  # a deny-listed word
            return by_status(refusal, "blocked_word", means=400)
        return by_status(refusal, code) if code else by_body(refusal)
