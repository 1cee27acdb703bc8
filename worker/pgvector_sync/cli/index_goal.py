"""What `index advise` and `index rehearse` are asked for alike: options, and how they are read."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from pgvector_sync.cli.sizes import parse_bytes

RECALL_HELP = "The share of the nearest rows that searches must find. Default: the pipeline's."
LatencyMs = Annotated[
    float | None, typer.Option("--latency-ms", min=0.001, help="The time that a search may take in the database.")
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="What the index may take, such as 8GB. Default: effective_cache_size."),
]


def latency_of(latency_ms: float | None) -> timedelta | None:
    """Return the value of `--latency-ms`."""
    return None if latency_ms is None else timedelta(milliseconds=latency_ms)


def bytes_of(size: str | None, option: str = "--memory") -> int | None:
    """Return the value of an option for a size, such as `8GB`."""
    return None if size is None else parse_bytes(size, option)
