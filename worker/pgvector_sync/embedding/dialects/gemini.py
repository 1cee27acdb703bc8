"""Google's Gemini API.

Sources: https://ai.google.dev/api/embeddings, https://ai.google.dev/gemini-api/docs/embeddings,
https://ai.google.dev/gemini-api/docs/troubleshooting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pgvector_sync.embedding import error_body
from pgvector_sync.embedding.dialects.dialect import Limits
from pgvector_sync.embedding.dialects.http import Request
from pgvector_sync.embedding.dialects.native import NativeDialect
from pgvector_sync.embedding.refusal import (
    Refusal,
    by_body,
    by_status,
    denied,
    key_rejected,
    meaning,
    model_unknown,
)
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Purpose, Spec

if TYPE_CHECKING:
    from pgvector_sync.embedding.answer import Answer

_TASKS = {Purpose.DOCUMENT: "RETRIEVAL_DOCUMENT", Purpose.QUERY: "RETRIEVAL_QUERY"}
_PREFIX = "models/"
_PHRASES = {"token": "too_many_tokens", "requests can be in one batch": "too_many_inputs"}


class Gemini(NativeDialect):
    name = "gemini"
    built_in = Provider(
        "gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        api_key_env="GEMINI_API_KEY",
        dialect="gemini",
    )
    endpoint = ":batchEmbedContents"
    compatible_path = "/openai"
    # A request may take about 4 MB. gemini-embedding-2 rejects texts over 8,192 tokens, gemini-embedding-001 over
    # 2,048, where halving finds those in between.
    known_limits = Limits(
        max_inputs=100,
        max_request_tokens=500_000,
        max_input_tokens=8_192,
        parallel_requests=4,
        counts_inputs=True,
    )
    own_parameters: Mapping[str, str] = {
        "outputdimensionality": "set the pipeline's dimensions",
        **dict.fromkeys(("model", "content", "requests", "embedcontentconfig"), "pgvector-sync sets it"),
    }

    key_headers = frozenset({"x-goog-api-key"})

    def credentials(self, key: str) -> Mapping[str, str]:
        return {"x-goog-api-key": key}

    def parameters(self, spec: Spec, purpose: Purpose) -> dict[str, Any]:
        # By default Gemini cuts off what a model can't read.
        parameters: dict[str, Any] = {"autoTruncate": False}
        if not expects_prefixes(spec.model):
            parameters["taskType"] = _TASKS[purpose]
        return parameters

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        model = spec.model.removeprefix(_PREFIX)
        config = self.merged(spec, purpose, provider) | {"outputDimensionality": spec.dimensions}
        requests = [
            {"model": _PREFIX + model, "content": {"parts": [{"text": text}]}, "embedContentConfig": config}
            for text in texts
        ]
        # Quoted, since a row of the database must not decide which address gets the key.
        return Request(f"/{_PREFIX}{quote(model, safe='')}{self.endpoint}", {"requests": requests})

    def read(self, body: bytes, *, texts: Sequence[str], dimensions: int) -> Answer:
        from pgvector_sync.embedding.answer import Answer, field, parse, read_in_order, unit_length, whole_number

        count = len(texts)
        answer = parse(body, count=count, dimensions=dimensions)
        items = field(answer, "embeddings")
        values = [field(item, "values") for item in items] if isinstance(items, list) else None
        vectors = read_in_order(values, count=count, dimensions=dimensions)
        # Below 3,072 dimensions gemini-embedding-001 cuts vectors without scaling them to unit length again.
        return Answer(unit_length(vectors), whole_number(field(answer, "usageMetadata", "promptTokenCount")))

    def classify(self, refusal: Refusal) -> ProviderError:
        codes = refusal.codes(error_body.words(refusal.body))
        if "api_key_invalid" in codes:  # with 400, like any other wrong argument
            return key_rejected(refusal, "api_key_invalid")
        if "failed_precondition" in codes:  # the API isn't offered in this region, or not without billing
            return denied(refusal, "failed_precondition")
        if refusal.status == 404 and "not_found" in codes:
            return model_unknown(refusal, "not_found")
        if refusal.status == 400 and (code := meaning(_message(refusal.body), _PHRASES)):
            return by_status(refusal, code)
        return by_body(refusal)


def expects_prefixes(model: str) -> bool:
    """Whether a model ignores `taskType`, and expects the task as a prefix of the text."""
    return model.removeprefix(_PREFIX).startswith("gemini-embedding-2")


def _message(body: object) -> object:
    """Return the message of an error, which is sometimes wrapped in a list."""
    first = body[0] if isinstance(body, list) and body else body
    error = first.get("error") if isinstance(first, Mapping) else None
    return error.get("message") if isinstance(error, Mapping) else None
