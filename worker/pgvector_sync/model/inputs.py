"""How documents and queries are given to a model: many models expect a prefix or a parameter, which differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Input:
    """What is common to documents and queries."""

    prefix: str | None = None
    """Put before every text. None: the model's own default, which for most is none."""
    body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further parameters of the request. They take precedence over the provider's `extra_body`."""

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Self:
        """Reads what `written` returns. Missing options have their defaults."""
        return cls(**written)

    def written(self) -> dict[str, Any]:
        """Returns what differs from the defaults, as written in the file."""
        differing = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in differing.items() if value != getattr(type(self)(), name)}

    def __str__(self) -> str:
        shown = (f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in self.written().items())
        return ", ".join(shown) or "as it is"


@dataclass(frozen=True, slots=True)
class DocumentInput(Input):
    """How documents are embedded. To add an option to the section `document`, add a field."""


@dataclass(frozen=True, slots=True)
class QueryInput(Input):
    """How queries are embedded. To add an option to the section `query`, add a field."""

    model: str | None = None
    """The model for queries, whose vectors must be comparable to the documents'. None: the documents' model."""


DOCUMENT, QUERY = DocumentInput(), QueryInput()
"""The defaults."""
