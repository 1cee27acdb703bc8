"""The address of our own Celery app: `celery -A pgvector_sync.celery_app worker` and `beat`.

To serve our tasks with an app of your own, see `pgvector_sync.register`.
"""

from __future__ import annotations

from pgvector_sync.dispatch.app import app

__all__ = ["app"]
