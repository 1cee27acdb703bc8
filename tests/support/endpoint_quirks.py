"""How other endpoints differ from the strict one. `endpoints.toml` says which endpoint has which quirk.

    endpoint.behave("omits_index_zero", "at_most_100_inputs")

A quirk changes what is accepted, the answer, or its bytes. The endpoint has none unless a test sets some.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]


class RefusalError(Exception):
    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


# -- what is accepted ---------------------------------------------------------------------------------------------


def _refuses_base64(request: Request) -> None:
    if request.get("encoding_format") == "base64":
        raise RefusalError(400, None, "encoding_format: only 'float' is supported")


def _refuses_float(request: Request) -> None:
    if request.get("encoding_format") == "float":
        raise RefusalError(400, None, "Value 'float' supplied for argument 'encoding_format' is not valid")


def _refuses_encoding(request: Request) -> None:
    if "encoding_format" in request:
        given = request["encoding_format"]
        raise RefusalError(400, None, f"does not support parameters: {{'encoding_format': '{given}'}}")


def _ignores_encoding(request: Request) -> None:
    request.pop("encoding_format", None)


def _refuses_dimensions(request: Request) -> None:
    if "dimensions" in request:
        raise RefusalError(400, "BadRequestError", "changing output dimensions will lead to poor results")


def _ignores_dimensions(request: Request) -> None:
    request.pop("dimensions", None)


def _wants_output_dimension(request: Request) -> None:
    if "dimensions" in request:
        raise RefusalError(400, None, "Argument 'dimensions' is not supported by our API")
    if "output_dimension" in request:
        request["dimensions"] = request.pop("output_dimension")


def _needs_input_type(request: Request) -> None:
    if request.pop("input_type", None) not in {"query", "passage"}:
        raise RefusalError(400, None, "'input_type' parameter is required for asymmetric models")


def _at_most(inputs: int) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if len(request["input"]) > inputs:
            raise RefusalError(
                400, "InvalidParameter", f"batch size is invalid, it should not be larger than {inputs}"
            )

    return check


# -- the answer -------------------------------------------------------------------------------------------------


def _omits_index_zero(answer: Answer, _: Request) -> None:
    for item in answer["data"]:
        if item["index"] == 0:
            del item["index"]


def _omits_index(answer: Answer, _: Request) -> None:
    for item in answer["data"]:
        del item["index"]


def _one_vector_per_request(answer: Answer, _: Request) -> None:
    del answer["data"][1:]


def _empty_for_base64(answer: Answer, request: Request) -> None:
    if request.get("encoding_format") == "base64":
        answer["data"] = []


def _not_normalized(answer: Answer, _: Request) -> None:
    for item in answer["data"]:
        item["embedding"] = [2 * number for number in item["embedding"]]


def _null_usage(answer: Answer, _: Request) -> None:
    answer["usage"] = None


def _no_usage(answer: Answer, _: Request) -> None:
    del answer["usage"]


def _zero_usage(answer: Answer, _: Request) -> None:
    answer["usage"] = {"prompt_tokens": 0, "total_tokens": 0}


def _prompt_tokens_only(answer: Answer, _: Request) -> None:
    del answer["usage"]["total_tokens"]


ACCEPTS: dict[str, Callable[[Request], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        *(_refuses_base64, _refuses_float, _refuses_encoding, _ignores_encoding),
        *(_refuses_dimensions, _ignores_dimensions, _wants_output_dimension, _needs_input_type),
    )
}
CHANGES: dict[str, Callable[[Answer, Request], None]] = {
    function.__name__.lstrip("_"): function
    for function in (
        *(_omits_index_zero, _omits_index, _one_vector_per_request, _empty_for_base64, _not_normalized),
        *(_null_usage, _no_usage, _zero_usage, _prompt_tokens_only),
    )
}
ENCODES: dict[str, tuple[Callable[[bytes], bytes], dict[str, str]]] = {
    "gzip": (gzip.compress, {"Content-Encoding": "gzip"}),
    "byte_order_mark": (lambda payload: b"\xef\xbb\xbf" + payload, {}),
}


def accepts(quirk: str) -> Callable[[Request], None] | None:
    if match := re.fullmatch(r"at_most_(\d+)_inputs", quirk):
        return _at_most(int(match[1]))
    return ACCEPTS.get(quirk)


def check_quirks(quirks: Sequence[str]) -> None:
    """Raises ValueError if there is no such quirk."""
    for quirk in quirks:
        if accepts(quirk) is None and quirk not in CHANGES and quirk not in ENCODES:
            raise ValueError(f"no such quirk: {quirk}")


def adapt(request: Request, quirks: Sequence[str]) -> None:
    """Turns an endpoint's own form of a request into OpenAI's. Raises RefusalError if the endpoint rejects it."""
    for quirk in quirks:
        if (change := accepts(quirk)) is not None:
            change(request)


def distort(answer: Answer, request: Request, quirks: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """Returns the body and further headers of an endpoint's own form of OpenAI's answer."""
    headers: dict[str, str] = {}
    for quirk in quirks:
        if quirk in CHANGES:
            CHANGES[quirk](answer, request)
    payload = json.dumps(answer).encode()
    for quirk in quirks:
        if quirk in ENCODES:
            encode, more = ENCODES[quirk]
            payload, headers = encode(payload), headers | more
    return payload, headers
