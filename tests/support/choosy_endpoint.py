"""An embeddings endpoint with the habits and limits of servers other than OpenAI's.

Its vectors are made from the words that it reads, so that a text and the same text cut off have the same vector.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from support.endpoint import vector_of


@dataclass
class Habits:
    """What the endpoint does differently. The defaults are those of an endpoint without a limit."""

    dimensions: int = 64
    """The size of its vectors if no other is requested."""
    encodings: tuple[str, ...] = ("base64", "float", "none")
    """The values of `encoding_format` that it accepts; `none` stands for a request without it."""
    parameter: str | None = "dimensions"
    """The parameter for the size of vectors."""
    ignores_unknown: bool = False
    """Whether it ignores parameters that it doesn't know, instead of rejecting them."""
    ignores_encoding: bool = False
    """Whether it answers with lists, whatever is requested."""
    max_inputs: int = 10_000
    refusal: int = 413
    """The status for too many inputs and too long a text."""
    window: int = 1_000_000
    """The number of words that it reads of one text."""
    truncates: bool = False
    """Whether it cuts longer texts off, instead of rejecting them."""
    one_vector: bool = False
    """Whether it answers a batch with the vector of its first text."""
    reverses: bool = False
    """Whether it answers a batch in the reverse order, with wrong indexes."""
    scale: float = 1.0
    """The length of its vectors."""
    noise: float = 0.0
    usage: bool = True
    serial: bool = False
    """Whether it computes one request after the other."""
    seconds_per_text: float = 0.0
    accepts_blank: bool = False
    rate_limited_after: int | None = None
    """The number of requests after which it answers 429."""
    fails_after: int | None = None
    """The number of requests after which it answers 503."""
    key: str = "test-key"


@dataclass
class Choosy:
    """The endpoint while it runs."""

    base_url: str
    habits: Habits
    bodies: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    computing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        return len(self.bodies)

    @property
    def texts(self) -> int:
        return sum(len(body["input"]) for body in self.bodies)

    def answer(self, key: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Returns status and body of the answer."""
        habits = self.habits
        with self.lock:
            self.bodies.append(body)
            number = len(self.bodies)
        if key != f"Bearer {habits.key}":
            return 401, error("invalid_api_key")
        if habits.rate_limited_after is not None and number > habits.rate_limited_after:
            return 429, error("slow_down")
        if habits.fails_after is not None and number > habits.fails_after:
            return 503, error("overloaded")
        if (refused := self._refused(body)) is not None:
            return refused
        if habits.serial:
            with self.computing:
                time.sleep(habits.seconds_per_text * len(body["input"]))
        else:
            time.sleep(habits.seconds_per_text * len(body["input"]))
        return 200, self._vectors(body)

    def _refused(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        habits, texts = self.habits, body["input"]
        known = {"input", "model", "encoding_format", habits.parameter}
        if not habits.ignores_unknown and set(body) - known:
            return 400, error("unknown_parameter")
        if body.get("encoding_format", "none") not in habits.encodings:
            return 400, error("unsupported_encoding")
        if not habits.accepts_blank and (not texts or not all(texts)):
            return 400, error("invalid_input")
        if len(texts) > habits.max_inputs:
            return habits.refusal, error("batch_too_large")
        if not habits.truncates and any(len(text.split()) > habits.window for text in texts):
            return habits.refusal, error("too_long")
        return None

    def _vectors(self, body: dict[str, Any]) -> dict[str, Any]:
        habits, texts = self.habits, body["input"]
        dimensions = (
            habits.dimensions if habits.parameter is None else body.get(habits.parameter, habits.dimensions)
        )
        vectors = [self._vector(text, dimensions) for text in texts]
        if habits.reverses:
            vectors.reverse()
        if habits.one_vector:
            vectors = vectors[:1]
        lists = habits.ignores_encoding or body.get("encoding_format") != "base64"
        data = [
            {
                "index": index,
                "embedding": vector.tolist() if lists else base64.b64encode(vector.tobytes()).decode(),
            }
            for index, vector in enumerate(vectors)
        ]
        answer: dict[str, Any] = {"data": data, "model": body["model"]}
        if habits.usage:
            answer["usage"] = {"total_tokens": sum(len(text.split()) for text in texts)}
        return answer

    def _vector(self, text: str, dimensions: int) -> np.ndarray[Any, Any]:
        words = text.split()[: self.habits.window]
        vector = vector_of(" ".join(words) or "nothing", dimensions) * self.habits.scale
        wobble = np.random.default_rng().standard_normal(dimensions) * self.habits.noise
        return (vector + wobble).astype("<f4")


def error(code: str) -> dict[str, Any]:
    return {"error": {"message": "a message that may quote the text", "type": None, "code": code}}


@contextmanager
def choosy_endpoint(**habits: Any) -> Iterator[Choosy]:
    """An endpoint with these habits."""
    endpoint = Choosy("", Habits(**habits))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = endpoint.answer(self.headers["Authorization"], body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "20")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Ignores clients that hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        endpoint.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
