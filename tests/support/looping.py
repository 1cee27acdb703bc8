"""The loop of `sync` in a background thread, for tests whose own thread waits for what it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pgvector_sync.engine.loop import Loop


@contextmanager
def running(loop: Loop) -> Iterator[None]:
    """The loop runs in a thread until the block ends."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: loop.run(finished=over.is_set))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
