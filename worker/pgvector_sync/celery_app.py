"""The Celery app, for `celery -A pgvector_sync.celery_app worker` and `beat`.

To run its tasks in an app of your own, see `pgvector_sync.register`.
"""

from __future__ import annotations

from pgvector_sync.dispatch.app import app

__all__ = ["app"]
