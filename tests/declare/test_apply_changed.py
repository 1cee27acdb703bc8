"""`apply` as typed, after a table of its pipelines was changed: what it shows, asks and does."""

from __future__ import annotations

from collections.abc import Callable

from support.beginnings import begins_with, integer_keys
from support.synced import DROP_TRIGGERS, Synced

Typed = Callable[..., tuple[int, str, str]]

beginning, docs = begins_with(integer_keys(rows=600))


def apply(typed: Typed, docs: Synced, *options: str) -> tuple[int, str, str]:
    return typed("apply", "--file", str(docs.file), *options)


def test_a_dropped_target_is_a_difference_and_its_price_is_shown_before_it_is_created_again(
    docs: Synced, typed: Typed
) -> None:
    docs.run("DROP TABLE docs_embedding")
    code, out, _ = apply(typed, docs, "--check")
    assert code == 1
    assert "target    public.docs_embedding was dropped and will be created again" in out
    assert "embeds 600 rows with text-embedding-3-small" in out
    code, _, err = apply(typed, docs)
    assert code == 1
    assert "--yes" in err
    assert apply(typed, docs, "--yes")[0] == 0
    docs.sync()
    assert apply(typed, docs, "--check")[0] == 0


def test_a_kept_target_is_taken_over_as_the_plan_says(docs: Synced, typed: Typed) -> None:
    assert typed("remove", "docs", "--keep-vectors")[0] == 0
    code, out, _ = apply(typed, docs, "--dry-run")
    assert code == 0
    assert "target    takes over public.docs_embedding, 600 vectors" in out
    paid = docs.paid()
    assert apply(typed, docs, "--yes")[0] == 0
    docs.sync()
    assert docs.paid() == paid


def test_vectors_without_a_row_are_not_removed_without_being_asked_for(docs: Synced, typed: Typed) -> None:
    assert typed("remove", "docs", "--keep-vectors")[0] == 0
    docs.run("TRUNCATE docs")
    code, _, err = apply(typed, docs)
    assert code == 1
    assert "600 vectors, of which 600 have no row and are removed" in " ".join(err.split())
    assert docs.database.value("SELECT count(*) FROM docs_embedding") == 600
    assert apply(typed, docs, "--yes")[0] == 0
    docs.sync()
    assert docs.database.value("SELECT count(*) FROM docs_embedding") == 0


def test_a_widened_key_is_shown_and_asked_for(docs: Synced, typed: Typed) -> None:
    docs.run("; ".join(["BEGIN", *DROP_TRIGGERS, "ALTER TABLE docs ALTER id TYPE bigint", "COMMIT"]))
    code, out, _ = apply(typed, docs, "--check")
    assert code == 1
    assert "~ source public.docs: docs" in out
    assert "key       id integer → bigint" in out
    assert (
        "target    rewrites public.docs_embedding and its indexes, 600 rows; searches wait meanwhile"
        in out.replace("\n", " ")
    )
    code, _, err = apply(typed, docs)
    assert code == 1
    assert "--yes" in err
    assert apply(typed, docs, "--yes")[0] == 0
    docs.sync()
    assert apply(typed, docs, "--check")[0] == 0


def test_a_key_that_cannot_be_carried_over_is_refused_with_the_way_out(docs: Synced, typed: Typed) -> None:
    docs.run("; ".join(["BEGIN", *DROP_TRIGGERS, "ALTER TABLE docs ALTER id TYPE text", "COMMIT"]))
    code, _, err = apply(typed, docs, "--check")
    assert code == 1
    assert "was (id integer) and is now (id text)" in " ".join(err.split())
    assert "pgvector-sync remove docs" in " ".join(err.split())


def test_resume_says_what_still_stops_the_pipeline(docs: Synced, typed: Typed) -> None:
    docs.run("ALTER TABLE docs RENAME body TO content")
    code, out, err = typed("resume", "docs")
    assert (code, out) == (1, "docs is already active\n")
    assert "docs: public.docs no longer has column body" in err
    docs.run("ALTER TABLE docs RENAME content TO body")
    assert typed("resume", "docs")[0] == 0
