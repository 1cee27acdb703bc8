"""An HTTP client for endpoints that may be hostile: bounded in time and bytes, silent about its environment."""

from __future__ import annotations

import zlib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import httpx2

from pgvector_sync.embedding.bounded_network import BoundedNetwork, BoundedStream
from pgvector_sync.embedding.bounds import ERROR_BYTES, FIXED_BYTES, current
from pgvector_sync.errors import BrokenContract

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
"""What an endpoint needs. All else that the SDK sends describes us, or is for OpenAI."""
_KEPT = ("retry-after", "retry-after-ms")
"""Of an answer's headers. Others would be interpreted: a charset names any codec, decompressors among them."""
_ZLIB = {"gzip", "x-gzip", "deflate"}


class BoundedClient(httpx2.Client):
    """Makes requests inside `bounds.bounded`.

    Follows no redirects and keeps no cookies: where texts and keys go is decided by configuration alone.
    """

    def __init__(self, *, key: str | None, trust_env: bool, sdk_headers: bool) -> None:
        """`sdk_headers`: the endpoint gets all headers of the openai SDK, some of which (organization, project and
        custom ones) come from the environment and are for OpenAI alone.
        """
        super().__init__(
            follow_redirects=False,
            trust_env=trust_env,
            headers={"Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._key = key
        self._sdk_headers = sdk_headers
        # No argument of the client leads to the network below its connections. Renamed, these fail here, loudly.
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.HTTPTransport):
                pool: Any = transport._pool  # noqa: SLF001
                pool._network_backend = BoundedNetwork(pool._network_backend)  # noqa: SLF001

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """The answer, read as a whole. Raises BrokenContract where it is longer than the call's bounds allow."""
        del stream
        response = super().send(self._told(request), stream=True, **options)
        try:
            body = _error_body(response) if response.status_code >= 300 else _answer(response)
        finally:
            response.close()
        _refuse_early(response)
        headers = {name: value for name in _KEPT if (value := response.headers.get(name, "")).isascii() and value}
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)

    def _told(self, request: httpx2.Request) -> httpx2.Request:
        """The request as the endpoint sees it. Not the SDK's own, whose headers the SDK reads again afterwards."""
        headers = dict(request.headers)
        if not self._sdk_headers:
            headers = {name: value for name, value in headers.items() if name in _HEADERS}
            if self._key is not None:
                headers["authorization"] = f"Bearer {self._key}"
        elif self._key is None:
            headers.pop("authorization", None)
        return httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )


def _refuse_early(response: httpx2.Response) -> None:
    """Raises RemoteProtocolError for an answer that had come before its request was sent, behind the one before:
    it is another request's, and so would be the next ones on this connection.
    """
    stream = response.extensions.get("network_stream")
    if isinstance(stream, BoundedStream) and not stream.heard:
        stream.close()
        raise httpx2.RemoteProtocolError("an answer that nothing was asked for")


def _answer(response: httpx2.Response) -> bytes:
    bounds = current()
    return _body(response, bounds.answer_bytes if bounds else FIXED_BYTES)


def _error_body(response: httpx2.Response) -> bytes:
    """Empty where it isn't worth reading: the status alone decides what happens."""
    try:
        return _body(response, ERROR_BYTES)
    except BrokenContract:
        return b""


def _body(response: httpx2.Response, most: int) -> bytes:
    """The body, unpacked. Raises BrokenContract as soon as it is longer than `most`."""
    body = bytearray()  # not a list: a piece may be a single byte
    for piece in _unpacked(response, most):
        body += piece
    return bytes(body)


def _unpacked(response: httpx2.Response, most: int) -> Iterator[bytes]:
    """The body's pieces. Raises BrokenContract once they are longer than `most`.

    Some endpoints compress though identity was asked for. zlib unpacks no more than it is told to at a time.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", *_ZLIB}:
        raise BrokenContract(
            "the answer is compressed in a way that was not asked for",
            code="compressed",
            hint="switch compression off at the endpoint, or in the proxy before it",
        )
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding in _ZLIB else None  # 32: either header
    received, room = 0, most
    for piece in response.iter_raw():
        received += len(piece)
        try:
            some = piece if unpack is None else unpack.decompress(piece, room + 1)
        except zlib.error:
            raise BrokenContract("the answer's compression is broken", code="malformed") from None
        room -= len(some)
        if received > most or room < 0:
            raise BrokenContract(
                "the answer is longer than the vectors that were asked for can be",
                code="oversized",
                hint="check the pipeline's `dimensions`, and that base_url is an embeddings API",
            )
        yield some
