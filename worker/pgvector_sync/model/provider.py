"""A provider: where texts are embedded, and what its requests look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from annotated_types import Ge

OPENAI = "openai"
"""The default dialect. It adds nothing to a text by itself."""
Count = Annotated[int, Ge(1)]


class Purpose(StrEnum):
    """Why a text is embedded. Many models treat documents and queries differently."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where and how texts are embedded. Contains no secret.

    To add an option, add a field here and a column of the same name in `pgvector_sync.provider`.
    """

    name: str
    base_url: str | None = None
    api_key_env: str | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_inputs: Count | None = None
    """The maximum number of texts per request. None, here and below: the limit known for the dialect."""
    max_request_tokens: Count | None = None
    max_input_tokens: Count | None = None
    dimensions_parameter: Literal["dimensions", "output_dimension", "none"] | None = None
    """The parameter with the vectors' size, or `none` to send none. None: what the endpoint is known to accept."""
    encoding: Literal["base64", "float", "none"] | None = None
    """The `encoding_format` of requests, or `none` to send none. None: what the endpoint is known to accept."""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Sent with each request, by name."""
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further parameters of each request."""
    ca_file: str | None = None
    """The path, on the worker's machine, of the PEM file with the certificate authorities to trust."""
    proxy: str | None = None
    """The URL of the HTTP proxy, without user and password."""
    dialect: str = OPENAI
    """The API that the provider speaks, see `embedding/dialects`."""
