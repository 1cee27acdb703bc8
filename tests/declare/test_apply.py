"""`apply` as typed: what is refused before anything changes, and what is shown before it asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pgvector_sync.declare.declared import check_declared
from pgvector_sync.declare.file import load_config
from pgvector_sync.declare.planned import estimates_of
from pgvector_sync.declare.planning import make_plan
from pgvector_sync.errors import ConfigError
from pgvector_sync.runs import estimate as module
from pgvector_sync.settings import Settings
from support.synced import DOCS, Synced

Typed = Callable[..., tuple[int, str, str]]


def declared(folder: Path, text: str, **settings: object) -> list[str]:
    """Return the warnings about a file. Raises ConfigError."""
    file = folder / "pgvector-sync.toml"
    file.write_text(text)
    return check_declared(load_config(file), Settings(_env_file=None, **{"openai_base_url": None, **settings}))


LOCAL = '[pipelines.docs]\nsource = "docs"\ntext = ["body"]\nprovider = "local"\n'
REMOTE = (
    '[providers.mine]\nbase_url = "{}"\n[pipelines.docs]\nsource = "docs"\ntext = ["body"]\n'
    'provider = "mine"\nmodel = "m"\ndimensions = 8\n'
)
OPENAI = REMOTE.replace("[providers.mine]", '[providers.mine]\napi_key_env = "OPENAI_API_KEY"')


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        (LOCAL + "dimensions = 1536", {}, "pipelines.docs.dimensions: the local model doesn't support 1536"),
        (
            '[providers.gemini]\nbase_url = "https://generativelanguage.googleapis.com/v1beta/openai/"\n'
            + LOCAL.replace("local", "gemini")
            + 'model = "gemini-embedding-001"\ndimensions = 768',
            {},
            "providers.gemini.base_url: this is the address of an OpenAI-compatible API, and the provider's dialect",
        ),
        (
            LOCAL.replace("local", "cohere") + 'model = "embed-v4.0"\ndimensions = 768',
            {},
            "pipelines.docs.dimensions: expected 256, 512, 1024, 1536 for embed-v4.0, got 768",
        ),
        (LOCAL + 'model = "bert"', {}, "pipelines.docs.model: unknown local model"),
        (
            REMOTE.format("http://ollama:11434/v1"),
            {},
            "providers.mine.base_url: base_url of mine calls ollama:11434",
        ),
        (
            REMOTE.format("https://x.example/v1/embeddings"),
            {},
            "providers.mine.base_url: expected the URL without",
        ),
        (
            OPENAI.format("https://api.openai.com/v1"),
            {"openai_base_url": "https://proxy.example/v1/embeddings"},
            "providers.mine: OPENAI_BASE_URL ends in /embeddings",
        ),
    ],
)
@pytest.mark.quick_variants(4)
def test_what_can_work_in_no_environment_is_refused_with_its_key(
    tmp_path: Path, text: str, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        declared(tmp_path, text, **settings)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        LOCAL + "dimensions = 7\n" + REMOTE.format("http://ollama/v1").replace("pipelines.docs", "pipelines.more")
    )
    with pytest.raises(ConfigError) as caught:
        declared(tmp_path, text)
    assert "providers.mine.base_url" in str(caught.value)
    assert "pipelines.docs.dimensions" in str(caught.value)
    assert "PGVECTOR_SYNC_ALLOWED_HOSTS=http://ollama" in (caught.value.hint or "")
    assert "64, 128, 256" in (caught.value.hint or "")


def test_a_host_that_only_the_workers_may_allow_is_a_warning(tmp_path: Path) -> None:
    [warning] = declared(tmp_path, REMOTE.format("https://x.example/v1"))
    assert "providers.mine.base_url: this environment does not allow calls to x.example" in warning
    assert "PGVECTOR_SYNC_ALLOWED_HOSTS" in warning
    assert declared(tmp_path, REMOTE.format("https://x.example/v1"), allowed_hosts="x.example") == []
    assert declared(tmp_path, REMOTE.format("http://ollama:11434"), allowed_hosts="http://ollama:11434") == []


def test_a_key_that_only_the_workers_may_bind_to_its_host_is_a_warning(tmp_path: Path) -> None:
    text = REMOTE.format("https://x.example/v1").replace(
        "[providers.mine]", '[providers.mine]\napi_key_env = "X_KEY"'
    )
    [warning] = declared(tmp_path, text, allowed_hosts="http://ollama:11434,x.example")
    assert "providers.mine.api_key_env: this environment does not bind X_KEY to x.example" in warning
    line = "PGVECTOR_SYNC_ALLOWED_HOSTS=http://ollama:11434,x.example=X_KEY"
    assert warning.endswith(f"export {line}")
    assert declared(tmp_path, text, allowed_hosts=line.partition("=")[2]) == []


def test_a_folder_that_only_the_workers_may_have_is_a_warning(tmp_path: Path) -> None:
    [warning] = declared(tmp_path, LOCAL + 'model = "onnx:/models/there"\ndimensions = 384')
    assert warning.startswith("pipelines.docs.model:")


def test_apply_refuses_before_it_changes_anything(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS)
    Path("pgvector-sync.toml").write_text(LOCAL + "dimensions = 1536")
    code, out, err = typed("apply", "--yes")
    assert (code, out) == (2, "")
    assert "pipelines.docs.dimensions" in err
    assert "one of 64, 128, 256" in err
    assert synced.names() == []


def test_tokens_and_dollars_are_shown_before_it_asks(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, repeat('word ', 100) || n FROM generate_series(1, 2000) n")
    synced.declare()
    synced.plan()
    code, out, err = typed("apply")
    assert code == 1
    assert "about" not in out
    tokens = re.search(r"    cost      ([\d,]+) tokens, price unknown \(set it under \[prices\]\)", out)
    assert tokens is not None, out
    assert int(tokens[1].replace(",", "")) > 2000 * 100
    assert f"embeds 2,000 rows with text-embedding-3-small at test: {tokens[1]} tokens" in err
    assert synced.names() == []


def test_a_price_from_the_file_is_used(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, repeat('word ', 100) || n FROM generate_series(1, 200) n")
    synced.declare()
    synced.plan()
    with synced.file.open("a") as file:
        file.write('[prices]\n"text-embedding-3-small" = 1000\n')
    assert re.search(r"cost      [\d,]+ tokens, \$2\d\.\d\d\n", typed("apply", "--dry-run")[1])


def test_a_changed_text_costs_only_what_is_not_stored(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 20) n")
    synced.pipeline()
    synced.declare(text={"sql": "CASE WHEN id > 1 THEN body ELSE 'new' END"})
    synced.plan()
    assert "cost      1 tokens, price unknown" in typed("apply", "--dry-run")[1]


def test_a_text_that_fails_on_a_row_does_not_prevent_apply(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'a', '0'), (2, 'b', '1')")
    synced.declare(text={"sql": "body || 1 / note::int"}, where="1 / note::int = 1")
    synced.plan()
    code, out, _ = typed("apply", "--yes")
    assert code == 0
    assert "applied" in out


def test_a_table_too_large_to_count_is_sampled_by_blocks(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    synced.run(
        DOCS,
        "INSERT INTO docs SELECT n, repeat('word ', 1 + n % 40) || n FROM generate_series(1, 20000) n",
        "ANALYZE docs",
    )
    synced.declare(where="id % 4 = 0")
    monkeypatch.setattr(module, "BLOCK_ROWS", 4_000)
    exact = estimates_of(synced.runtime, synced.plan())["docs"]
    monkeypatch.setattr("pgvector_sync.declare.count.COUNT_LIMIT_ROWS", 100)
    sampled = estimates_of(synced.runtime, synced.plan())["docs"]
    assert exact is not None
    assert sampled is not None
    assert exact.rows == 5_000
    assert sampled.rows == pytest.approx(5_000, rel=0.2)
    assert sampled.tokens == pytest.approx(exact.tokens, rel=0.3)
    with synced.owner.database.transaction() as connection:
        assert make_plan(connection, load_config(synced.file)).pending[0].matching_exact is False


def test_an_estimate_needs_no_pipeline(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two'), (3, 'two')")
    synced.declare()
    synced.plan()
    code, out, err = typed("reembed", "docs", "--estimate")
    assert code == 0
    assert "rows    3, 3 of them sampled\nsaved   1 need no call" in out
    assert "docs isn't applied yet: estimated from pgvector-sync.toml" in err
    assert synced.names() == []
    code, _, err = typed("reembed", "more", "--estimate", "-f", "pgvector-sync.toml")
    assert (code, "doesn't declare pipeline more" in err) == (1, True)
    assert typed("reembed", "more", "--estimate")[0] == 1
    Path("keys").write_text("1\n2\n")
    assert "rows    2," in typed("reembed", "docs", "--estimate", "--keys", "keys")[1]


def test_an_estimate_of_a_change_that_is_not_applied(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    synced.pipeline()
    synced.declare(text={"sql": "body || '!'"})
    synced.plan()
    assert "inputs  0 to" in typed("reembed", "docs", "--estimate")[1], "as it is"
    code, out, err = typed("reembed", "docs", "--estimate", "--file", "pgvector-sync.toml")
    assert code == 0
    assert "inputs  2 to" in out
    assert "aren't applied yet" in err


def test_paying_again_needs_a_confirmation_that_shows_tokens_and_dollars(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS, "INSERT INTO docs VALUES (1, 'one'), (2, 'two')")
    synced.pipeline()
    with synced.file.open("a") as file:
        file.write('[prices]\n"text-embedding-3-small" = 1000000\n')
    assert typed("apply", "--file", str(synced.file), "--yes")[0] == 0
    code, _, err = typed("reembed", "docs", "--force")
    assert code == 1
    assert "refusing without --yes: this re-embeds 2 rows of docs at test: 2 tokens, $2.00" in " ".join(
        err.split()
    )
    assert typed("reembed", "docs")[0] == 0, "what costs nothing is not asked for"
    assert typed("reembed", "docs", "--force", "--yes")[0] == 0
