"""The pages over HTTP, without a browser: what they say, and what they never say."""

from __future__ import annotations

import html
import json
import re

import pytest

from pgvector_sync.observe.status import statuses
from pgvector_sync.store import overview
from pgvector_sync.store.dead_letters import dead_letters
from pgvector_sync.web.app import create_app
from support.explained import Explained
from support.status_page import served

CANARY = "canary-7f3e"
PATHS = ("/pipelines", "/runs", "/dead-letters", "/workers")
COPIES = """
INSERT INTO pgvector_sync.pipeline (name, source_id, target_schema, target_table, text_sql, text_given, read_columns, provider, model, dimensions, metric, vector_type)
SELECT 'copy_' || n, source_id, target_schema, target_table || '_' || n, text_sql, text_given, read_columns, provider, model, dimensions, metric, vector_type
FROM pgvector_sync.pipeline, generate_series(1, {count}) n WHERE name = 'docs'
"""


def words(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def names(page: str) -> list[str]:
    """The pipelines of the overview's table, in its order."""
    return re.findall(r'<th role="rowheader" scope="row"><a href="/pipelines/(\w+)">', page)


@pytest.fixture
def docs(beginning, pages):
    return pages


def test_before_anything_is_declared_the_page_says_which_command_comes_next(pages):
    page = pages.html("/pipelines")
    assert "No pipeline is declared yet" in page
    assert "pgvector-sync apply" in page
    assert pages.json("/pipelines.json")["pipelines"] == []


def test_the_first_page_is_that_of_the_pipelines(pages):
    assert "No pipeline is declared yet" in pages.html("/")


def test_what_needs_somebody_comes_first_with_what_to_do(docs):
    docs.synced.declare("broken")
    docs.synced.declare("also_fine")
    docs.synced.apply()
    docs.synced.settle()
    docs.synced.endpoint.fail(status=401, code="invalid_api_key")
    docs.synced.run(
        "UPDATE pgvector_sync.pipeline SET state = 'paused', reason = 'by hand' WHERE name <> 'broken'"
    )
    docs.synced.run("INSERT INTO docs VALUES (1, 'text')")
    docs.synced.turns(3)
    page = docs.html("/pipelines")
    assert names(page) == ["broken", "also_fine", "docs"]
    seen = words(page)
    assert "Misconfigured the provider rejected the API key (401 invalid_api_key)" in seen
    assert "fix this, then: pgvector-sync resume broken" in seen
    assert "Paused by hand" in seen
    assert "no worker is running" in seen
    assert "start a worker: pgvector-sync worker" in seen


def test_a_pipeline_in_order_has_nothing_to_do(docs):
    docs.synced.run(
        "INSERT INTO pgvector_sync.worker VALUES (gen_random_uuid(), 'host:worker:1', 4, statement_timestamp())"
    )
    page = docs.html("/pipelines")
    assert "Nothing to do." in page
    assert "What to do" not in page


def test_dead_letters_are_shown_by_class_with_keys_and_reason(docs):
    docs.synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    docs.synced.run(
        "INSERT INTO docs SELECT n, 'poison' FROM generate_series(1, 7) n",
        "INSERT INTO docs VALUES (8, repeat('x', 3000))",
    )
    docs.synced.settle()
    seen = words(docs.html("/pipelines/docs"))
    assert re.search(r"input_rejected 7 the provider rejected the input \(400 content_filter\) 1 2 3 4 5 …", seen)
    assert "too_large 1 the text has 3,000 bytes, the limit is 2,000 8" in seen
    classes = docs.json("/pipelines/docs.json")["dead_letters"]
    assert [(letter["error_class"], letter["count"]) for letter in classes] == [
        ("input_rejected", 7),
        ("too_large", 1),
    ]
    assert len(docs.json("/dead-letters.json?pipeline=docs")["dead_letters"]) == 8


def test_a_key_that_cannot_become_work_is_shown_shortened(docs):
    docs.synced.run(
        "INSERT INTO pgvector_sync.parked (source_id, key, error_class)"
        " SELECT id, to_jsonb(repeat('k', 500)), 'key_malformed' FROM pgvector_sync.source"
    )
    page = docs.html("/pipelines/docs")
    assert "key_malformed" in page
    assert "k" * 190 in page
    assert "k" * 210 not in page


def test_no_page_contains_source_text(docs):
    docs.synced.endpoint.fail(status=400, code="content_filter", marker="poison")
    docs.synced.run(
        f"INSERT INTO docs SELECT n, '{CANARY} ' || n FROM generate_series(1, 5) n",
        f"INSERT INTO docs VALUES (6, 'poison {CANARY}'), (7, repeat('{CANARY}', 400))",
    )
    docs.synced.settle()
    for path in (*PATHS, "/pipelines/docs"):
        for form in (path, f"{path}.json"):
            assert CANARY not in docs.get(form)[1], form


def test_text_from_outside_is_neither_markup_nor_does_it_turn_the_direction_of_writing(docs):
    reason = '</p><script>alert("x")</script> \u202eesrever'
    docs.synced.run(f"UPDATE pgvector_sync.pipeline SET state = 'paused', reason = '{reason}'")
    for path in ("/pipelines", "/pipelines/docs"):
        page = docs.html(path)
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "\\u202eesrever" in page


def test_a_pipeline_that_is_gone_has_a_page_with_a_link_back(docs):
    for path in ("/pipelines/nope", "/runs?pipeline=nope", "/dead-letters?pipeline=nope"):
        status, page, _ = docs.get(path)
        assert status == 404
        assert "there is no pipeline nope" in page
        assert '<a href="/pipelines">Back to all pipelines</a>' in page


def test_a_pipeline_that_is_removed_while_its_page_is_read_is_unknown(docs, monkeypatch):
    now = overview.now

    def remove_first(connection):
        docs.synced.run("DELETE FROM pgvector_sync.pipeline WHERE name = 'docs'")
        return now(connection)

    monkeypatch.setattr(overview, "now", remove_first)
    status, page, _ = docs.get("/pipelines/docs")
    assert status == 404
    assert "there is no pipeline docs" in page


def test_a_name_that_no_pipeline_can_have_is_unknown(docs):
    """Postgres rejects NUL in a text, which isn't a failure of the database."""
    for name in ("%00", "a%00b", "%ff%fe", "..%2f..%2fetc", "%0d%0aset-cookie:%20a=b", "%E2%80%AE", "x" * 10_000):
        for path in (f"/pipelines/{name}", f"/runs?pipeline={name}", f"/dead-letters?pipeline={name}"):
            status, page, headers = docs.get(path)
            assert status == 404, path
            assert "set-cookie" not in headers
            assert "\u202e" not in page
            assert "Back to all pipelines" in page, path


def test_many_pipelines_are_paged_and_filtered(docs):
    docs.synced.run(COPIES.format(count=120))
    first, last = docs.html("/pipelines"), docs.html("/pipelines?page=3")
    assert len(names(first)) == 50
    assert len(names(last)) == 21
    assert "Page 3 of 3, 121 pipelines" in words(last)
    assert names(docs.html("/pipelines?page=99")) == names(last)
    assert names(docs.html("/pipelines?q=copy_12")) == ["copy_12", "copy_120"]
    assert "No pipeline matches" in docs.html("/pipelines?state=paused")


@pytest.mark.parametrize(
    "query", ["page=-1", "page=x", "page=%C2%B2", "state=nope", "q=%00", "hours=999", "q=" + "x" * 500]
)
def test_an_odd_query_is_no_error(docs, query):
    assert docs.get(f"/pipelines?{query}")[0] == 200
    assert docs.get(f"/pipelines/docs?{query}")[0] == 200


def test_every_page_has_strict_headers_and_nothing_inline(docs):
    for path in (*PATHS, "/pipelines/docs", "/pipelines/nope"):
        _, page, headers = docs.get(path)
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:", page), path


def test_every_page_has_a_twin_that_is_a_document(docs):
    for path in (*PATHS, "/pipelines/docs"):
        assert docs.json(f"{path}.json")["version"] == 1
        assert f'href="{path}.json"' in docs.html(path)
    document = docs.json("/pipelines/docs.json")
    assert document["status"] == {**document["status"], "name": "docs", "state": "active", "lag_seconds": None}
    assert document["facts"]["model"] == "text-embedding-3-small"
    assert {index["valid"] for index in document["indexes"]} == {True}
    assert all(index["bytes"] > 0 for index in document["indexes"])


def test_a_locked_index_has_no_size_and_the_page_is_shown(docs):
    with docs.synced.database.connect() as other, other.transaction():
        other.execute("REINDEX INDEX docs_embedding_pkey")
        document = docs.json("/pipelines/docs.json")
    assert {index["bytes"] for index in document["indexes"]} == {None}


def test_the_address_of_a_provider_is_shown_without_secrets(docs):
    docs.synced.run(
        "UPDATE pgvector_sync.provider SET base_url = 'https://user:secret@api.example.com:8443/v1?key=secret'"
    )
    page = docs.html("/pipelines/docs")
    assert "api.example.com:8443" in page
    assert "secret" not in page + json.dumps(docs.json("/pipelines/docs.json"))


def test_a_pages_links_stay_below_the_path_at_which_a_proxy_has_it(docs):
    runtime = docs.synced.runtime
    with served(create_app(runtime.database, runtime.settings), root_path="/sync") as server:
        docs.server = server
        found = [docs.get(path)[1] for path in ("/pipelines", "/pipelines/nope", "/nope")]
    for page in found:
        links = re.findall(r'(?:href|src)="([^"#?]*)"', page)
        assert len(links) >= 7
        assert all(link.startswith("/sync/") for link in links)


def test_the_oldest_dead_letters_are_listed_without_reading_all(docs):
    docs.synced.run(
        COPIES.format(count=60),
        "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at, parked_at, verdict, error_class,"
        " error_message) SELECT id, jsonb_build_array(n), 'live', now(), now(), now() + n * interval '1 ms', 'dead',"
        " 'too_large', 'too long' FROM pgvector_sync.pipeline, generate_series(1, 20000) n WHERE name = 'docs'",
        "INSERT INTO pgvector_sync.parked (source_id, key, error_class) SELECT s.id, to_jsonb(n), 'key_malformed'"
        " FROM pgvector_sync.source s, generate_series(1, 20000) n",
        "ANALYZE pgvector_sync.work, pgvector_sync.parked",
    )
    explained = Explained(docs.synced.database.url)
    with explained as connection, connection.transaction():
        for name in (None, "docs"):
            listed = dead_letters(connection, name, limit=10)
            assert [letter.parked_at for letter in listed] == sorted(letter.parked_at for letter in listed)
            assert len(listed) == 10
    for plan in explained.plans:
        assert plan.touched("work") <= 1000
        assert plan.touched("parked") <= 1000


def test_a_backlog_of_one_pipeline_does_not_slow_down_the_look_at_the_others(docs):
    """The planner may think that each pipeline has as many rows as the one with a backlog, and read all of them each time."""
    docs.synced.run(
        COPIES.format(count=60),
        "INSERT INTO pgvector_sync.work (pipeline_id, key, lane, waiting_since, visible_at)"
        " SELECT id, jsonb_build_array(n), 'bulk', now(), now() FROM pgvector_sync.pipeline, generate_series(1, 30000) n WHERE name = 'docs'",
        "ANALYZE pgvector_sync.work",
    )
    explained = Explained(docs.synced.database.url)
    with explained as connection, connection.transaction():
        statuses(connection)
    [plan] = explained.plans
    assert plan.touched("work") < 4 * 30_000


def test_the_rows_of_a_partitioned_source_count_once(docs):
    docs.synced.run(
        "CREATE TABLE parts (id bigint PRIMARY KEY, body text) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50)",
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (100)",
        "INSERT INTO parts SELECT n, '' FROM generate_series(0, 99) n",
    )
    docs.synced.pipeline("parts", source="parts")
    docs.synced.run("ANALYZE parts")
    assert docs.json("/pipelines/parts.json")["status"]["rows"] == 100
