"""`provider test` as it is typed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pgvector_sync.cli import console
from support.choosy_endpoint import Choosy, choosy_endpoint
from support.endpoint import ENVIRONMENT
from support.processes import Processes
from support.synced import DOCS, Synced

Typed = Callable[..., tuple[int, str, str]]
PIPELINE = """
[pipelines.{name}]
source = "{name}"
text = ["body"]
provider = "test"
model = "{model}"
dimensions = 64
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, without a database."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def declare(folder: Path, endpoint: Choosy, *settings: str, pipelines: dict[str, str] | None = None) -> None:
    """Writes a file with the provider `test`, and a pipeline for each name and model."""
    lines = ["[providers.test]", f'base_url = "{endpoint.base_url}"', 'api_key_env = "TEST_KEY"', *settings]
    named = {"docs": "model-a"} if pipelines is None else pipelines
    sections = [PIPELINE.format(name=name, model=model) for name, model in named.items()]
    (folder / "pgvector-sync.toml").write_text("\n".join(lines) + "\n" + "".join(sections), "utf-8")


def test_a_declared_provider_is_tested_without_a_database(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(max_inputs=33) as endpoint:
        declare(folder, endpoint)
        code, out, err = command_line("provider", "test", "test", "--yes")
    assert code == 0
    assert re.search(r"^ +settings as they are +accepted, 64 dimensions", out, re.MULTILINE)
    assert re.search(r"^! +batch of 64 +refused \(413 batch_too_large\) +max_inputs = 33", out, re.MULTILINE)
    assert "test works with the settings it has. To add to the file:" in out
    assert tomllib.loads(out[out.index("[providers.test]") :]) == {"providers": {"test": {"max_inputs": 33}}}
    assert f"test, {endpoint.base_url}: model-a, 64 dimensions, as in pipeline docs" in err
    calls = re.search(r"at most (\d+) calls with [\d,]+ texts, about [\d,]+ tokens: price unknown", err)
    assert calls
    assert 10 < endpoint.requests <= int(calls[1])


def test_the_pasted_section_makes_it_work(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(encodings=("none",), max_inputs=10) as endpoint:
        declare(folder, endpoint)
        code, out, _ = command_line("provider", "test", "test", "--yes")
        assert code == 1
        assert "test does not work with the settings it has. To add to the file:" in out
        section = out[out.index("[providers.test]") :].splitlines()[1:]
        declare(folder, endpoint, *section)
        code, out, _ = command_line("provider", "test", "test", "--yes")
    assert code == 0
    assert "test works with the settings it has; no setting needs to change" in out


def test_nothing_is_called_without_a_terminal_or_yes(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint() as endpoint:
        declare(folder, endpoint)
        code, out, err = command_line("provider", "test", "test")
    assert (code, out, endpoint.requests) == (1, "", 0)
    assert re.search(r"refusing without --yes: at most \d+ calls", err)


def test_a_host_that_is_not_allowed_is_not_called(
    folder: Path, command_line: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGVECTOR_SYNC_ALLOWED_HOSTS")
    with choosy_endpoint() as endpoint:
        declare(folder, endpoint)
        code, _, err = command_line("provider", "test", "test", "--yes")
    assert (code, endpoint.requests) == (1, 0)
    assert "export PGVECTOR_SYNC_ALLOWED_HOSTS=" in err


def test_a_model_is_chosen_or_taken_from_a_pipeline(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(max_inputs=1) as endpoint:
        declare(folder, endpoint, pipelines={"docs": "model-a", "notes": "model-b", "more": "model-a"})
        _, _, err = command_line("provider", "test", "test", "--yes")
        assert "pipelines with another model or input: notes (--model tests another model)" in err
        command_line("provider", "test", "test", "--yes", "--model", "model-b", "--dimensions", "32")
        assert {(body["model"], body.get("dimensions")) for body in endpoint.bodies} >= {
            ("model-a", 64),
            ("model-b", 32),
        }


def test_a_file_needs_no_pipeline(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(max_inputs=1) as endpoint:
        declare(folder, endpoint, pipelines={})
        code, _, err = command_line("provider", "test", "test", "--yes")
        assert (code, endpoint.requests) == (2, 0)
        assert "name a model: --model MODEL --dimensions NUMBER" in err
        code, _, err = command_line("provider", "test", "test", "--yes", "--model", "model-a")
        assert (code, endpoint.requests) == (2, 0)
        assert "the dimensions of model-a aren't known" in err
        code, _, _ = command_line("provider", "test", "test", "--yes", "--model", "model-a", "--dimensions", "64")
        assert code == 0
        assert endpoint.requests > 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no provider nowhere"),
        (["openai"], "no pipeline uses openai → name a model: --model MODEL --dimensions NUMBER"),
        (["test", "--file", "missing.toml"], "missing.toml: no such file"),
        (["test", "--dimensions", "0"], "greater than or equal to 1"),
        (["test", "--time-limit", "0"], "greater than or equal to 1"),
    ],
)
def test_a_wrong_argument_is_a_config_error(
    folder: Path, command_line: Typed, arguments: list[str], says: str
) -> None:
    code, out, err = command_line("provider", "test", *arguments)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())


def test_an_unreachable_provider_is_reported_with_what_to_check(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint() as endpoint:
        declare(folder, endpoint)
    code, out, _ = command_line("provider", "test", "test", "--yes")
    assert code == 1
    assert "stopped after 1 call: the connection to the provider failed" in out
    assert "→ check base_url of test" in out
    assert out.endswith("test does not work with the settings it has\n")


def test_a_rate_limit_is_shown_with_the_wait(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(rate_limited_after=5) as endpoint:
        declare(folder, endpoint)
        code, out, _ = command_line("provider", "test", "test", "--yes")
    assert (code, endpoint.requests) == (0, 6)
    assert "stopped after 6 calls: rate limited by the provider (429 slow_down)" in out
    assert "→ run the test again in 20 s" in out


def test_the_document_has_the_settings(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(max_inputs=32) as endpoint:
        declare(folder, endpoint)
        code, out, _ = command_line("provider", "test", "test", "--yes", "--json")
    document = json.loads(out)
    assert (code, document["version"], document["works"], document["stopped_by"]) == (0, 1, True, None)
    assert (document["calls"], document["texts"]) == (endpoint.requests, endpoint.texts)
    assert {setting["key"]: setting["value"] for setting in document["settings"]} == {"max_inputs": 32}


def test_a_stored_provider_is_tested_if_the_file_lacks_it(synced: Synced, typed: Typed) -> None:
    synced.run(DOCS)
    synced.pipeline()
    code, out, err = typed("provider", "test", "test", "--yes")
    assert code == 0
    assert "as in pipeline docs" in err
    assert "dimensions              8 requested and returned" in out


def test_a_narrow_terminal_shows_settings_below_results(
    folder: Path, command_line: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    with choosy_endpoint(max_inputs=10, window=512, truncates=True, encodings=("float", "none")) as endpoint:
        declare(folder, endpoint)
        _, out, _ = command_line("provider", "test", "test", "--yes")
    lines = out.splitlines()
    assert max(map(len, map(str.rstrip, lines))) <= 80
    for setting in ("max_inputs = 10", 'encoding = "float"'):
        assert [line.split() for line in lines].count(["→", *setting.split()]) == 1


def test_the_forms_that_a_model_expects_are_part_of_what_is_pasted(folder: Path, command_line: Typed) -> None:
    with choosy_endpoint(max_inputs=1) as endpoint:
        declare(folder, endpoint, pipelines={"docs": "nomic-embed-text"})
        code, out, _ = command_line("provider", "test", "test", "--yes")
        assert code == 0
        assert re.search(r"^! +query and document +the same form, but the model expects", out, re.MULTILINE)
        sections, *consequences = out[out.index("[providers.test]") :].split("  → ")
        pasted = tomllib.loads(sections)
        assert pasted["providers"] == {"test": {"max_inputs": 1}}
        forms = pasted["pipelines"]["docs"]
        assert forms == {"document": {"prefix": "search_document: "}, "query": {"prefix": "search_query: "}}
        assert "embeds every row again" in consequences[0]
        written = (folder / "pgvector-sync.toml").read_text("utf-8")
        lines = 'document.prefix = "search_document: "\nquery.prefix = "search_query: "\n'
        (folder / "pgvector-sync.toml").write_text(written + lines, "utf-8")
        _, out, _ = command_line("provider", "test", "test", "--yes")
        assert re.search(r"^ +query and document +different vectors", out, re.MULTILINE)
        assert "[pipelines" not in out


@pytest.mark.slow
def test_ctrl_c_prints_what_is_known_so_far(folder: Path, processes: Processes) -> None:
    with choosy_endpoint(seconds_per_text=0.2) as endpoint:
        declare(folder, endpoint)
        file = str(folder / "pgvector-sync.toml")
        started = processes.command("provider", "test", "test", "--yes", "--file", file, **ENVIRONMENT)
        started.wait_for(lambda: any(len(body["input"]) == 33 for body in endpoint.bodies))
        started.interrupt()
        assert started.wait(5) == 130
    assert re.search(r"stopped after \d+ calls: interrupted", started.printed)
    assert re.search(r"batch of 2 +accepted, in order", started.printed)
    assert "Traceback" not in started.printed
