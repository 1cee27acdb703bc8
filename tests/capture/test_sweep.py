"""The sweep after a TRUNCATE: it takes the vectors of rows that are gone, page by page."""

from __future__ import annotations

import pytest

from pgvector_sync.capture import drain as drain_module
from pgvector_sync.capture.drain import Drain
from pgvector_sync.store import rows
from support.steps import Steps
from support.synced import session
from support.waiting import within


@pytest.fixture
def three_pages(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of 30 rows takes three pages."""
    monkeypatch.setattr(drain_module, "SWEEP_PAGE_ROWS", 10)
    truncate(docs, 30)


def truncate(docs: Steps, count: int) -> None:
    """Truncates the source after all of its rows, so many, have got their vectors."""
    docs.synced.run(f"INSERT INTO docs SELECT i, 'text ' || i FROM generate_series(1, {count}) AS i")
    docs.synced.sync()
    docs.synced.run("TRUNCATE docs")


def test_a_truncate_takes_all_vectors_with_the_next_drain(docs: Steps) -> None:
    truncate(docs, 30)
    docs.covered()
    assert docs.synced.events() == [None]
    docs.drain()
    assert docs.synced.vectors() == {}
    assert docs.synced.events() == []


@pytest.mark.usefixtures("three_pages")
def test_a_row_inserted_again_during_the_sweep_keeps_its_vector(
    docs: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, seen = rows.remove_orphans, []

    def insert_before_the_second_page(*arguments: object) -> int:
        seen.append(arguments)
        if len(seen) == 2:  # between the lock of a page and the look whether its source rows exist
            docs.insert(_5="text 5", _15="text 15", _25="text 25")
        return remove(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "remove_orphans", insert_before_the_second_page)
    docs.drain()
    assert {key for (key,) in docs.synced.vectors()} == {15, 25}
    docs.synced.sync()
    assert {key for (key,) in docs.synced.vectors()} == {5, 15, 25}
    assert docs.synced.paid() == 31, "only the vector that was gone had to be bought again"


@pytest.mark.usefixtures("three_pages")
def test_a_sweep_goes_on_where_it_stopped_and_its_event_stays_until_the_end(docs: Steps) -> None:
    drain = Drain(docs.runtime.database, 1_000)
    with session(docs.synced.database) as application:
        application.execute("SELECT FROM docs_embedding WHERE id = 15 FOR UPDATE")
        drain(until=within(5))
        assert {key for (key,) in docs.synced.vectors()} == set(range(11, 31))
        assert docs.synced.events() == [None]
        docs.covered()
    drain(until=within(5))
    assert docs.synced.vectors() == {}
    assert docs.synced.events() == []


def test_a_second_truncate_during_the_sweep_is_swept_as_well(docs: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    truncate(docs, 10)
    begin_page, seen = rows.require_open_to_writes, []

    def truncate_again(*arguments: object) -> None:
        if not seen:
            seen.append(1)
            docs.synced.run("INSERT INTO docs VALUES (1, 'text 1')", "TRUNCATE docs")
        begin_page(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "require_open_to_writes", truncate_again)
    docs.drain()
    assert docs.synced.events() == [[1], None]
    docs.covered()
    docs.synced.sync()
    assert docs.synced.events() == []
