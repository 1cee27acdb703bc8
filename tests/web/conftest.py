from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pgvector_sync.web.app import create_app
from support.staged import stage
from support.status_page import Served, chromium, served
from support.synced import Synced


@dataclass
class Pages:
    """The status page of a test's database, over HTTP."""

    synced: Synced
    server: Served

    def get(self, path: str) -> tuple[int, str, Any]:
        """Status, body and headers."""
        try:
            with urllib.request.urlopen(self.server.url + path) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers

    def html(self, path: str) -> str:
        status, body, _ = self.get(path)
        assert status == 200, body
        return body

    def json(self, path: str) -> Any:
        status, body, headers = self.get(path)
        assert (status, headers["content-type"]) == (200, "application/json"), body
        return json.loads(body)


@pytest.fixture
def pages(synced: Synced) -> Iterator[Pages]:
    database, settings = synced.runtime.database, synced.runtime.settings
    with served(create_app(database, settings)) as server:
        yield Pages(synced, server)


@pytest.fixture
def staged(pages: Pages) -> Pages:
    """The pages of a database in which several pipelines are in different states."""
    stage(pages.synced)
    return pages


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser
