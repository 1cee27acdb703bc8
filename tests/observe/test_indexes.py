"""`index status`: every fault is real, and following the advice ends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pgvector_sync.errors import UnknownPipeline
from pgvector_sync.model import Storage
from pgvector_sync.observe.finding import Finding
from pgvector_sync.observe.indexes import TargetIndexes, index_state, judge
from pgvector_sync.observe.level import Level
from pgvector_sync.store.index_status import TargetRows, VectorIndex
from pgvector_sync.store.pipelines import require_pipeline
from pgvector_sync.store.server import Extension
from support.beginnings import begins_with
from support.synced import DIMENSIONS, DOCS, Synced
from support.waiting import eventually

ROWS = 2_000
PGVECTOR = Extension("0.8.6", "public", "app", usable=True, files="0.8.6", bits=64)
FOREIGN = (
    "CREATE ACCESS METHOD diskann TYPE INDEX HANDLER hnswhandler",
    (
        "CREATE OPERATOR CLASS vector_cosine_ops FOR TYPE vector USING diskann AS "
        "OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops, "
        "FUNCTION 1 vector_negative_inner_product(vector, vector), FUNCTION 2 vector_norm(vector)"
    ),
)
"""Another access method, as other extensions add one."""


def random_vectors(synced: Synced) -> None:
    synced.run(DOCS)
    synced.declare()
    synced.apply()
    synced.run(
        "INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT n, ARRAY(SELECT random() - 0.5 + n * 0 FROM generate_series(1, {DIMENSIONS}))::vector, "
        f"sha256(n::text::bytea), 'm', now() FROM generate_series(1, {ROWS}) n",
        "VACUUM ANALYZE docs_embedding",
    )


beginning, docs = begins_with(random_vectors)


def state(docs: Synced) -> TargetIndexes:
    [target] = index_state(docs.runtime.database, "docs")
    return target


def found(docs: Synced, words: str) -> Finding | None:
    """The finding that contains these words."""
    findings = [finding for finding in state(docs).findings if words in finding.seen]
    assert len(findings) <= 1, findings
    return findings[0] if findings else None


def follow(docs: Synced, finding: Finding | None) -> None:
    """Executes the statements of an advice."""
    assert finding is not None
    assert finding.advice is not None
    docs.run(finding.advice.rpartition(": ")[2].partition(" --")[0])


def used(docs: Synced, name: str) -> None:
    """Scans an index, and awaits that the statistics say so."""
    with docs.database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_sort = off")
        connection.execute(
            "SELECT id FROM docs_embedding ORDER BY embedding <=> "
            "(SELECT embedding FROM docs_embedding WHERE id = 1) LIMIT 5"
        )
    assert eventually(lambda: any(index.name == name and index.scans for index in state(docs).indexes))


def test_an_index_is_shown_with_its_method_parameters_size_and_use(docs: Synced) -> None:
    docs.run(
        "CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 20)"
    )
    used(docs, "near")
    target = state(docs)
    [index] = target.indexes
    assert (index.method, index.operator_class, index.indexed) == ("hnsw", "vector_cosine_ops", "embedding")
    assert index.parameters == ("m=8", "ef_construction=20")
    assert (index.valid, index.building, index.scans) == (True, False, 1)
    assert index.bytes_per_row == pytest.approx(index.bytes / ROWS, abs=0.1)
    assert 0 < (index.cache_hit_ratio or 0) <= 1
    assert (target.rows, target.dead_rows, target.metric) == (ROWS, 0, "cosine")
    assert [finding.level for finding in target.findings] == [Level.OK]


def test_without_an_index_every_vector_is_compared(docs: Synced) -> None:
    assert found(docs, f"no vector index: each search scans about {ROWS:,} vectors")
    assert state(docs).indexes == ()


def test_before_its_first_analyze_a_target_has_the_rows_that_the_server_has_counted(docs: Synced) -> None:
    docs.run("CREATE TABLE notes (id bigint PRIMARY KEY, body text)", "INSERT INTO notes VALUES (1, 'one')")
    docs.declare("notes", source="notes")
    docs.apply()
    docs.run(
        "INSERT INTO notes_embedding (id, embedding, fingerprint, model, embedded_at) "
        f"SELECT 1, array_fill(1, ARRAY[{DIMENSIONS}])::vector, sha256('a'), 'm', now()"
    )
    eventually(lambda: index_state(docs.runtime.database, "notes")[0].rows == 1)


def test_an_invalid_index_is_an_error_and_comes_first(docs: Synced) -> None:
    docs.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    docs.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'near'::regclass")
    assert state(docs).findings[0].level is Level.ERROR
    with docs.database.connect() as connection:  # CONCURRENTLY needs a statement of its own
        connection.execute(found(docs, "is invalid").advice)  # type: ignore[union-attr, arg-type]
    assert found(docs, "is invalid") is None


@pytest.mark.parametrize("other", ["vector_l2_ops", "vector_ip_ops"])
def test_an_index_of_another_metric_is_useless_beside_one_of_the_pipelines(docs: Synced, other: str) -> None:
    docs.run(f"CREATE INDEX other ON docs_embedding USING hnsw (embedding {other})")
    assert found(docs, f"other uses {other}, but the metric is cosine")
    docs.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    follow(docs, found(docs, f"other uses {other}: searches by cosine never use it"))
    assert [index.name for index in state(docs).indexes] == ["near"]


def test_the_larger_of_two_equal_indexes_is_dropped(docs: Synced) -> None:
    docs.run(
        "CREATE INDEX small ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 4)",
        "CREATE INDEX large ON docs_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 32)",
        "CREATE INDEX few ON docs_embedding USING hnsw (embedding vector_cosine_ops) WHERE id < 9",
    )
    follow(docs, found(docs, "large does the same as small"))
    assert {index.name for index in state(docs).indexes} == {"small", "few"}
    assert found(docs, "does the same") is None


def test_an_index_that_a_cancelled_build_has_left_unfinished_is_said_not_to_be_dropped_yet(docs: Synced) -> None:
    docs.run(
        "INSERT INTO pgvector_sync.index_build (pipeline_id, state, definition, replace, declared, attempts, started_at, "
        "ended_at, left_over) SELECT id, 'cancelled', '{\"method\": \"hnsw\"}', false, false, 1, now(), now(), true "
        "FROM pgvector_sync.pipeline",
        "CREATE INDEX pgvector_sync_build_1 ON docs_embedding USING hnsw (embedding vector_cosine_ops)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgvector_sync_build_1'::regclass",
    )
    left = found(docs, "isn't dropped yet")
    assert left is not None
    assert left.advice == "beat or `pgvector-sync sync` drops it"
    assert found(docs, "pgvector_sync_build_1 (hnsw") is None, "no search uses it"


def test_of_several_usable_indexes_the_declared_one_is_shown(docs: Synced) -> None:
    docs.run(
        f"CREATE INDEX a_bit ON docs_embedding USING hnsw ((binary_quantize(embedding)::bit({DIMENSIONS})) bit_hamming_ops)",
        "CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)",
    )
    assert found(docs, "near (hnsw, vector_cosine_ops)")
    docs.declare(index={"storage": "bit"})
    docs.apply()
    assert found(docs, "a_bit (hnsw, bit_hamming_ops)")


def test_an_index_that_was_never_scanned_is_named(docs: Synced) -> None:
    docs.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    assert found(docs, "near hasn't been scanned")
    docs.run(
        "INSERT INTO pgvector_sync.index_build (pipeline_id, state, definition, replace, declared, attempts, started_at, "
        "ended_at, index_name) SELECT id, 'done', '{\"method\": \"hnsw\"}', false, false, 1, now(), now(), 'near' "
        "FROM pgvector_sync.pipeline"
    )
    assert found(docs, "hasn't been scanned") is None, "its build has just ended"
    docs.run("UPDATE pgvector_sync.index_build SET ended_at = now() - interval '2 days'")
    assert found(docs, "near hasn't been scanned")
    used(docs, "near")
    assert found(docs, "hasn't been scanned") is None


BITS = f"(binary_quantize(embedding)::bit({DIMENSIONS}))"
HALVES = f"(embedding::halfvec({DIMENSIONS}))"


@pytest.mark.parametrize("columns", [f"{BITS} bit_hamming_ops", f"{HALVES} halfvec_cosine_ops"])
def test_an_index_over_bits_or_half_precision_serves_searches(docs: Synced, columns: str) -> None:
    docs.run(f"CREATE INDEX small ON docs_embedding USING hnsw ({columns})")
    assert found(docs, f"small (hnsw, {columns.rpartition(' ')[2]})")
    assert found(docs, "no vector index") is None
    assert found(docs, "`search` doesn't use it") is None
    docs.run("CREATE INDEX other ON docs_embedding USING hnsw (embedding vector_l2_ops)")
    assert found(docs, "other uses vector_l2_ops: searches by cosine never use it")


@pytest.mark.parametrize(
    "definition",
    [
        f"({HALVES} halfvec_cosine_ops) WHERE id > 9",
        f"((l2_normalize(embedding)::halfvec({DIMENSIONS})) halfvec_cosine_ops)",
        "((subvector(embedding, 1, 4)::vector(4)) vector_cosine_ops)",
    ],
)
def test_an_index_over_another_expression_serves_only_the_application(docs: Synced, definition: str) -> None:
    docs.run(f"CREATE INDEX other ON docs_embedding USING hnsw {definition}")
    assert found(docs, "`search` doesn't use it")
    assert found(docs, "but the metric is") is None or "WHERE" in definition


def test_indexes_are_compared_with_the_declared_one(docs: Synced) -> None:
    docs.declare(index={"method": "hnsw", "storage": "bit", "m": 8})
    docs.apply()
    assert "index build docs" in (found(docs, "the declared index, hnsw of bit, doesn't exist yet").advice or "")  # type: ignore[union-attr]
    docs.run("CREATE INDEX old ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    assert found(docs, "the declared index, hnsw of bit, doesn't exist yet")
    assert found(docs, "isn't the declared index") is None, "until then searches use it"
    docs.run(f"CREATE INDEX bits ON docs_embedding USING hnsw ({BITS} bit_hamming_ops)")
    assert found(docs, "doesn't exist yet") is None
    assert "--rebuild" in (
        found(docs, "bits was built with other parameters than declared: m = 16 instead of 8").advice or ""
    )  # type: ignore[union-attr]
    docs.run(
        "DROP INDEX bits", f"CREATE INDEX bits ON docs_embedding USING hnsw ({BITS} bit_hamming_ops) WITH (m = 8)"
    )
    assert found(docs, "other parameters") is None
    docs.declare()
    docs.apply()
    assert found(docs, "declared") is None
    docs.declare(index={"method": "hnsw", "storage": "bit", "m": 8})
    docs.apply()
    with docs.database.connect() as connection:
        connection.execute(
            found(docs, "old (hnsw of vector) isn't the declared index, which is bits").advice.partition(" --")[0]
        )  # type: ignore[union-attr]
    assert [index.name for index in state(docs).indexes] == ["bits"]


def test_an_index_of_half_precision_and_another_metric_is_named(docs: Synced) -> None:
    docs.run(f"CREATE INDEX other ON docs_embedding USING hnsw ({HALVES} halfvec_l2_ops)")
    assert found(docs, "other uses halfvec_l2_ops, but the metric is cosine")


def test_an_index_of_another_extension_is_named_and_not_judged(docs: Synced) -> None:
    docs.run(*FOREIGN, "CREATE INDEX disk ON docs_embedding USING diskann (embedding vector_cosine_ops)")
    assert found(docs, "no vector index") is None
    assert [finding.level for finding in state(docs).findings if "diskann" in finding.seen][:1] == [Level.OK]
    assert state(docs).indexes[0].method == "diskann"


def test_dead_rows_are_named_until_vacuum_removes_them(docs: Synced) -> None:
    docs.run("ALTER TABLE docs_embedding SET (autovacuum_enabled = false)")
    docs.run("DELETE FROM docs_embedding WHERE id > 800")
    assert eventually(lambda: found(docs, "dead rows beside") is not None)
    follow(docs, found(docs, "dead rows beside"))
    assert eventually(lambda: found(docs, "dead rows beside") is None)


def test_an_hnsw_index_that_an_old_pgvector_may_have_damaged_is_to_be_rebuilt(docs: Synced) -> None:
    with docs.runtime.database.transaction(read_only=True) as connection:
        pipeline = require_pipeline(connection, "docs")
    index = VectorIndex(
        "public", "near", "hnsw", "vector_cosine_ops", (), "embedding", None,
        over_expression=False, storage=Storage.VECTOR, valid=True, building=False, bytes=1, scans=1, hits=1, reads=0, built_at=None,
    )  # fmt: skip
    rows = TargetRows(10, 10, 0, None)
    assert list(judge(pipeline, [index], rows, PGVECTOR)) == []
    [finding] = judge(pipeline, [index], rows, replace(PGVECTOR, version="0.8.2", files="0.8.2"))
    assert 'REINDEX INDEX CONCURRENTLY "public"."near";' in (finding.advice or "")
    ivfflat = replace(index, method="ivfflat")
    assert list(judge(pipeline, [ivfflat], rows, replace(PGVECTOR, version="0.8.2", files="0.8.2"))) == []
    cold = replace(index, hits=1_000, reads=9_000)
    assert [each.seen for each in judge(pipeline, [cold], rows, PGVECTOR)] == [
        "only 10% of the pages of near were found in the buffer cache"
    ]


def test_a_missing_target_and_an_unknown_pipeline_are_clear(docs: Synced) -> None:
    docs.run("DROP TABLE docs_embedding")
    assert [finding.seen for finding in state(docs).findings] == ["the target doesn't exist"]
    with pytest.raises(UnknownPipeline):
        index_state(docs.runtime.database, "nothing")


def test_the_command_exits_with_1_only_on_an_error(
    docs: Synced, command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.database.url)
    docs.run("CREATE INDEX near ON docs_embedding USING hnsw (embedding vector_cosine_ops)")
    code, printed, _ = command_line("index", "status")
    assert code == 0
    assert "near " in printed
    assert "warning  near hasn't been scanned" in printed
    docs.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'near'::regclass")
    code, printed, _ = command_line("index", "status", "docs", "--json")
    assert code == 1
    [target] = json.loads(printed)["targets"]
    assert target["findings"][0]["level"] == "error"
