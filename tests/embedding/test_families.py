"""Families of models: names as people write them, and what is recommended for documents and queries."""

from __future__ import annotations

import re

import pytest

from pgvector_sync.embedding.families.family import Family
from pgvector_sync.embedding.families.table import FAMILIES, family_of

E5 = ("passage: ", "query: ")
NOMIC = ("search_document: ", "search_query: ")
GEMMA = ("title: none | text: ", "task: search result | query: ")
REPRESENT = (None, "Represent this sentence for searching relevant passages: ")
INSTRUCT = (
    None,
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
)
NOTHING = (None, None)

PREFIXES = {
    E5: (
        "intfloat/e5-base-v2",
        "intfloat/multilingual-e5-small",
        "e5:small",
        "yxchia/multilingual-e5-large:latest",
        "onnx:/models/multilingual-e5-small",
        "onnx:/models/multilingual-e5-small/onnx/model_qint8.onnx",
        "/models/e5-large-v2/",
        "text-embedding-multilingual-e5-large",
        "mixedbread-ai/deepset-mxbai-embed-de-large-v1",
    ),
    NOMIC: (
        "nomic-embed-text",
        "nomic-embed-text:latest",
        "nomic-embed-text:v1.5",
        "nomic-ai/nomic-embed-text-v1.5",
        "nomic-ai/nomic-embed-text-v2-moe",
        "hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q4_K_M",
        "text-embedding-nomic-embed-text-v1.5",
        "nomic-embed-text-v1.5.Q8_0.gguf",
        "nomic-ai/modernbert-embed-base",
    ),
    GEMMA: (
        "embeddinggemma",
        "embeddinggemma:300m-qat-q8_0",
        "embeddinggemma-2:740m",
        "google/embeddinggemma-300m",
        "@cf/google/embeddinggemma-300m",
        "gemini-embedding-2",
        "models/gemini-embedding-2-preview",
        "google/gemini-embedding-2",
    ),
    REPRESENT: (
        "BAAI/bge-base-en-v1.5",
        "BAAI/bge-small-en",
        "bge-large",
        "bge-large:335m-en-v1.5-fp16",
        "hf.co/CompendiumLabs/bge-base-en-v1.5-gguf:Q8_0",
        "mixedbread-ai/mxbai-embed-large-v1",
        "mxbai-embed-large:335m",
        "WhereIsAI/UAE-Large-V1",
        "Snowflake/snowflake-arctic-embed-m-v1.5",
        "snowflake-arctic-embed:335m",
        "snowflake-arctic-embed-m-long",
    ),
    INSTRUCT: (
        "intfloat/multilingual-e5-large-instruct",
        "multilingual-e5-large-instruct-q8_0.gguf",
        "intfloat/e5-mistral-7b-instruct",
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
        "microsoft/harrier-oss-v1-0.6b",
    ),
    (None, INSTRUCT[1].rstrip()): (
        "Qwen/Qwen3-Embedding-0.6B",
        "qwen3-embedding:8b",
        "accounts/fireworks/models/qwen3-embedding-8b",
        "hf.co/Qwen/Qwen3-Embedding-4B-GGUF:Q5_K_M",
    ),
    (None, "query: "): (
        "Snowflake/snowflake-arctic-embed-l-v2.0",
        "Snowflake/snowflake-arctic-embed-m-v2.0",
        "snowflake-arctic-embed2:568m",
    ),
    ("Document: ", "Query: "): ("jinaai/jina-embeddings-v5-text-nano-retrieval",),
    ("Passage: ", "Query: "): ("jinaai/jina-embeddings-v4-vllm-retrieval",),
    (None, "为这个句子生成表示以用于检索相关文章："): ("BAAI/bge-large-zh-v1.5",),  # noqa: RUF001
    NOTHING: (
        "BAAI/bge-m3",
        "bge-m3:567m",
        "Alibaba-NLP/gte-multilingual-base",
        "thenlper/gte-small",
        "ibm-granite/granite-embedding-english-r2",
        "granite-embedding:278m",
        "jinaai/jina-embeddings-v2-base-de",
        "openai/text-embedding-3-large",
        "mistral-embed",
        "all-minilm:33m",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
}
BODIES = {
    ("input_type", "document", "query"): ("voyage-3.5-lite", "voyage-4-large", "voyage-code-3"),
    ("input_type", "search_document", "search_query"): (
        "embed-english-v3.0",
        "embed-multilingual-light-v3.0",
        "cohere.embed-english-v3",
        "Cohere-embed-v3-multilingual",
        "embed-v4.0",
        "embed-v-4-0",
        "cohere/embed-5-fast",
        "embed-v5.0-pro",
    ),
    ("input_type", "passage", "query"): ("nvidia/llama-3.2-nv-embedqa-1b-v2", "nvidia/nv-embedqa-e5-v5"),
    ("task_type", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"): (
        "gemini-embedding-001",
        "vertex_ai/text-embedding-005",
    ),
}


def known(model: str, host: str = "models.example.com") -> Family:
    family = family_of(model, f"https://{host}:8443/v1")
    assert family is not None, f"{model} isn't known"
    return family


@pytest.mark.parametrize(
    ("model", "prefixes"), [(model, prefixes) for prefixes, models in PREFIXES.items() for model in models]
)
def test_a_family_is_known_by_its_models_names(model: str, prefixes: tuple[str | None, str | None]) -> None:
    family = known(model)
    assert (family.document.prefix, family.query.prefix) == prefixes
    assert not family.document.body
    assert not family.query.body


@pytest.mark.parametrize(
    ("model", "values"), [(model, values) for values, models in BODIES.items() for model in models]
)
def test_a_family_with_a_parameter_is_known_by_its_models_names(model: str, values: tuple[str, str, str]) -> None:
    family, (name, document, query) = known(model), values
    assert (family.document.body, family.query.body) == ({name: document}, {name: query})
    assert (family.document.prefix, family.query.prefix) == NOTHING


@pytest.mark.parametrize(
    "model", ["our-own-model", "wordllama", "e50-tuned", "embedder", "bge-en-icl", "prod-deployment-3", "", "///"]
)
def test_a_model_with_another_name_has_no_family(model: str) -> None:
    assert family_of(model, "https://models.example.com/v1") is None
    assert family_of(model, None) is None


def test_what_is_recommended_depends_on_the_host_where_the_api_has_a_parameter_for_it() -> None:
    at_jina = known("jina-embeddings-v3", "api.jina.ai")
    assert at_jina.query.body == {"task": "retrieval.query"}
    assert (
        known("jinaai/jina-embeddings-v3").query.prefix
        == "Represent the query for retrieving evidence documents: "
    )
    at_google = known("gemini-embedding-001", "generativelanguage.googleapis.com")
    assert not at_google.document
    assert at_google.dialect == "gemini"
    at_cohere = known("embed-v4.0", "api.cohere.ai")
    assert (at_cohere.document, at_cohere.dialect) == (at_google.document, "cohere")
    assert known("voyage-4-nano").document.prefix == "Represent the document for retrieval: "


def test_every_family_names_its_source_and_none_is_hidden_by_an_earlier_one() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"https://[^\s|]+", family.source), family.name
        assert family.document.prefix != ""
        assert family.query.prefix != ""
        for part in family.models:
            host = family.hosts[0] if family.hosts else "models.example.com"
            assert known(part.replace("*", "small"), host) is family, part
