"""A spec: everything besides the text that decides a vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pgvector_sync.model.options import Options
from pgvector_sync.model.provider import OPENAI

_WITHOUT_PROMPTS = {OPENAI, "cohere", "voyage", "gemini"}
"""The dialects that put nothing before a text by themselves."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a call of a provider needs besides the texts. A change of any field makes every vector stale."""

    model: str
    dimensions: int
    chunking: str | None = None
    prefix: str | None = None
    """Put before every text. None: the model's own default."""
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further parameters of the request."""
    dialect: str = OPENAI
    """How the provider is called. A dialect may treat documents in a way of its own, so another one may give other
    vectors. The provider's address isn't part of a spec: the same model gives the same vectors elsewhere."""

    @classmethod
    def of_documents(cls, options: Options, *, chunking: str | None = None) -> Self:
        """Returns the spec of a pipeline's vectors."""
        document = options.document
        return cls(options.model, options.dimensions, chunking, document.prefix, document.body, options.dialect)

    @classmethod
    def of_queries(cls, options: Options) -> Self:
        """Returns the spec for queries, whose vectors are compared with the documents'."""
        model = options.query.model or options.model
        return cls(model, options.dimensions, None, options.query.prefix, options.query.body, options.dialect)

    @property
    def digest(self) -> bytes:
        """The 32 bytes before the text in every fingerprint. Their fixed length keeps spec and text apart."""
        fields = {
            "body": self.body,
            "chunking": self.chunking,
            "dialect": self.dialect,
            "dimensions": self.dimensions,
            "model": self.model,
            # without a default, writing `prefix = ""` into the file changes no vector
            "prefix": self.prefix or None if self.dialect in _WITHOUT_PROMPTS else self.prefix,
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()
