"""The known families of models.

Nothing here changes a request: `apply` proposes what the file lacks, and `doctor` warns. The table in
docs/documents-and-queries.md is made from `FAMILIES`.
"""

from __future__ import annotations

import re

from pgvector_sync.embedding.families.family import Family, parameters, prefixes


def family_of(model: str, base_url: str | None) -> Family | None:
    """Return the family of a model at an address, which a model in this process lacks; None if it isn't known."""
    host = re.match(r"https?://([^/:]*)", (base_url or "").lower())
    return next((family for family in FAMILIES if family.has(model, host and host[1])), None)


_INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCT_QUERY = prefixes(None, f"{_INSTRUCT}\nQuery: ")
_REPRESENT_QUERY = prefixes(None, "Represent this sentence for searching relevant passages: ")
_SEARCH = prefixes("search_document: ", "search_query: ")
_PASSAGE = prefixes("passage: ", "query: ")
_TITLE = prefixes("title: none | text: ", "task: search result | query: ")
_COHERE = parameters("input_type", "search_document", "search_query")
_MODELS = "https://huggingface.co"
_GEMINI = "https://ai.google.dev/gemini-api/docs/embeddings"

FAMILIES = (
    Family(
        name="NVIDIA NIM retrieval models",
        models=("nv-embedqa", "nemotron-embed", "nemoretriever-*-embed"),
        **parameters("input_type", "passage", "query"),
        source="https://docs.nvidia.com/nim/nemo-retriever/text-embedding/latest/reference.html",
    ),
    Family(
        name="E5 instruct",
        models=("e5-*-instruct",),
        **_INSTRUCT_QUERY,
        source=f"{_MODELS}/intfloat/multilingual-e5-large-instruct",
    ),
    Family(
        name="E5 and multilingual E5",
        models=("e5",),
        **_PASSAGE,
        window=512,
        source=f"{_MODELS}/intfloat/multilingual-e5-large",
    ),
    Family(
        name="Nomic Embed Text 2",
        models=("nomic-embed-text-v2",),
        **_SEARCH,
        window=512,
        source=f"{_MODELS}/nomic-ai/nomic-embed-text-v2-moe",
    ),
    Family(
        name="Nomic Embed Text 1 and 1.5, ModernBERT Embed",
        models=("nomic-embed-text", "modernbert-embed"),
        **_SEARCH,
        window=8192,
        source=f"{_MODELS}/nomic-ai/nomic-embed-text-v1.5",
    ),
    Family(
        name="Nomic Embed Code",
        models=("nomic-embed-code",),
        **prefixes(None, "Represent this query for searching relevant code: "),
        source=f"{_MODELS}/nomic-ai/nomic-embed-code",
    ),
    Family(name="BGE-M3", models=("bge-m3",), window=8192, source=f"{_MODELS}/BAAI/bge-m3"),
    Family(
        name="BGE multilingual Gemma 2",
        models=("bge-multilingual-gemma2",),
        **prefixes(None, f"<instruct>{_INSTRUCT.removeprefix('Instruct: ')}.\n<query>"),
        window=8192,
        source=f"{_MODELS}/BAAI/bge-multilingual-gemma2",
    ),
    Family(
        name="BGE Chinese",
        models=("bge-*-zh",),
        **prefixes(None, "为这个句子生成表示以用于检索相关文章："),  # noqa: RUF001  a part of the model's prefix
        window=512,
        source=f"{_MODELS}/BAAI/bge-large-zh-v1.5",
    ),
    Family(
        name="BGE English 1 and 1.5",
        models=("bge-*-en", "bge-small", "bge-base", "bge-large"),
        **_REPRESENT_QUERY,
        window=512,
        source=f"{_MODELS}/BAAI/bge-large-en-v1.5",
    ),
    Family(
        name="GTE Qwen",
        models=("gte-qwen*",),
        **_INSTRUCT_QUERY,
        source=f"{_MODELS}/Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    ),
    Family(name="GTE", models=("gte",), source=f"{_MODELS}/Alibaba-NLP/gte-multilingual-base"),
    Family(
        name="Qwen3 Embedding",
        models=("qwen3-embedding",),
        **prefixes(None, f"{_INSTRUCT}\nQuery:"),
        window=32_768,
        source="https://github.com/QwenLM/Qwen3-Embedding",
    ),
    Family(
        name="Harrier",
        models=("harrier-oss",),
        **_INSTRUCT_QUERY,
        window=32_768,
        source=f"{_MODELS}/microsoft/harrier-oss-v1-0.6b",
    ),
    Family(
        name="Stella",
        models=("stella-en",),
        **prefixes(None, f"{_INSTRUCT}.\nQuery: "),
        source=f"{_MODELS}/NovaSearch/stella_en_400M_v5",
    ),
    Family(
        name="EmbeddingGemma 2",
        models=("embeddinggemma-2",),
        **_TITLE,
        window=8192,
        source="https://ollama.com/library/embeddinggemma-2",
    ),
    Family(
        name="EmbeddingGemma",
        models=("embeddinggemma", "embedding-gemma"),
        **_TITLE,
        window=2048,
        source="https://ai.google.dev/gemma/docs/embeddinggemma/model_card",
    ),
    Family(name="Gemini Embedding 2", models=("gemini-embedding-2",), **_TITLE, window=8192, source=_GEMINI),
    Family(
        name="Gemini Embedding 1 at Google's compatible endpoint",
        models=("gemini-embedding-001",),
        hosts=("generativelanguage.googleapis.com",),
        window=2048,
        dialect="gemini",
        source="https://ai.google.dev/gemini-api/docs/openai",
    ),
    Family(
        name="Gemini Embedding 1, Vertex text embeddings",
        models=("gemini-embedding-001", "text-embedding-005", "text-multilingual-embedding-002"),
        **parameters("task_type", "RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
        window=2048,
        dialect="gemini",
        source=_GEMINI,
    ),
    Family(
        name="Voyage 4 nano",
        models=("voyage-4-nano",),
        **prefixes(
            "Represent the document for retrieval: ", "Represent the query for retrieving supporting documents: "
        ),
        window=32_000,
        source=f"{_MODELS}/voyageai/voyage-4-nano",
    ),
    Family(
        name="Voyage",
        models=("voyage",),
        **parameters("input_type", "document", "query"),
        dialect="voyage",
        source="https://docs.voyageai.com/docs/embeddings",
    ),
    Family(
        name="Cohere at its compatible endpoint",
        models=("embed-*",),
        hosts=("api.cohere.ai", "api.cohere.com"),
        dialect="cohere",
        source="https://docs.cohere.com/docs/compatibility-api",
    ),
    Family(
        name="Cohere Embed 3",
        models=(
            "embed-english-v3*",
            "embed-english-light-v3*",
            "embed-multilingual-v3*",
            "embed-multilingual-light-v3*",
            "embed-v3-english",
            "embed-v3-multilingual",
        ),
        **_COHERE,
        window=512,
        dialect="cohere",
        source="https://docs.cohere.com/docs/embeddings",
    ),
    Family(
        name="Cohere Embed 4 and 5",
        models=("embed-v4*", "embed-v-4*", "embed-v5*", "embed-v-5*", "embed-4", "embed-5"),
        **_COHERE,
        window=128_000,
        dialect="cohere",
        source="https://docs.cohere.com/docs/embeddings",
    ),
    Family(
        name="Jina Embeddings 3 to 5 at api.jina.ai",
        models=("jina-embeddings-v3", "jina-embeddings-v4", "jina-embeddings-v5"),
        hosts=("api.jina.ai",),
        **parameters("task", "retrieval.passage", "retrieval.query"),
        source="https://api.jina.ai/openapi.json",
    ),
    Family(
        name="Jina Embeddings 3",
        models=("jina-embeddings-v3",),
        **prefixes(
            "Represent the document for retrieval: ", "Represent the query for retrieving evidence documents: "
        ),
        window=8192,
        source=f"{_MODELS}/jinaai/jina-embeddings-v3",
    ),
    Family(
        name="Jina Embeddings 4",
        models=("jina-embeddings-v4",),
        **prefixes("Passage: ", "Query: "),
        window=32_768,
        source=f"{_MODELS}/jinaai/jina-embeddings-v4",
    ),
    Family(
        name="Jina Embeddings 5",
        models=("jina-embeddings-v5",),
        **prefixes("Document: ", "Query: "),
        window=32_768,
        source=f"{_MODELS}/jinaai/jina-embeddings-v5-text-small-retrieval",
    ),
    Family(
        name="Jina Embeddings 2",
        models=("jina-embeddings-v2",),
        window=8192,
        source=f"{_MODELS}/jinaai/jina-embeddings-v2-base-en",
    ),
    Family(
        name="Mixedbread German",
        models=("mxbai-embed-de-large",),
        **_PASSAGE,
        window=512,
        source=f"{_MODELS}/mixedbread-ai/deepset-mxbai-embed-de-large-v1",
    ),
    Family(
        name="Mixedbread Large, UAE Large",
        models=("mxbai-embed-large", "mxbai-embed-2d-large", "uae-large"),
        **_REPRESENT_QUERY,
        window=512,
        source=f"{_MODELS}/mixedbread-ai/mxbai-embed-large-v1",
    ),
    Family(
        name="Arctic Embed 2",
        models=("arctic-embed2", "arctic-embed-*-v2*"),
        **prefixes(None, "query: "),
        window=8192,
        source=f"{_MODELS}/Snowflake/snowflake-arctic-embed-l-v2.0",
    ),
    Family(
        name="Arctic Embed 1 and 1.5",
        models=("arctic-embed",),
        **_REPRESENT_QUERY,
        source=f"{_MODELS}/Snowflake/snowflake-arctic-embed-m-v1.5",
    ),
    Family(
        name="Granite Embedding",
        models=("granite-embedding",),
        source="https://github.com/ibm-granite/granite-embedding-models",
    ),
    Family(
        name="OpenAI",
        models=("text-embedding-3", "text-embedding-ada"),
        window=8191,
        source="https://platform.openai.com/docs/guides/embeddings",
    ),
    Family(
        name="Mistral",
        models=("mistral-embed", "codestral-embed"),
        source="https://docs.mistral.ai/capabilities/embeddings/overview/",
    ),
    Family(
        name="MiniLM and MPNet",
        models=("minilm", "all-minilm", "all-mpnet", "paraphrase-multilingual"),
        source="https://www.sbert.net/docs/sentence_transformer/pretrained_models.html",
    ),
)
"""In the order in which they are tried: the first that fits applies."""
