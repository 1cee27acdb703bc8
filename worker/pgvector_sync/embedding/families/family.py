"""A family of models: what their authors recommend for documents and queries, and how models are recognized."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypedDict

INPUT_PARAMETERS = (
    "input_type",
    "task",
    "task_type",
    "tasktype",
    "text_type",
    "prompt",
    "prompt_name",
    "instruction",
    "instruct",
)
"""The parameters, in lower case, that say whether a text is a document or a query, in all APIs that are known."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """What is recommended for documents or for queries: a prefix or parameters. Neither: the text as it is."""

    prefix: str | None = None
    body: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __bool__(self) -> bool:
        return self.prefix is not None or bool(self.body)


AS_IT_IS = Recommended()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that expect documents and queries in the same form."""

    name: str
    models: tuple[str, ...]
    """Parts of the models' names, as `_simplified` writes them; `*` stands for anything."""
    hosts: tuple[str, ...] = ()
    """The hosts for which it applies. Empty: everywhere."""
    document: Recommended = AS_IT_IS
    query: Recommended = AS_IT_IS
    window: int | None = None
    """The maximum number of tokens of an input. None: it differs or isn't known."""
    dialect: str | None = None
    """The dialect that gives these models what they expect, so that the file needs nothing."""
    source: str
    """The page with the recommendation."""

    def has(self, model: str, host: str | None) -> bool:
        """Return whether a model at a host is one of them."""
        name = _simplified(model)
        named = any(fnmatchcase(name, f"*-{part}-*") for part in self.models)
        return named and (not self.hosts or host in self.hosts)


class Inputs(TypedDict):
    """The arguments of `Family` that say what is recommended."""

    document: Recommended
    query: Recommended


def prefixes(document: str | None, query: str | None) -> Inputs:
    """Recommend these prefixes."""
    return {"document": Recommended(prefix=document), "query": Recommended(prefix=query)}


def parameters(name: str, document: str, query: str) -> Inputs:
    """Recommend a parameter with these values."""
    return {"document": Recommended(body={name: document}), "query": Recommended(body={name: query})}


def _simplified(model: str) -> str:
    """Return a model's name without organization, registry and folder, in lower case and between hyphens.

    `hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0` becomes `-nomic-embed-text-v1.5-gguf-q8-0-`.
    """
    folder = re.sub(r"(/onnx)?/[^/]*\.onnx$", "", model.strip().lower())  # files are called `model.onnx`
    name = folder.rstrip("/").rpartition("/")[2]
    name = re.sub(r"\.(?!\d)|(?<!\d)\.", "-", name)  # every dot that isn't one of a version
    return f"-{re.sub(r'[^a-z0-9.]+', '-', name).strip('-')}-"
