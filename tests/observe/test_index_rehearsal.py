"""`index rehearse`: grown vectors are as far apart as real ones, the figures are real, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import find_spec

import numpy as np
import pytest

from pgvector_sync import Refused, Sync
from pgvector_sync.index.resample import bases_of, calibrated, copies
from support.beginnings import begins_with
from support.client import sync_as
from support.real_vectors import DIMENSIONS, real_vectors, store
from support.roles import OWNER, WORKER
from support.synced import Synced
from support.waiting import eventually

pytestmark = pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra `local` is not installed")

ROWS = 1_200
AT_ONCE = timedelta(microseconds=1)
"""Less than any exact search takes, so that an index is advised for few rows too."""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgvector_sync_rehearsal_%'"


def sentences(synced: Synced) -> None:
    store(synced, real_vectors(ROWS), index={"database_share": 1.0})


beginning, begun = begins_with(sentences)


@pytest.fixture
def docs(begun: Synced) -> Synced:
    begun.run(f"GRANT CREATE ON DATABASE {begun.database.name} TO {OWNER}")
    return begun


@pytest.fixture
def sync(docs: Synced) -> Iterator[Sync]:
    with sync_as(docs.database, OWNER) as sync:
        yield sync


@pytest.mark.slow
@pytest.mark.parametrize("normalized", [True, False])
def test_copies_are_as_far_from_each_other_as_real_vectors(normalized: bool) -> None:
    random = np.random.default_rng(3)
    vectors = real_vectors(600) * (1 if normalized else 7)
    bases = bases_of(vectors, normalized=normalized)
    for times in (3, 20):
        multiple = calibrated(bases, times, random)
        chosen = np.repeat(np.arange(600), times - 1)
        grown = np.concatenate([vectors, copies(bases, chosen, multiple, random)])
        queries = random.permutation(np.arange(600, len(grown)))[:100]
        apart = _apart(grown, queries)
        apart[np.arange(len(queries)), queries] = np.inf
        ratio = np.median(apart.min(axis=1)) / np.median(bases.distances)
        assert 0.8 < ratio < 1.25, (times, ratio)
        if normalized:
            assert np.allclose(np.linalg.norm(grown, axis=1), 1, atol=1e-4)


def _apart(grown: np.ndarray, queries: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    squares = (grown * grown).sum(axis=1)
    apart = squares[queries][:, None] + squares[None, :] - 2 * grown[queries] @ grown.T
    return np.asarray(np.sqrt(np.maximum(apart, 0)))


def test_the_neighbours_that_are_found_are_the_real_ones() -> None:
    vectors = real_vectors(300)
    bases = bases_of(vectors, normalized=True)
    for place in range(0, 300, 37):
        order = np.argsort(-(vectors @ vectors[place]))
        assert bases.neighbours[place].tolist() == [each for each in order if each != place][:16]


@pytest.mark.slow
def test_a_rehearsal_measures_what_was_predicted_and_leaves_nothing_behind(docs: Synced, sync: Sync) -> None:
    steps: list[str] = []
    rehearsal = sync.index_rehearse("docs", 3_000, latency=AT_ONCE, progress=lambda what, *_: steps.append(what))
    assert (rehearsal.rows, rehearsal.real_rows, rehearsal.queries) == (3_000, ROWS - 200, 200)
    assert rehearsal.distance_ratio is not None
    assert 0.7 < rehearsal.distance_ratio < 1.3
    assert (rehearsal.advised.method, rehearsal.advised.storage) == ("hnsw", "vector")
    assert rehearsal.index_bytes == pytest.approx(rehearsal.advised.bytes, rel=0.05)
    assert rehearsal.table_bytes == pytest.approx(rehearsal.table_bytes_predicted, rel=0.1)
    assert rehearsal.build_time is not None
    assert rehearsal.build_time > timedelta(0)
    assert rehearsal.exact > timedelta(0)
    few, *_, many = rehearsal.settings
    assert few.recall_mean <= many.recall_mean
    assert many.recall_mean > 0.97
    assert {"rows", "queries"} <= set(steps)
    assert docs.database.execute(SCHEMAS) == []
    assert docs.database.value("SELECT count(*) FROM docs_embedding") == ROWS
    assert docs.database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_fewer_rows_than_there_are_need_no_copies_and_an_exact_scan_no_index(sync: Sync) -> None:
    rehearsal = sync.index_rehearse("docs", 500, latency=timedelta(seconds=9))
    assert (rehearsal.rows, rehearsal.real_rows) == (500, 500)
    assert (rehearsal.advised.method, rehearsal.index_bytes, rehearsal.settings) == ("exact", None, ())


def test_another_rehearsal_of_the_same_pipeline_has_to_wait(docs: Synced, sync: Sync) -> None:
    with docs.database.connect() as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('pgvector_sync_rehearsal_1', 0))")
        with pytest.raises(Refused, match="rehearsed by another process"):
            sync.index_rehearse("docs", 2_000)


def test_what_a_killed_rehearsal_has_left_is_dropped_by_the_next(docs: Synced, sync: Sync) -> None:
    code = (
        "from datetime import timedelta\nfrom pgvector_sync import Settings, Sync\n"
        f"with Sync({docs.database.url_as(OWNER)!r}, settings=Settings(_env_file=None)) as sync:\n"
        "    sync.index_rehearse('docs', 200_000, latency=timedelta(microseconds=1))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    assert eventually(lambda: docs.database.execute(SCHEMAS) != [], timeout=60)
    process.kill()
    process.wait()
    assert docs.database.execute(SCHEMAS) != []
    assert eventually(
        lambda: docs.database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0, timeout=60
    )
    docs.run("CREATE SCHEMA pgvector_sync_rehearsal_999")  # of somebody else: it has no comment of ours
    sync.index_rehearse("docs", 300, latency=timedelta(seconds=9))
    assert docs.database.execute(SCHEMAS) == [("pgvector_sync_rehearsal_999",)]


@pytest.mark.slow
def test_ctrl_c_drops_the_schema(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url_as(OWNER))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pgvector_sync",
            "index",
            "rehearse",
            "docs",
            "--rows",
            "200k",
            "--latency-ms",
            "0.01",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: docs.database.execute(SCHEMAS) != [], timeout=60)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode not in (0, 1)
    assert "Traceback" not in error
    assert docs.database.execute(SCHEMAS) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "1G", "--disk", "1GB"], "of the server's disk, and 1.0 GB are allowed"),
        (["--rows", "none"], "isn't a number of rows"),
        (["--rows", "5k", "--memory", "little"], "isn't a size"),
        (["--rows", "5k", "--disk", "little"], "--disk"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_explained(
    docs: Synced,
    command_line: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url_as(OWNER))
    code, printed, error = command_line("index", "rehearse", "docs", *arguments)
    assert (code != 0, printed) == (True, "")
    assert words in error


def test_a_role_that_may_not_create_a_schema_is_told_the_grant(docs: Synced) -> None:
    with sync_as(docs.database, WORKER) as sync, pytest.raises(Refused) as error:
        sync.index_rehearse("docs", 2_000)
    assert "may not create a schema" in str(error.value)
    assert (error.value.hint or "").startswith(f'GRANT CREATE ON DATABASE "{docs.database.name}"')


def test_too_few_or_equal_vectors_cannot_be_grown(docs: Synced, sync: Sync) -> None:
    docs.run("DELETE FROM docs_embedding WHERE id > 50")
    with pytest.raises(Refused, match="50 vectors, which are too few"):
        sync.index_rehearse("docs", 2_000)


@pytest.mark.slow
def test_the_command_prints_measured_beside_predicted(
    docs: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url_as(OWNER))
    code, printed, _ = command_line(
        "index", "rehearse", "docs", "--rows", "2k", "--latency-ms", "0.01", "--recall", "0.8"
    )
    assert code == 0
    assert "docs at 2,000 rows, 1,000 of them real" in printed
    assert "hnsw over vector" in printed
    assert "smallest setting that reaches 0.8" in printed
    code, printed, _ = command_line("index", "rehearse", "docs", "--rows", "400", "--latency-ms", "9000", "--json")
    assert (code, json.loads(printed)["rehearsal"]["advised"]["method"]) == (0, "exact")
    assert DIMENSIONS == 256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "vector_type"), [("l2", "vector"), ("inner_product", "halfvec"), ("cosine", "halfvec")]
)
def test_each_metric_and_each_type_can_be_rehearsed(synced: Synced, metric: str, vector_type: str) -> None:
    store(synced, real_vectors(ROWS), metric=metric, vector_type=vector_type, index={"database_share": 1.0})
    synced.run(f"GRANT CREATE ON DATABASE {synced.database.name} TO {OWNER}")
    with sync_as(synced.database, OWNER) as sync:
        rehearsal = sync.index_rehearse("docs", 2_500, latency=AT_ONCE)
    assert (rehearsal.rows, rehearsal.advised.storage) == (2_500, vector_type)
    assert max(each.recall_mean for each in rehearsal.settings) > 0.95
