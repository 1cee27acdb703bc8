"""An endpoint that serves one provider's own API, as strictly as its public reference describes it.

    with NativeEndpoint(Cohere()) as endpoint: ...     `endpoint.fail(status, body)` breaks it

The APIs are in `native_apis`. A request that the provider would reject is rejected, so a test can't pass with one that
would fail in production.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "native-key-of-a-provider"


class RefusedError(Exception):
    """The API rejects a request."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass
class Exchange:
    """One request that was received."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: Any
    texts: list[str]
    status: int


class Api(ABC):
    """A provider's API."""

    dialect: str
    """Our name for it."""
    base: str
    """The path of the provider's address."""
    key = KEY
    """The key that it accepts."""

    @abstractmethod
    def check(self, path: str, headers: Mapping[str, str], body: Any) -> list[str]:
        """Returns the texts of a request. Raises RefusedError where the provider would reject it."""

    @abstractmethod
    def answer(self, texts: list[str], body: Any) -> Any:
        """Returns the answer to a request that was checked."""


@dataclass
class _Fault:
    status: int
    body: Any
    headers: Mapping[str, str]
    times: int | None
    marker: str | None


@dataclass
class NativeEndpoint:
    api: Api
    exchanges: list[Exchange] = field(default_factory=list)
    faults: list[_Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(self)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}{self.api.base}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def statuses(self) -> list[int]:
        return [exchange.status for exchange in self.exchanges]

    def fail(
        self,
        status: int,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        marker: str | None = None,
    ) -> None:
        """Answers requests (with a text that contains `marker`, if given) so from now on; `body` is sent as JSON."""
        with self._lock:
            self.faults.append(_Fault(status, body, headers or {}, times, marker))

    def respond(self, path: str, headers: dict[str, str], content: bytes) -> tuple[int, Any, Mapping[str, str]]:
        """Returns status, body and headers."""
        body = json.loads(content)
        texts: list[str] = []
        sent: Mapping[str, str] = {}
        try:
            with self._lock:
                texts = self.api.check(path, headers, body)
                fault = self._fault(texts)
            if fault is None:
                status, answer = 200, self.api.answer(texts, body)
            else:
                status, answer, sent = fault.status, fault.body, fault.headers
        except RefusedError as refusal:
            status, answer = refusal.status, refusal.body
        with self._lock:
            self.exchanges.append(Exchange(path, headers, body, texts, status))
        return status, answer, sent

    def _fault(self, texts: list[str]) -> _Fault | None:
        for fault in self.faults:
            if fault.times == 0 or (fault.marker and not any(fault.marker in text for text in texts)):
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, endpoint: NativeEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer, sent = self.server.endpoint.respond(self.path, headers, content)
        payload = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **sent}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
