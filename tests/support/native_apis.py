"""The APIs of Cohere, Voyage AI and Gemini, as their public references describe them.

Tokens are four bytes each. What a model can't read is cut off only where a request allows it, and counted in `cut`, so
that a test can show that nothing was.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

from support.endpoint_contract import tokens_of, vector_of
from support.native_endpoint import Api, RefusedError


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value) and value != []


class Cohere(Api):
    """https://docs.cohere.com/reference/embed and https://docs.cohere.com/reference/errors."""

    dialect, base = "cohere", "/v2"
    MODELS: ClassVar = {
        "embed-v4.0": (128_000, (256, 512, 1024, 1536)),
        "embed-english-v3.0": (512, (1024,)),
        "embed-english-light-v3.0": (512, (384,)),
        "embed-v5.0": (128_000, (256, 1536)),  # a model that came after this program
    }
    TYPES: ClassVar = {"search_document", "search_query", "classification", "clustering"}
    PARAMETERS: ClassVar = {
        *("texts", "images", "inputs", "model", "input_type", "max_tokens", "output_dimension", "embedding_types"),
        *("truncate", "priority"),
    }

    def __init__(self) -> None:
        self.cut = 0

    def check(self, path: str, headers: Mapping[str, str], body: Any) -> list[str]:
        if path != "/v2/embed":
            raise self._error(404, "404 page not found")
        if "authorization" not in headers:
            raise self._error(401, "no api key supplied")
        if headers["authorization"] != f"Bearer {self.key}":
            raise self._error(401, "invalid api token")
        if unknown := body.keys() - self.PARAMETERS:
            raise self._error(422, f"unknown field: parameter '{min(unknown)}' is not a valid field")
        model, texts = body.get("model"), body.get("texts")
        if model == "command-r":
            raise self._error(400, f"invalid request: model '{model}' is not supported by the embed API")
        if model not in self.MODELS:
            raise self._error(
                404, f"model '{model}' not found, make sure the correct model ID was used and that you have access"
            )
        window, sizes = self.MODELS[model]
        if body.get("input_type") not in self.TYPES:
            raise self._error(400, "invalid request: valid input_type must be provided with the provided model")
        if "embedding_types" not in body:
            raise self._error(400, "embedding_types parameter is required")
        if not isinstance(texts, list) or len(texts) > 96:
            raise self._error(
                400, f"invalid request: total number of texts must be at most 96 - received {len(texts)}"
            )
        if not _is_texts(texts):
            raise self._error(
                400, "invalid request: inputs contains an element that is the empty string at index 0"
            )
        if "output_dimension" in body and len(sizes) == 1:
            raise self._error(400, f"invalid request: output_dimension is not supported for model '{model}'")
        if body.get("output_dimension", sizes[-1]) not in sizes:
            raise self._error(400, f"invalid request: output_dimension must be one of {sizes}")
        for text in texts:
            if tokens_of(text) > window:
                if body.get("truncate", "END") == "NONE":
                    raise self._error(
                        400,
                        f"too many tokens: total number of tokens in the input cannot exceed {window} - "
                        f"received {tokens_of(text)}. Try using a shorter input: {text[:40]}",
                    )
                self.cut += 1
        return texts

    def answer(self, texts: list[str], body: Any) -> Any:
        size = body.get("output_dimension", self.MODELS[body["model"]][1][-1])
        return {
            "id": "da6e531f-54c5-4a73-bf92-f60566d8d753",
            "embeddings": {"float": [vector_of(text, size).tolist() for text in texts]},
            "texts": texts,
            "meta": {
                "api_version": {"version": "2", "is_experimental": False},
                "billed_units": {"input_tokens": float(sum(map(tokens_of, texts)))},
            },
            "response_type": "embeddings_by_type",
        }

    def _error(self, status: int, message: str) -> RefusedError:
        return RefusedError(status, {"id": "1b4a1a5d-0a0c-4d8d-8a61-7d6f1a3f6f4e", "message": message})


class Voyage(Api):
    """https://docs.voyageai.com/reference/embeddings-api and https://docs.voyageai.com/docs/error-codes."""

    dialect, base = "voyage", "/v1"
    FLEXIBLE: ClassVar = (256, 512, 1024, 2048)
    MODELS: ClassVar = {
        "voyage-4-large": (32_000, 120_000, FLEXIBLE),
        "voyage-4": (32_000, 320_000, FLEXIBLE),
        "voyage-law-2": (16_000, 120_000, (1024,)),
    }
    PARAMETERS: ClassVar = {
        *("input", "model", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format")
    }

    def __init__(self) -> None:
        self.cut = 0

    def check(self, path: str, headers: Mapping[str, str], body: Any) -> list[str]:
        if path != "/v1/embeddings":
            raise self._error(404, "Not Found")
        if headers.get("authorization") != f"Bearer {self.key}":
            raise self._error(401, "Provided API key is invalid.")
        if unknown := body.keys() - self.PARAMETERS:
            raise self._error(400, f"Argument '{min(unknown)}' is not supported by our API")
        model, texts = body.get("model"), body.get("input")
        if model not in self.MODELS:
            raise self._error(400, f"Model {model} is not supported. Supported models are {list(self.MODELS)}.")
        window, most, sizes = self.MODELS[model]
        if body.get("input_type") not in {None, "query", "document"}:
            raise self._error(400, "The input_type must be 'query', 'document' or null")
        if body.get("encoding_format") not in {None, "base64"} or body.get("output_dtype", "float") != "float":
            raise self._error(400, "Value 'float' is invalid for encoding_format")
        if not _is_texts(texts):
            raise self._error(400, "Input cannot contain empty strings or empty lists")
        if len(texts) > 1_000:
            raise self._error(400, "The batch size limit is 1000. Please reduce the batch size")
        if "output_dimension" in body and len(sizes) == 1:
            raise self._error(400, f"The model {model} does not have an output_dimension")
        if body.get("output_dimension", 1024) not in sizes:
            raise self._error(400, f"Value '{body['output_dimension']}' is invalid for output_dimension")
        for index, text in enumerate(texts):
            if tokens_of(text) > window:
                if body.get("truncation", True) is False:
                    raise self._error(
                        400,
                        f"Request to model '{model}' failed. The example at index {index} in your batch has too many "
                        f"tokens and does not fit into the model's context window of {window} tokens.",
                    )
                self.cut += 1
        if (tokens := sum(map(tokens_of, texts))) > most:
            raise self._error(
                400,
                f"Request to model '{model}' failed. The max allowed tokens per submitted batch is {most}. "
                f"Your batch has {tokens} tokens after truncation.",
            )
        return texts

    def answer(self, texts: list[str], body: Any) -> Any:
        size = body.get("output_dimension", 1024)
        vectors = [vector_of(text, size) for text in texts]
        if body.get("encoding_format") == "base64":
            encoded: list[Any] = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        else:
            encoded = [vector.tolist() for vector in vectors]
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": vector, "index": index}
                for index, vector in enumerate(encoded)
            ],
            "model": body["model"],
            "usage": {"total_tokens": sum(map(tokens_of, texts))},
        }

    def _error(self, status: int, detail: str) -> RefusedError:
        return RefusedError(status, {"detail": detail})


class Gemini(Api):
    """https://ai.google.dev/api/embeddings and https://ai.google.dev/gemini-api/docs/embeddings."""

    dialect, base = "gemini", "/v1beta"
    MODELS: ClassVar = {"gemini-embedding-001": 2_048, "gemini-embedding-2": 8_192}
    TASKS: ClassVar = {
        *("RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING"),
        *("QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"),
    }
    CONFIG: ClassVar = {
        "title",
        "taskType",
        "autoTruncate",
        "outputDimensionality",
        "documentOcr",
        "audioTrackExtraction",
    }
    counts = True
    """Whether answers say how many tokens were used."""

    def __init__(self) -> None:
        self.cut = 0

    def check(self, path: str, headers: Mapping[str, str], body: Any) -> list[str]:
        address, _, method = path.rpartition(":")
        if method != "batchEmbedContents" or not address.startswith("/v1beta/models/"):
            raise self.error(404, "NOT_FOUND", "")
        if headers.get("x-goog-api-key") != self.key or "authorization" in headers:
            raise self.error(
                400,
                "INVALID_ARGUMENT",
                "API key not valid. Please pass a valid API key.",
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"service": "generativelanguage.googleapis.com"},
                },
            )
        name = address.removeprefix("/v1beta/")
        window = self.MODELS.get(name.removeprefix("models/"))
        if window is None:
            raise self.error(404, "NOT_FOUND", f"{name} is not found for API version v1beta, or is not supported")
        requests = body.get("requests")
        if body.keys() != {"requests"} or not requests:
            raise self._invalid("Invalid JSON payload received. Unknown name: Cannot find field.")
        if len(requests) > 100:
            raise self._invalid("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n")
        return [self._text(request, name, window) for request in requests]

    def _text(self, request: Any, name: str, window: int) -> str:
        config = request.get("embedContentConfig", {})
        if request.keys() - {"model", "content", "embedContentConfig"} or config.keys() - self.CONFIG:
            raise self._invalid("Invalid JSON payload received. Unknown name: Cannot find field.")
        if request.get("model") != name:
            raise self._invalid(
                "* BatchEmbedContentsRequest.requests[0].model: all requests must be the same model\n"
            )
        if config.get("taskType", "RETRIEVAL_QUERY") not in self.TASKS:
            raise self._invalid("Invalid value at 'requests[0].embed_content_config.task_type'")
        if not 1 <= config.get("outputDimensionality", 3_072) <= 3_072:
            raise self._invalid("* EmbedContentRequest.output_dimensionality: must be in the range (0, 3072]\n")
        (part,) = request["content"]["parts"]
        text: str = part["text"]
        if not text:
            raise self._invalid("* EmbedContentRequest.content contains an empty Part.\n")
        if tokens_of(text) > window:
            if config.get("autoTruncate", True) is False:
                raise self._invalid(f"The input token count ({tokens_of(text)}) exceeds the maximum of {window}.")
            self.cut += 1
        return text

    def answer(self, texts: list[str], body: Any) -> Any:
        size = body["requests"][0]["embedContentConfig"].get("outputDimensionality", 3_072)
        scale = 1.0 if size == 3_072 else 0.7  # only vectors of 3,072 dimensions have unit length
        answer: dict[str, Any] = {
            "embeddings": [{"values": (vector_of(text, size) * scale).tolist()} for text in texts]
        }
        if self.counts:
            tokens = sum(map(tokens_of, texts))
            details = [{"modality": "TEXT", "tokenCount": tokens}]
            answer["usageMetadata"] = {"promptTokenCount": tokens, "promptTokenDetails": details}
        return answer

    def _invalid(self, message: str) -> RefusedError:
        return self.error(400, "INVALID_ARGUMENT", message)

    @staticmethod
    def error(status: int, name: str, message: str, *details: Any) -> RefusedError:
        return RefusedError(
            status, {"error": {"code": status, "message": message, "status": name, "details": [*details]}}
        )
