"""What is proposed for a file that lacks what its model expects, and what silences it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.dialects.openai_compatible import OpenAICompatible
from pgvector_sync.embedding.families.proposal import Proposal, proposal_of
from pgvector_sync.embedding.families.table import FAMILIES
from pgvector_sync.model import DocumentInput, Options, Provider, QueryInput, Spec

OLLAMA = Provider("ollama", "http://ollama:11434/v1")
GOOGLE = Provider("google", "https://generativelanguage.googleapis.com/v1beta/openai")
E5 = ('document.prefix = "passage: "', 'query.prefix = "query: "')


class Native(OpenAICompatible):
    """A dialect that knows documents from queries, for one of its models."""

    name = "voyage"

    def adapts(self, spec: Spec) -> bool:
        return spec.model == "voyage-4"


def options(model: str, document: DocumentInput | None = None, query: QueryInput | None = None) -> Options:
    return Options(
        text="body",
        provider="any",
        model=model,
        dimensions=8,
        document=document or DocumentInput(),
        query=query or QueryInput(),
    )


def proposed(*declared: Any, provider: Provider = OLLAMA) -> Proposal:
    proposal = proposal_of(options(*declared), provider)
    assert proposal is not None
    return proposal


def test_both_prefixes_are_proposed_with_their_source() -> None:
    source = "https://huggingface.co/intfloat/multilingual-e5-large"
    assert proposed("e5:small") == Proposal("E5 and multilingual E5", E5, None, source)


def test_a_family_that_only_prefixes_queries_changes_no_document() -> None:
    lines = proposed("qwen3-embedding:0.6b").lines
    instruct = "Instruct: Given a web search query, retrieve relevant passages that answer the query\\nQuery:"
    assert lines == (f'query.prefix = "{instruct}"',)


@pytest.mark.parametrize(
    ("given", "remaining"),
    [
        ((DocumentInput(prefix="passage: "),), E5[1:]),
        ((None, QueryInput(prefix="query: ")), E5[:1]),
        ((DocumentInput(prefix=""),), E5[1:]),
        ((DocumentInput(body={"prompt_name": "passage"}),), E5[1:]),
        ((DocumentInput(body={"taskType": "RETRIEVAL_DOCUMENT"}),), E5[1:]),
        ((DocumentInput(body={"truncate_prompt_tokens": 512}),), E5),
    ],
    ids=str,
)
def test_only_what_the_file_does_not_say_is_proposed(given: tuple[Any, ...], remaining: tuple[str, ...]) -> None:
    assert proposed("intfloat/e5-base-v2", *given).lines == remaining


def test_two_empty_prefixes_silence_it() -> None:
    assert proposal_of(options("e5", DocumentInput(prefix=""), QueryInput(prefix="")), OLLAMA) is None


@pytest.mark.parametrize("model", ["bge-m3", "text-embedding-3-small", "granite-embedding:30m", "unheard-of"])
def test_nothing_is_proposed_for_a_model_that_expects_nothing(model: str) -> None:
    assert proposal_of(options(model), OLLAMA) is None


def test_another_model_for_queries_gets_what_its_own_family_expects() -> None:
    proposal = proposed("bge-m3", None, QueryInput(model="bge-small-en-v1.5"))
    assert proposal.family == "BGE English 1 and 1.5"
    assert proposal.lines == ('query.prefix = "Represent this sentence for searching relevant passages: "',)
    assert proposal_of(options("bge-m3", None, QueryInput(model="bge-m3")), OLLAMA) is None


def test_a_dialect_of_the_family_is_proposed_and_once_it_is_used_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(DIALECTS, "voyage", raising=False)
    monkeypatch.delitem(DIALECTS, "gemini", raising=False)
    lines = ('document.body.input_type = "document"', 'query.body.input_type = "query"')
    assert (proposed("voyage-4").lines, proposed("voyage-4").dialect) == (lines, None)
    assert proposal_of(options("gemini-embedding-001"), GOOGLE) is None, "this endpoint has no parameter for it"
    monkeypatch.setitem(DIALECTS, "voyage", Native())
    monkeypatch.setitem(DIALECTS, "gemini", Native())
    assert (proposed("voyage-4").lines, proposed("voyage-4").dialect) == (lines, "voyage")
    at_google = proposed("gemini-embedding-001", provider=GOOGLE)
    assert (at_google.lines, at_google.dialect) == ((), "gemini")
    native = Provider("voyage", "https://api.voyageai.com/v1", dialect="voyage")
    assert proposal_of(options("voyage-4"), native) is None
    assert proposed("voyage-3", provider=native).dialect is None, "it is used already"


def test_a_dialect_that_a_family_names_gives_its_models_what_they_expect() -> None:
    named = [family for family in FAMILIES if family.dialect]
    assert named
    for family in named:
        model = family.models[0].replace("*", "v4.0")
        if family.dialect in DIALECTS:
            assert DIALECTS[family.dialect].adapts(Spec(model, 8)), f"{family.dialect} doesn't adapt {model}"


def test_an_onnx_folder_that_brings_prompts_needs_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "e5-small-v2"
    folder.mkdir()
    here = Provider("local", dialect="local")
    assert proposed(f"onnx:{folder}", provider=here).lines == E5, "E5's own repositories have no prompts"
    config = folder / "config_sentence_transformers.json"
    config.write_text('{"prompts": {"query": "query: ", "passage": "passage: "}}')
    assert proposal_of(options(f"onnx:{folder}"), here) is None
    assert proposed(f"onnx:{folder}/onnx/model_int8.onnx", provider=here).lines == E5, "it isn't this folder's"
    (folder / "tokenizer.json").touch()
    assert proposal_of(options(f"onnx:{folder}/onnx/model_int8.onnx"), here) is None
    config.write_text("not JSON")
    assert proposed(f"onnx:{folder}", provider=here).lines == E5


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_lines_say_what_the_family_expects_once_they_are_pasted(family: Any) -> None:
    model = family.models[0].replace("*", "small")
    provider = Provider("p", f"https://{family.hosts[0] if family.hosts else 'models.example.com'}/v1")
    proposal = proposal_of(options(model), provider)
    pasted = tomllib.loads("\n".join(proposal.lines)) if proposal else {}
    given = DocumentInput(**pasted.get("document", {})), QueryInput(**pasted.get("query", {}))
    assert (given[0].prefix, given[0].body) == (family.document.prefix, family.document.body)
    assert (given[1].prefix, given[1].body) == (family.query.prefix, family.query.body)
    after = proposal_of(options(model, *given), provider)
    assert after is None or not after.lines
