"""An HTTP client for endpoints that may be hostile: bounded in time and bytes, and without extra headers."""

from __future__ import annotations

import zlib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx2

from pgvector_sync.embedding import request_id
from pgvector_sync.embedding.network.bounded_network import BoundedNetwork, BoundedStream
from pgvector_sync.embedding.network.bounds import ERROR_BYTES, FIXED_BYTES, current
from pgvector_sync.errors import BrokenContract

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from pgvector_sync.embedding.network.proxies import Proxy

_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
"""The headers that an endpoint needs. The others that the SDK sends describe this machine, or are for OpenAI."""
_KEPT = ("retry-after", "retry-after-ms", *request_id.HEADERS)
"""The headers kept of an answer. Others would be interpreted: a charset can name any codec, even a
decompressor."""
_ZLIB = {"gzip", "x-gzip", "deflate"}


class BoundedClient(httpx2.Client):
    """Makes requests within the limits of `bounds.bounded`.

    It follows no redirects and keeps no cookies: configuration alone decides where texts and keys are sent.
    """

    def __init__(
        self,
        *,
        credentials: Mapping[str, str],
        headers: Mapping[str, str],
        trust_env: bool,
        sdk_headers: bool,
        trust: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """`credentials` are the headers with the key, `headers` those of the provider's section; all names are in
        lower case. `trust` and `proxy` replace those of the environment.

        With `sdk_headers`, the endpoint gets all headers of the openai SDK. Some of them (organization, project
        and custom ones) come from the environment and are for OpenAI alone.
        """
        super().__init__(
            verify=True if trust is None else trust,
            proxy=None if proxy is None else httpx2.Proxy(proxy.url, auth=proxy.login),
            follow_redirects=False,
            trust_env=trust_env,
            headers={"Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._credentials = credentials
        self._declared = headers
        self._sdk_headers = sdk_headers
        # The client has no argument for the network backend. If these attributes are renamed, this line fails.
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.HTTPTransport):
                pool: Any = transport._pool  # noqa: SLF001
                pool._network_backend = BoundedNetwork(pool._network_backend)  # noqa: SLF001

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request and read the whole answer.

        Raises BrokenContract if it is longer than the call's bounds allow.
        """
        del stream
        response = super().send(self._rewritten(request), stream=True, **options)
        try:
            body = _error_body(response) if response.status_code >= 300 else _answer(response)
        finally:
            response.close()
        _reject_early_answer(response)
        headers = {name: value for name in _KEPT if (value := response.headers.get(name, "")).isascii() and value}
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)

    def _rewritten(self, request: httpx2.Request) -> httpx2.Request:
        """Return a copy with the headers the endpoint may see.

        The SDK reads the original's headers again afterwards.
        """
        headers = dict(request.headers)
        if not self._sdk_headers:
            headers = {name: value for name, value in headers.items() if name in _HEADERS}
            headers |= self._credentials
        elif not self._credentials:
            headers.pop("authorization", None)
        headers |= self._declared
        return httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )


def _reject_early_answer(response: httpx2.Response) -> None:
    """Raise RemoteProtocolError if the answer arrived before its request was sent.

    It belongs to another request, as would all later answers on this connection.
    """
    stream = response.extensions.get("network_stream")
    if isinstance(stream, BoundedStream) and not stream.heard:
        stream.close()
        raise httpx2.RemoteProtocolError("an answer arrived before its request")


def _answer(response: httpx2.Response) -> bytes:
    bounds = current()
    return _body(response, bounds.answer_bytes if bounds else FIXED_BYTES)


def _error_body(response: httpx2.Response) -> bytes:
    """Return the body, or nothing if it is too long to be useful: the status alone decides what happens."""
    try:
        return _body(response, ERROR_BYTES)
    except BrokenContract:
        return b""


def _body(response: httpx2.Response, limit: int) -> bytes:
    """Return the decompressed body. Raises BrokenContract as soon as it exceeds `limit` bytes."""
    body = BytesIO()  # not a list: a piece may be a single byte
    for piece in _decompressed(response, limit):
        body.write(piece)
    return body.getvalue()  # doesn't copy, unlike bytes() of a bytearray


def _decompressed(response: httpx2.Response, limit: int) -> Iterator[bytes]:
    """Yield the decompressed pieces of the body. Raises BrokenContract once they exceed `limit` bytes.

    Some endpoints compress although identity was requested. zlib decompresses no more at a time than it is told
    to.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", *_ZLIB}:
        raise BrokenContract(
            "the answer has an unsupported content encoding",
            code="compressed",
            hint="disable compression at the endpoint, or in the proxy in front of it",
        )
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding in _ZLIB else None  # 32: zlib or gzip header
    received, room = 0, limit
    for piece in response.iter_raw():
        received += len(piece)
        try:
            content = piece if inflate is None else inflate.decompress(piece, room + 1)
        except zlib.error:
            raise BrokenContract("the answer can't be decompressed", code="malformed") from None
        room -= len(content)
        if received > limit or room < 0:
            raise BrokenContract(
                "the answer is longer than the requested vectors can be",
                code="oversized",
                hint="check the pipeline's `dimensions`, and that base_url is an embeddings API",
            )
        yield content
