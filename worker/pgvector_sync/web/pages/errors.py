"""The page of an error."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response


def error_page(status: int, title: str, text: str, hint: str | None) -> Response:
    """Return a page that says what is wrong, and what to do."""
    lines = [title, "", text, *([f"→ {hint}"] if hint else [])]
    return PlainTextResponse("\n".join(lines) + "\n", status_code=status)
