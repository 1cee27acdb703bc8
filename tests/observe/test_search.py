"""Search: what it requests from the provider, and how it reports a provider that returns no vector."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.dialects.http import Request
from pgvector_sync.embedding.dialects.openai_compatible import OpenAICompatible
from pgvector_sync.embedding.network import http_connection
from pgvector_sync.errors import OutOfTime, Unavailable, Unreachable
from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.observe.search import nearest
from support.beginnings import begins_with
from support.endpoint import Calls, deaf_address
from support.steps import another_worker
from support.synced import DOCS, MODEL, Synced


class Telling(OpenAICompatible):
    """OpenAI's API, with the purpose in its parameter `user`, which the strict endpoint takes."""

    name = "telling"

    def request(self, texts: Sequence[str], spec: Spec, purpose: Purpose, provider: Provider) -> Request:
        request = super().request(texts, spec, purpose, provider)
        return Request(request.path, {**request.body, "user": purpose.value})


def two_rows(synced: Synced) -> None:
    synced.run(DOCS, "INSERT INTO docs (id, body) VALUES (1, 'one'), (2, 'two')")
    synced.pipeline()


beginning, docs = begins_with(two_rows)


def purposes(docs: Synced) -> list[str]:
    """Return the purposes of the calls since the last time."""
    calls, docs.endpoint.calls = docs.endpoint.calls, Calls()
    return [body["user"] for body in calls.bodies]


def test_only_search_requests_the_vector_of_a_query(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "telling", Telling())
    docs.run("UPDATE pgvector_sync.provider SET dialect = 'telling'", "INSERT INTO docs VALUES (3, 'three')")
    docs.sync()
    assert purposes(docs) == ["document"]
    assert [hit.key for hit in nearest(docs.runtime, "docs", "three", k=1)] == [(3,)]
    assert purposes(docs) == ["query"]


def test_the_harmless_text_of_a_probe_is_a_document(docs: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "telling", Telling())
    docs.run("UPDATE pgvector_sync.provider SET dialect = 'telling'")
    docs.endpoint.fail(status=400, marker="poison")
    docs.run("INSERT INTO docs VALUES (3, 'poison')")
    docs.settle()
    assert [error for _, error in docs.dead()] == ["input_rejected"]
    assert set(purposes(docs)) == {"document"}


def test_a_provider_that_hangs_is_reported_with_the_timeout(docs: Synced) -> None:
    """The error names the timeout, since the user of a search knows of no batch or deadline."""
    docs.endpoint.fail("hang")
    with another_worker(docs, provider_timeout=1) as hurried, pytest.raises(OutOfTime) as caught:
        nearest(hurried.runtime, "docs", "one", k=1)
    assert str(caught.value) == "the provider did not answer within 1 s"
    assert "PGVECTOR_SYNC_PROVIDER_TIMEOUT" in (caught.value.hint or "")


def test_an_address_that_accepts_no_connection_is_not_called_slow(
    docs: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "CONNECT_TIMEOUT", timedelta(seconds=0.3))
    with deaf_address() as base_url, another_worker(docs, provider_timeout=5) as worker:
        docs.run(f"UPDATE pgvector_sync.provider SET base_url = '{base_url}'")
        with pytest.raises(Unreachable) as caught:
            nearest(worker.runtime, "docs", "one", k=1)
    assert str(caught.value) == "the provider accepted no connection in time"
    assert "check base_url of test" in (caught.value.hint or "")


def test_a_connection_that_fails_says_what_to_check(
    docs: Synced, typed: Callable[..., tuple[int, str, str]]
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        docs.run(f"UPDATE pgvector_sync.provider SET base_url = 'http://127.0.0.1:{bound.getsockname()[1]}/v1'")
        with pytest.raises(Unavailable) as caught:
            nearest(docs.runtime, "docs", "one", k=1)
        assert "check base_url of test, and whether this machine can reach it" in (caught.value.hint or "")
        code, _, complaint = typed("search", "docs", "one")
    assert (code, "the connection to the provider failed" in complaint) == (1, True)
    assert "check base_url of test" in complaint


@pytest.mark.parametrize("status", [429, 503])
def test_a_query_that_the_provider_refuses_says_what_to_do(
    docs: Synced, typed: Callable[..., tuple[int, str, str]], status: int
) -> None:
    docs.endpoint.fail(status=status)
    code, _, complaint = typed("search", "docs", f"refused with {status}")
    assert (code, str(status) in complaint) == (1, True)
    assert "→ try again; if it recurs: pgvector-sync provider test test" in complaint


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_selects_rows_and_shows_the_next_page(
    docs: Synced, typed: Callable[..., tuple[int, str, str]]
) -> None:
    docs.run("INSERT INTO docs VALUES (3, 'three'), (4, 'four')")
    docs.sync()
    code, printed, said = typed(
        "search", "docs", "one", "-k", "2", "--where", "id <> 2 AND body LIKE '%o%' OR id = 3"
    )
    assert (code, printed.splitlines()[1].split()) == (0, ["1.000", "1", "one"])
    [after] = re.findall(r"^for more: --after (\S+)$", said, re.MULTILINE)
    second = printed.splitlines()[2].split()[1]
    code, printed, said = typed("search", "docs", "one", "--where", "id <> 2", "--after", after, "--json")
    document = json.loads(printed)
    assert code == 0
    assert [hit["key"][0] for hit in document["hits"]] == list({3, 4} - {int(second)})
    assert (document["next"], document["complete"], document["model"]) == (None, True, MODEL)
    code, printed, _ = typed("search", "docs", "one", "--min-similarity", "0.999")
    assert (code, len(printed.splitlines())) == (0, 2)
    code, printed, said = typed("search", "docs", "one", "--where", "false")
    assert (code, len(printed.splitlines()), said.strip()) == (0, 1, "no row was found")


def test_the_command_shows_how_rows_are_found(docs: Synced, typed: Callable[..., tuple[int, str, str]]) -> None:
    code, printed, _ = typed("search", "docs", "one", "--where", "id = 1", "--explain")
    assert code == 0
    assert "docs_embedding" in printed
    assert "Execution Time" in printed
    code, printed, _ = typed("search", "docs", "one", "--explain", "--json")
    assert json.loads(printed)["plan"][-1].startswith("Execution Time")


def test_the_command_complains_without_a_stack_trace(
    docs: Synced, typed: Callable[..., tuple[int, str, str]]
) -> None:
    for arguments, words in (
        (["--where", "nothing = 1"], "the condition is not valid for public.docs"),
        (["--where", "id = %(id)s"], "`where` needs a value for id"),
        (["--min-similarity", "2"], "expected min_similarity from -1 to 1"),
        (["--after", "x"], "`after` isn't a valid page token"),
    ):
        code, printed, complaint = typed("search", "docs", "one", *arguments)
        assert (code, printed) == (1, "")
        assert complaint.startswith(f"error: {words}")
        assert "→" in complaint
