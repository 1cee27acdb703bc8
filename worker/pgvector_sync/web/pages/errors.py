"""The page that is shown instead of one that can't be."""

from __future__ import annotations

from starlette.responses import Response

from pgvector_sync.web.pages.render import page


def error_page(status: int, title: str, text: str, hint: str | None, *, root: str = "") -> Response:
    """Return a page that says what is wrong and what to do next, with a link back to the pipelines.

    root: the path below which the pages are, if it isn't that of the server.
    """
    return page(None, "error.html", status, title=title, text=text, hint=hint, root=root)
