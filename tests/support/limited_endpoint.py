"""Endpoints with limits that they don't announce: of inputs, of tokens, of a quota, and of one processor."""

from __future__ import annotations

import threading
import time
from typing import Any

from support.endpoint import Endpoint, Fault, tokens_of


class LimitedEndpoint(Endpoint):
    """Refuses requests with too many inputs or tokens: with status 429 like one whose quota they exceed."""

    def __init__(
        self,
        *,
        max_inputs: int | None = None,
        max_request_tokens: int | None = None,
        status: int = 422,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.max_inputs, self.max_request_tokens, self.status = max_inputs, max_request_tokens, status
        self.rejected = 0
        """The number of requests that were too large."""

    def take_fault(self, texts: list[str]) -> Fault | None:
        if self.is_too_large(texts):
            with self.lock:
                self.rejected += 1
            return Fault(status=self.status)
        return super().take_fault(texts)

    def is_too_large(self, texts: list[str]) -> bool:
        too_many = self.max_inputs is not None and len(texts) > self.max_inputs
        tokens = sum(map(tokens_of, texts))
        return too_many or (self.max_request_tokens is not None and tokens > self.max_request_tokens)


class SerialEndpoint(Endpoint):
    """Computes one request after the other, at some seconds per text, even if its client has hung up."""

    def __init__(self, *, seconds_per_text: float, **more: Any) -> None:
        super().__init__(**more)
        self.seconds_per_text = seconds_per_text
        self.computed = 0
        """The number of texts whose vectors were computed."""
        self._processor = threading.Lock()

    def take_fault(self, texts: list[str]) -> Fault | None:
        with self._processor:
            time.sleep(self.seconds_per_text * len(texts))
            self.computed += len(texts)
        return super().take_fault(texts)
