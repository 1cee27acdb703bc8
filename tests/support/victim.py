"""A call to an endpoint in a separate process, with the memory and time it took."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from pgvector_sync.embedding.embedder import Embedder, open_embedder
from pgvector_sync.errors import ProviderError
from pgvector_sync.model import Provider, Spec
from pgvector_sync.settings import Settings
from support.waiting import within

KEY = "sk-proj-Zq81hT0vBnM4xW7c"
TEXTS = [f"text {i}" for i in range(256)]
DIMENSIONS = 1536
SPEC = Spec("text-embedding-3-small", DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Cost:
    """How a call ended, and the resources it used."""

    error: str
    """The class and code of the error; empty if vectors were returned."""
    message: str
    seconds: float
    growth: int
    """Megabytes between the process's memory at the start and its peak."""
    tokens: int


def embedder_at(base_url: str, *, timeout: float = 0.5, proxy: str | None = None, **settings: object) -> Embedder:
    all_settings = Settings(
        _env_file=None,
        openai_base_url=None,
        allowed_hosts="http://127.0.0.1=TEST_KEY,http://localhost=TEST_KEY,http://models.example=TEST_KEY",
        provider_timeout=timedelta(seconds=timeout),
        **settings,
    )
    provider = Provider("test", base_url=base_url, api_key_env="TEST_KEY", proxy=proxy)
    return open_embedder(provider, all_settings, {"TEST_KEY": KEY})


def call(
    base_url: str,
    texts: Sequence[str] = TEXTS,
    *,
    timeout: float = 0.5,
    gives_up: float = 20.0,
    proxy: str | None = None,
) -> Cost:
    """Makes one call, as a worker does. Fails if it takes longer than `gives_up` seconds."""
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe(duplex=False)
    child = forking.Process(target=_call, args=(theirs, base_url, texts, timeout, proxy))
    child.start()
    theirs.close()
    try:
        assert ours.poll(gives_up), f"not finished after {gives_up:g} s, with a peak of {_peak(child.pid or 0)} MB"
        cost = ours.recv()
    finally:
        child.kill()
        child.join()
    assert isinstance(cost, Cost)
    return cost


def _call(report: Connection, base_url: str, texts: Sequence[str], timeout: float, proxy: str | None) -> None:
    embedder = embedder_at(base_url, timeout=timeout, proxy=proxy)
    before = _resident()
    started = time.monotonic()
    error, message, tokens = "", "", 0
    try:
        tokens = embedder.embed(texts, SPEC, deadline=within(4 * timeout)).tokens
    except ProviderError as failure:
        error, message = f"{type(failure).__name__} {failure.code}", f"{failure}; {failure.hint}"
    report.send(Cost(error, message, time.monotonic() - started, _peak() - before, tokens))
    os._exit(0)


def _status(name: str, pid: int | str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def _resident() -> int:
    return _status("VmRSS", "self")


def _peak(pid: int | str = "self") -> int:
    return _status("VmHWM", pid)
