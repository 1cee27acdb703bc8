"""`pgvector-sync serve` as a real process, and requests to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import httpx2

from support.processes import Process, Processes

TOKEN = "correct-horse-battery-staple"


class Serving:
    """A running server and an HTTP client of it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        process.wait_for(r"serving")
        self.url = re.search(r"http://\S+:\d+", process.printed)[0]  # type: ignore[index]

    @cached_property
    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=20, trust_env=False)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def serving(processes: Processes, *options: str, **env: str) -> Iterator[Serving]:
    """Starts a server on a free port, and ends it."""
    server = Serving(processes.command("serve", "--port", "0", *options, **env))
    try:
        yield server
    finally:
        server.client.close()
        server.process.kill()
