"""The garbage collector of a process that is ours alone: the worker's, its children's, and that of `sync`.

Celery, the HTTP client and the SDK are 150,000 objects that live as long as the process. Every full collection
looks at all of them, which takes a tenth of a second: after each batch of long texts, for example.

An application that runs our tasks in its own process decides about its collector itself.
"""

from __future__ import annotations

import gc
from functools import cache


@cache
def spare_what_is_loaded() -> None:
    """Exempt all present objects from collections: before a fork, or once all is loaded. Only one call counts."""
    gc.freeze()
