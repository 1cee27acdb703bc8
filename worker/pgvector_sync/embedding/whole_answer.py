"""An HTTP client whose read timeout holds for the whole answer.

httpx counts its timeout anew with every chunk, so an endpoint that drips (some send blanks to keep a
connection alive) could hold a worker far beyond its lease.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator


class WholeAnswerClient(httpx2.Client):
    """Follows no redirects: a texts' and keys' destination is decided by configuration alone."""

    def __init__(self, *, trust_env: bool) -> None:
        super().__init__(follow_redirects=False, trust_env=trust_env)

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        limit: float = request.extensions["timeout"]["read"]
        end = time.monotonic() + limit
        response = super().send(request, stream=True, **options)
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Until(response.stream, end)
        if not stream:
            try:
                response.read()
            finally:
                response.close()
        return response


class _Until(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, end: float) -> None:
        self._stream = stream
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._end:
                raise httpx2.ReadTimeout("the answer took too long as a whole")
            yield chunk

    def close(self) -> None:
        self._stream.close()
