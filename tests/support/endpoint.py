"""A strict OpenAI-compatible embeddings endpoint, whose vectors show which text they were made from.

    with Endpoint(latency=0.3) as endpoint: ...                  runs in a thread; `endpoint.fail(...)` breaks it
    python tests/support/endpoint.py --port 0 --latency-ms 300   runs as a process; prints one JSON line when listening

It rejects what OpenAI's endpoint rejects, so a test can't pass with a request that would fail in production.
`POST /_control` takes the arguments of `fail` as JSON, and `latency_ms` or `"heal": true`; `GET /_calls` returns
`Calls.totals`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

if __name__ == "__main__":  # run as a script, whose folder is on the path instead of tests/
    sys.path[0] = str(Path(__file__).parents[1])

from support import canaries
from support.endpoint_contract import Fault, Limit, check_request, make_answer, tokens_of, vector_of
from support.endpoint_quirks import RefusalError, check_quirks, distort

__all__ = ["Calls", "Endpoint", "Fault", "Limit", "deaf_address", "self_signed", "tokens_of", "vector_of"]


@dataclass
class Calls:
    """The requests received, in order of arrival."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    """Requests rejected by `Endpoint.limit`; their inputs and tokens aren't counted."""
    inputs: int = 0
    tokens: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Each request's parameters, without its input."""
    sha256: list[str] = field(default_factory=list)
    """The hexadecimal SHA-256 of every input."""
    bought: list[str] = field(default_factory=list)
    """The SHA-256 of every input that a provider would bill: those of requests that weren't rejected at once."""
    request_ids: list[str] = field(default_factory=list)
    """The id in the header of every answer."""
    texts: list[str] = field(default_factory=list)
    """The beginning of every input."""

    @property
    def most_per_text(self) -> int:
        """The highest number of times that any one text was sent."""
        return max(Counter(self.sha256).values(), default=0)

    @property
    def totals(self) -> dict[str, int]:
        names = ("requests", "answered", "inputs", "tokens", "most_per_text")
        return {name: getattr(self, name) for name in names}


ALLOWED_HOSTS = "http://127.0.0.1=TEST_KEY"
ENVIRONMENT = {"TEST_KEY": "test-key", "PGVECTOR_SYNC_ALLOWED_HOSTS": ALLOWED_HOSTS}
"""The environment of a worker that may call any endpoint of this file, with the key that all of them accept."""


POLL = 0.05


class Endpoint:
    """Listens from construction until `close` or the end of the `with` block. Other threads may control it meanwhile."""

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = "test-key",
        latency: float = 0.0,
        certificate: Path | None = None,
    ) -> None:
        """`api_key` None rejects requests that have a key; `latency` is in seconds; `certificate`, a PEM file with key and
        certificate, makes it serve https.
        """
        self.api_key = api_key
        self.latency = latency
        self.calls = Calls()
        self.faults: list[Fault] = []
        self.limit: Limit | None = None
        """Requests beyond it are answered with 429 and Retry-After."""
        self.quirks: tuple[str, ...] = ()
        """How it differs from OpenAI's endpoint; set by `behave`."""
        self.lock = threading.Lock()
        self.healed = threading.Event()
        self._at_first = api_key, latency
        self._server = _Server(self, port)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        self.root = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self.base_url = f"{self.root}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fail(self, kind: str = "status", **how: Any) -> None:
        """Adds a fault, which applies from now on. If several match a request, the one added first applies."""
        with self.lock:
            self.healed.clear()
            self.faults.append(Fault(kind, **how))

    def heal(self) -> None:
        """Removes all faults, and releases requests that hang."""
        with self.lock:
            self.faults.clear()
            self.healed.set()

    def reset(self) -> None:
        """Restores the initial state: counters, faults, quirks, limit, key and latency."""
        self.heal()
        with self.lock:
            self.api_key, self.latency = self._at_first
            self.limit, self.calls, self._server.longest_stall = None, Calls(), 0.0
            self.quirks = ()

    def __str__(self) -> str:
        """State for the output of a failed test. A stall of seconds means that the machine was paused or overloaded."""
        return (
            f"endpoint {self.root}: {self.calls.totals}, faults {self.faults}, limit {self.limit}, "
            f"latency {self.latency:g} s, longest stall {self._server.longest_stall:.1f} s"
        )

    def behave(self, *quirks: str) -> None:
        """Replaces its quirks by these, see `endpoint_quirks`."""
        check_quirks(quirks)
        self.quirks = quirks

    def take_fault(self, texts: list[str]) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times == 0 or (fault.marker and not any(fault.marker in text for text in texts)):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def over_limit(self, texts: list[str]) -> float | None:
        """Counts a request and returns None, or rejects it and returns the seconds until it would pass."""
        with self.lock:
            if self.limit is None:
                return None
            wait = self.limit.refusal(sum(map(tokens_of, texts)), time.monotonic())
            self.calls.refused += wait is not None
            return wait

    def close(self) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, endpoint: Endpoint, port: int) -> None:
        self.endpoint = endpoint
        self.longest_stall = 0.0
        """The longest time in seconds between two turns of the loop that accepts connections; POLL of it is sleep."""
        self._turned = time.monotonic()
        super().__init__(("127.0.0.1", port), _Handler)

    def service_actions(self) -> None:
        before, self._turned = self._turned, time.monotonic()
        self.longest_stall = max(self.longest_stall, self._turned - before)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that hang up or reject our certificate, since tests cause both on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/_calls":
            self._send_json(200, self.server.endpoint.calls.totals)
        else:
            self._send_error(404, "not_found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/_control":
            self._control(json.loads(body))
        elif self.path == "/v1/embeddings":
            self._embeddings(body)
        else:
            self._send_error(404, "not_found")

    def _control(self, what: dict[str, Any]) -> None:
        endpoint = self.server.endpoint
        if "latency_ms" in what:
            endpoint.latency = what.pop("latency_ms") / 1000
        if what.pop("heal", False):
            endpoint.heal()
        if what:
            endpoint.fail(**what)
        self._send_json(200, {})

    def _embeddings(self, body: bytes) -> None:
        endpoint = self.server.endpoint
        started = time.monotonic()
        try:
            with endpoint.lock:
                endpoint.calls.requests += 1
            authorization = self.headers.get("Authorization", "")
            request = check_request(body, authorization, endpoint.api_key, endpoint.quirks)
        except RefusalError as refusal:
            self._send_error(refusal.status, refusal.code, str(refusal))
            return
        texts = request.pop("input")
        if (wait := endpoint.over_limit(texts)) is not None:
            seconds = str(math.ceil(wait))
            self._send_error(429, "rate_limit_exceeded", headers={"Retry-After": seconds})
            return
        with endpoint.lock:
            endpoint.calls.bodies.append(request)
            endpoint.calls.inputs += len(texts)
            endpoint.calls.texts += [text[: canaries.LONGEST] for text in texts]
            endpoint.calls.tokens += sum(map(tokens_of, texts))
            endpoint.calls.sha256 += [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        fault = endpoint.take_fault(texts)
        if fault is not None and self._fails_at_once(fault, texts):
            return
        with endpoint.lock:
            endpoint.calls.bought += [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        payload, headers = distort(make_answer(texts, request, fault), request, endpoint.quirks)
        time.sleep(max(0.0, endpoint.latency - (time.monotonic() - started)))
        self._send_answer(payload, fault, {"Content-Type": "application/json", **headers})

    def _fails_at_once(self, fault: Fault, texts: list[str]) -> bool:
        if fault.kind == "status":
            words = (
                f"{canaries.ECHO}: {texts[:20]} with {self.headers.get('Authorization')}"  # some quote all of it
            )
            self._send_error(fault.status, fault.code, words, headers=fault.headers, body=fault.body)
        elif fault.kind == "redirect":
            self._send(307, b"", {"Location": "/v1/embeddings"})
        elif fault.kind == "html":
            self._send(200, b"<!doctype html><title>Welcome</title>", {"Content-Type": "text/html"})
        elif fault.kind == "error_with_200":
            self._send_error(
                200, None, body='{"error": {"code": "no_provider_available", "message": "try later"}}'
            )
        elif fault.kind == "reset":
            self._reset()
        elif fault.kind == "hang":
            self.server.endpoint.healed.wait(fault.seconds)
            self._reset()
        else:
            return False
        return True

    def _send_answer(self, payload: bytes, fault: Fault | None, headers: dict[str, str]) -> None:
        kind = fault.kind if fault else None
        if fault and kind == "drip":
            self._send_head(200, len(payload), headers)
            for byte in payload:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(fault.seconds / len(payload))
        elif kind == "reset_mid_body":
            self._send_head(200, len(payload), headers)
            self.wfile.write(payload[: len(payload) // 2])
            self.wfile.flush()
            self._reset()
        elif kind == "truncated":
            self._send(200, payload[: len(payload) // 2], headers)
        else:
            self._send(200, payload, headers)
        with self.server.endpoint.lock:
            self.server.endpoint.calls.answered += 1

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _send_error(
        self,
        status: int,
        code: str | None,
        message: str = "",
        *,
        headers: dict[str, str] | None = None,
        body: str | None = None,
    ) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        payload = json.dumps({"error": error}) if body is None else body
        self._send(status, payload.encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send_json(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, payload: bytes, headers: dict[str, str]) -> None:
        self._send_head(status, len(payload), headers)
        self.wfile.write(payload)

    def _send_head(self, status: int, length: int, headers: dict[str, str]) -> None:
        headers = {"x-request-id": f"req_{uuid4().hex}", **headers}
        with self.server.endpoint.lock:
            self.server.endpoint.calls.request_ids.append(headers["x-request-id"])
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


@contextmanager
def deaf_address() -> Iterator[str]:
    """A base URL whose host answers no packet, like one behind a firewall: its queue of connections is full."""
    with ExitStack() as sockets:
        deaf = sockets.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"


def self_signed(folder: Path) -> Path:
    """Creates a PEM file with key and certificate for localhost, signed by no authority."""
    pem, certificate = folder / "endpoint.pem", folder / "certificate.pem"
    subject = ("-days", "1", "-subj", "/CN=localhost", "-keyout", pem, "-out", certificate)
    kind = ("-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    subprocess.run(["openssl", "req", *kind, *subject], check=True, capture_output=True)
    pem.write_text(pem.read_text() + certificate.read_text())
    return pem


def main() -> None:
    parser = argparse.ArgumentParser(description="A strict OpenAI-compatible embeddings endpoint.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--api-key", default="test-key")
    options = parser.parse_args()
    endpoint = Endpoint(port=options.port, api_key=options.api_key, latency=options.latency_ms / 1000)
    print(
        json.dumps({"base_url": endpoint.base_url, "api_key": endpoint.api_key, "pid": os.getpid()}),
        flush=True,
    )
    try:
        endpoint.wait()
    except KeyboardInterrupt:
        endpoint.close()


if __name__ == "__main__":
    main()
