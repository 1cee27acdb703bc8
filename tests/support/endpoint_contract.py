"""The requests that the strict endpoint accepts, its answers, and its faults."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from support.endpoint_quirks import RefusalError, adapt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_INPUTS, MAX_TOKENS, MAX_INPUT_TOKENS = 2_048, 300_000, 8_191
PARAMETERS = {"input", "model", "dimensions", "encoding_format", "user"}
FAULTS = {
    # before the answer: `status` answers with the given status, code, headers and body
    *("status", "redirect", "html", "hang", "reset"),
    # in the answer
    *("reset_mid_body", "truncated", "drip", "wrong_count", "shuffled", "missing_index", "duplicate_index"),
    *("wrong_dimension", "nan", "infinity", "zero", "lists", "no_usage", "error_with_200"),
}


def vector_of(text: str, dimensions: int) -> NDArray[np.float32]:
    """The endpoint's vector for a text: float32, unit length, different for every text."""
    seed = hashlib.sha256(text.encode()).digest()
    numbers = np.frombuffer(hashlib.shake_256(seed).digest(2 * dimensions), dtype="<u2").astype(np.float32)
    numbers -= 32767.5
    vector: NDArray[np.float32] = numbers / np.linalg.norm(numbers)
    return vector


def tokens_of(text: str) -> int:
    return max(1, len(text.encode()) // 4)


@dataclass
class Fault:
    kind: str = "status"
    times: int | None = None
    """The number of requests it affects; None means all."""
    after: int = 0
    """The number of matching requests that pass first."""
    marker: str | None = None
    """Affects only requests with an input that contains this."""
    status: int = 500
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    seconds: float = 60.0
    """How long `hang` hangs and `drip` drips."""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no such fault: {self.kind}")


@dataclass
class Limit:
    """A provider's own rate limit: refilled evenly, with at most `burst` seconds' worth at once."""

    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    burst: float = 5.0
    _spent: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Gauge → the amount spent, and the time at which it was."""

    def refusal(self, tokens: int, now: float) -> float | None:
        """Counts the request and returns None if it passes, else returns the seconds until it would."""
        wait, spent = 0.0, {}
        for gauge, limit, cost in (
            ("requests", self.requests_per_minute, 1),
            ("tokens", self.tokens_per_minute, tokens),
        ):
            if limit == math.inf:
                continue
            before, at = self._spent.get(gauge, (0.0, now))
            total = max(0.0, before - (now - at) * limit / 60) + cost
            spent[gauge] = (total, now)
            wait = max(wait, (total - limit / 60 * self.burst) / (limit / 60))
        if wait > 0:
            return wait
        self._spent.update(spent)
        return None


def check_request(
    body: bytes, authorization: str, api_key: str | None, quirks: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the request's parameters, with `input` as a list. Raises RefusalError where OpenAI would reject it."""
    if authorization != (f"Bearer {api_key}" if api_key else ""):
        raise RefusalError(401, "invalid_api_key", "incorrect API key provided")
    try:
        request = json.loads(body)
        texts = request["input"] = [request["input"]] if isinstance(request["input"], str) else request["input"]
        model = request["model"]
    except (ValueError, TypeError, KeyError):
        raise RefusalError(400, "invalid_request", "input and model are required") from None
    adapt(request, quirks)
    if unknown := set(request) - PARAMETERS:
        raise RefusalError(400, "unknown_parameter", f"unknown parameters: {sorted(unknown)}")
    if not (isinstance(model, str) and model.startswith("text-embedding")):
        raise RefusalError(404, "model_not_found", f"the model {model} does not exist")
    if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text for text in texts)):
        raise RefusalError(400, "invalid_input", "input must be a non-empty list of non-empty strings")
    if len(texts) > MAX_INPUTS:
        raise RefusalError(400, "array_above_max_length", f"{len(texts)} inputs, at most {MAX_INPUTS}")
    tokens = [tokens_of(text) for text in texts]
    if max(tokens) > MAX_INPUT_TOKENS:
        raise RefusalError(400, "context_length_exceeded", f"the input has {max(tokens)} tokens")
    if sum(tokens) > MAX_TOKENS:
        raise RefusalError(400, "max_tokens_per_request", f"the request has {sum(tokens)} tokens")
    dimensions = request.get("dimensions", 1)
    if type(dimensions) is not int or not 1 <= dimensions <= 3072:
        raise RefusalError(400, "invalid_dimensions", "dimensions out of range")
    if request.get("encoding_format", "float") not in {"float", "base64"}:
        raise RefusalError(400, "invalid_encoding_format", "unknown encoding_format")
    checked: dict[str, Any] = request
    return checked


def make_answer(texts: list[str], request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """A provider's answer, or with a fault, that of a broken provider."""
    kind = fault.kind if fault else None
    dimensions = request.get("dimensions", 3072 if request["model"].endswith("large") else 1536)
    vectors = [vector_of(text, dimensions) for text in texts]
    if kind == "wrong_dimension":
        vectors[-1] = vectors[-1][:-1]
    poison = {"nan": np.nan, "infinity": np.inf, "zero": 0.0}
    if kind in poison:
        vectors[-1] = vectors[-1] * 0 if kind == "zero" else np.append(vectors[-1][:-1], np.float32(poison[kind]))
    as_base64 = request.get("encoding_format") == "base64" and kind != "lists"
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if as_base64
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    if kind == "wrong_count":
        data.pop()
    elif kind == "shuffled":
        data.reverse()
    elif kind == "missing_index":
        del data[-1]["index"]
    elif kind == "duplicate_index":
        data[-1]["index"] = 0
    answer: dict[str, Any] = {"object": "list", "data": data, "model": request["model"]}
    if kind != "no_usage":
        tokens = sum(map(tokens_of, texts))
        answer["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer
