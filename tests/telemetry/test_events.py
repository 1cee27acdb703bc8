"""Every event is documented, has fields that can't leak (G13), and reaches every sink."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import pgvector_sync
from pgvector_sync.telemetry import add_sink, emit, remove_sink
from pgvector_sync.telemetry.event import Event, Words
from pgvector_sync.telemetry.events.catalogue import EVENTS
from pgvector_sync.telemetry.events.process import RedisUnavailable, SinkFailed, WorkerReady
from pgvector_sync.telemetry.events.runs import Reconciled
from support.events import collected

PACKAGE = Path(pgvector_sync.__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
NAMES = {
    "pipeline",
    "job",
    "hostname",
    "index",
    "queue",
    "source",
    "sequence",
    "sink",
    "sqlstate",
    "error_class",
    "error_classes",
    "provider",
    "model",
    "code",
    "request_id",
}
"""Fields that are plain strings: names of objects, SQLSTATEs, and a provider's short words that were checked. All other
text is `Words`."""
SAFE = (bool, int, float, type(None))
READY = WorkerReady(hostname="celery@host")


def fields_of(kind: type[Event]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]


def is_safe(name: str, hint: Any) -> bool:
    """Whether a field of this type can't hold the text of a row, a vector or a secret."""
    if hint is Words or hint in SAFE or (isinstance(hint, type) and issubclass(hint, Enum)):
        return True
    if hint is str:
        return name in NAMES
    if hint == type[BaseException] or hint is BaseException:
        return True  # a sink shows its class and SQLSTATE only
    if hint == Mapping[str, int]:
        return True
    parts = [part for part in get_args(hint) if part is not ...]
    return bool(parts) and all(is_safe(name, part) for part in parts)


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_a_field_has_a_type_that_can_hold_no_text_of_a_row(kind: type[Event]) -> None:
    assert [name for name, hint in fields_of(kind).items() if not is_safe(name, hint)] == []


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_documented_and_named(kind: type[Event]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__), "a docstring that dataclass made"
    assert re.fullmatch(r"[a-z_]+", kind.name)
    assert not {"event", "level", "timestamp"} & fields_of(kind).keys()


def test_the_documentation_lists_every_event_with_its_level_and_fields() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == [
        (
            kind.name,
            kind.level.name.lower(),
            ", ".join(f"`{name}`" for name in fields_of(kind)),
            " ".join((kind.__doc__ or "").split()),
        )
        for kind in EVENTS
    ]


def test_all_that_the_program_logs_is_an_event() -> None:
    """A line written without `emit` would reach no other sink, and could contain anything."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.is_relative_to(PACKAGE / "telemetry"):
            continue
        assert "import structlog" not in source, path
        assert re.findall(r"getLogger\([^)]*\)(?!\.setLevel)", source) == [], path


def test_every_sink_gets_every_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with collected() as first, collected() as second:
        emit(READY)
    emit(READY)
    assert first.of(WorkerReady) == second.of(WorkerReady) == [READY]
    assert caplog.text.count("worker_ready") == 2


def test_a_sink_that_fails_affects_neither_the_caller_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def failing(_: Event) -> None:
        raise ValueError("bob")

    add_sink(failing)
    try:
        with collected() as events:
            emit(READY)
    finally:
        remove_sink(failing)
    assert events.of(WorkerReady) == [READY]
    assert SinkFailed.name in caplog.text
    assert "ValueError" in caplog.text
    assert "bob" not in caplog.text


def test_an_event_of_another_thread_can_be_waited_for() -> None:
    with collected() as events:
        threading.Timer(0.05, emit, [READY]).start()
        assert events.wait_for(WorkerReady) is READY


def test_a_class_of_errors_is_shown_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    emit(RedisUnavailable(error=ConnectionError))
    # whichever way lines are rendered, which depends on whether logging has been configured
    assert re.search(r"'?error'?[=:] ?'?ConnectionError\b", caplog.text)
    assert "<class" not in caplog.text


def test_each_count_of_a_reconciliation_is_a_field() -> None:
    fields = Reconciled(pipeline="docs", run=3, counts={"missing": 1, "vectors": 5}).fields()
    assert json.dumps(fields) == '{"pipeline": "docs", "run": 3, "missing": 1, "vectors": 5}'
