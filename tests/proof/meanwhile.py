"""Runs an action in the middle of one of our transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pgvector_sync.capture import triggers
from pgvector_sync.store import pipelines, rows, runs
from pgvector_sync.store.work import Holding

STEPS: dict[str, tuple[Any, str]] = {
    "hold": (pipelines, "hold"),
    "lock": (Holding, "lock"),
    "look": (rows, "look"),
    "write": (rows, "write"),
    "ack": (Holding, "ack"),
    "enqueue": (runs, "enqueue"),
    "install": (triggers, "install"),
}
"""Functions of the protocol that take one step inside an open transaction."""


@contextmanager
def before(step: str, action: Callable[[], object]) -> Iterator[None]:
    """Calls `action` once, right before the step, while the step's transaction is open."""
    owner, name = STEPS[step]
    original = getattr(owner, name)
    waiting = [action]

    def stepping(*args: Any, **kwargs: Any) -> Any:
        if waiting:
            waiting.pop()()
        return original(*args, **kwargs)

    setattr(owner, name, stepping)
    try:
        yield
        assert not waiting, f"the protocol never reached the step {step}"
    finally:
        setattr(owner, name, original)
