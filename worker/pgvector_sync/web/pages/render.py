"""How a page becomes a response: its template or its JSON twin. `web/gate.py` adds the headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from pgvector_sync.client.documents import write_document
from pgvector_sync.client.keys import show_key
from pgvector_sync.model.counted import counted
from pgvector_sync.telemetry.printable import printable
from pgvector_sync.web.pages import charts, words

FOLDER = Path(__file__).resolve().parent.parent


def _finalize(value: object) -> object:
    """Escape what could change the direction of writing or hide text, in everything that templates insert."""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_finalize,
)
ENVIRONMENT.globals |= {
    "commands": words.commands,
    "counted": counted,
    "STATES": words.STATES,
    "LOOKS": words.LOOKS,
    "LEVELS": words.LEVELS,
    "RUN_LOOKS": words.RUN_LOOKS,
    "bar": charts.bar,
    "sparkline": charts.sparkline,
    "lags": lambda lags: [(each.at, each.lag.total_seconds() if each.lag else 0.0) for each in lags],
    "drift": words.drifted,
}
ENVIRONMENT.filters |= {
    "duration": words.duration,
    "short": words.short,
    "rate": words.rate,
    "money": words.money,
    "size": words.size,
    "percent": words.percent,
    "number": lambda number: f"{number:,}",
    "key": lambda key: key if isinstance(key, str) else show_key(key),
    "time": lambda at: f"{at:%Y-%m-%d %H:%M:%S} UTC",
    "minute": lambda at: f"{at:%Y-%m-%d %H:%M}",
    "clock": lambda at: f"{at:%H:%M:%S}",
}


def page(request: Request | None, template: str, status: int = 200, **content: Any) -> Response:
    """Render a template. `request` is None for a page that is shown without one, such as an error."""
    root = content.pop("root", "") if request is None else request.scope.get("root_path", "")
    path = "" if request is None else request.url.path.removeprefix(root)
    html = ENVIRONMENT.get_template(template).render(root=root, path=path, **content)
    return Response(html, status, media_type="text/html")


def twin(content: Mapping[str, object]) -> Response:
    """Write a JSON document."""
    return Response(write_document(content) + "\n", media_type="application/json")
