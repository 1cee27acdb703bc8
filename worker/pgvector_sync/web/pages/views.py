"""The pages, each with its JSON twin at the same path with `.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from pgvector_sync.client.documents import fields_of
from pgvector_sync.database import Database
from pgvector_sync.model import State
from pgvector_sync.observe import todo
from pgvector_sync.observe.detail import Detail, read_detail, read_runs
from pgvector_sync.observe.overview import DAY, read_overview
from pgvector_sync.observe.status import read_status, read_workers
from pgvector_sync.settings import Settings
from pgvector_sync.store import dead_letters, overview, pipelines
from pgvector_sync.store.history import Sample
from pgvector_sync.web.pages import charts, words
from pgvector_sync.web.pages.render import FOLDER, page, twin

MAX_TODO = 12
"""The findings that the overview lists. The pipelines of further ones are at the top of its table."""
MAX_RUNS = 50
MAX_LETTERS = 200
RANGES = {"1": "1 hour", "24": "24 hours", "168": "7 days"}
Content = Mapping[str, Any]
Read = Callable[[Request], Content]


@dataclass(frozen=True)
class Pages:
    """The content of each page."""

    database: Database
    settings: Settings

    def pipelines(self, request: Request) -> Content:
        search, state = request.query_params.get("q", "").strip(), request.query_params.get("state", "")
        state = state if state in set(State) else ""
        found = read_overview(
            self.database, self.settings, search=search, state=state, page=_number(request, "page")
        )
        return {"overview": found, "search": search, "state": state, "max_todo": MAX_TODO, "day": DAY}

    def pipeline(self, request: Request) -> Content:
        hours = request.query_params.get("hours", "24")
        hours = hours if hours in RANGES else "24"
        since = timedelta(hours=int(hours))
        detail = read_detail(self.database, self.settings, request.path_params["name"], since=since)
        return {"detail": detail, "hours": hours, "ranges": RANGES, "since": since}

    def runs(self, request: Request) -> Content:
        name = request.query_params.get("pipeline") or None
        at, listed = read_runs(self.database, name, limit=MAX_RUNS)
        return {"at": at, "runs": listed, "name": name, "limit": MAX_RUNS}

    def dead_letters(self, request: Request) -> Content:
        name = request.query_params.get("pipeline") or None
        with self.database.transaction(read_only=True) as connection:
            if name is not None:
                pipelines.require_pipeline(connection, name)
            letters = dead_letters.dead_letters(connection, name, limit=MAX_LETTERS)
            return {"at": overview.now(connection), "letters": letters, "name": name, "limit": MAX_LETTERS}

    def workers(self, request: Request) -> Content:  # noqa: ARG002  as all pages
        with self.database.transaction(read_only=True) as connection:
            at, listed = overview.now(connection), overview.workers(connection)
        running, statuses = read_workers(self.database), read_status(self.database)
        found = todo.of_workers(running, statuses, redis=self.settings.redis_url is not None)
        return {"at": at, "workers": running, "listed": listed, "todo": found}


def routes(database: Database, settings: Settings) -> list[BaseRoute]:
    """Return the routes of all pages, of their JSON twins and of `/static`."""
    pages = Pages(database, settings)
    return [
        Route("/", _home, name="home"),
        # the twins come first: a name in a path may contain any character
        *_page("/pipelines", pages.pipelines, "pipelines.html", _overview_document),
        *_page("/pipelines/{name}", pages.pipeline, "pipeline.html", _detail_document, extra=_charts),
        *_page("/runs", pages.runs, "runs.html", _document("at", "runs")),
        *_page("/dead-letters", pages.dead_letters, "dead_letters.html", _letters_document),
        *_page("/workers", pages.workers, "workers.html", _document("at", "workers", "listed", "todo")),
        Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
    ]


def _home(request: Request) -> Response:
    path = f"{request.scope.get('root_path', '')}/pipelines"
    # with words, since curl doesn't follow
    return Response(f"the status page is {path}\n", 307, {"location": path}, "text/plain")


def _page(
    path: str,
    read: Read,
    template: str,
    document: Callable[[Content], Content],
    extra: Callable[[Content], Content] = lambda _: {},
) -> list[Route]:
    def as_html(request: Request) -> Response:
        content = read(request)
        query = f"?{request.url.query}" if request.url.query else ""
        return page(request, template, query=query, **content, **extra(content))

    def as_json(request: Request) -> Response:
        return twin(document(read(request)))

    return [Route(f"{path}.json", as_json), Route(path, as_html)]


def _document(*names: str) -> Callable[[Content], Content]:
    return lambda content: {name: content[name] for name in names}


def _overview_document(content: Content) -> Content:
    return fields_of(content["overview"])


def _detail_document(content: Content) -> Content:
    return fields_of(content["detail"])


def _letters_document(content: Content) -> Content:
    return {"at": content["at"], "dead_letters": content["letters"]}


def _charts(content: Content) -> Content:
    detail: Detail = content["detail"]
    start = detail.at - content["since"]

    def draw(title: str, value: Callable[[Sample], float], **how: Any) -> charts.Chart:
        points = [(sample.at, value(sample)) for sample in detail.history]
        return charts.chart(title, points, start=start, end=detail.at, **how)

    return {
        "charts": [
            draw("Lag", _lag, label=_seconds, ceiling=charts.seconds_ceiling),
            draw("Rows per second", lambda sample: sample.rows_per_second, label=words.short),
            draw("Waiting and in flight", lambda sample: sample.waiting + sample.in_flight, label=words.short),
            draw("Fresh rows", _fresh, label=words.percent, ceiling=lambda _: 1.0, filled=False),
        ]
    }


def _lag(sample: Sample) -> float:
    return 0.0 if sample.lag is None else sample.lag.total_seconds()


def _fresh(sample: Sample) -> float:
    return sample.fresh_rows / sample.source_rows if sample.source_rows else 0.0


def _seconds(value: float) -> str:
    return words.duration(timedelta(seconds=value)) if value else "0 s"


def _number(request: Request, name: str) -> int:
    value = request.query_params.get(name, "1")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 7 else 1
