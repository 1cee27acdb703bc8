"""The status page: rendered on the server, read-only, without a build step."""

from __future__ import annotations

from pgvector_sync.web.pages.views import routes

__all__ = ["routes"]
