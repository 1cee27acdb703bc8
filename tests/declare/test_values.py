"""The values of the file: what is accepted, and what is refused with its key."""

from dataclasses import replace

import pytest

from pgvector_sync.model import Provider
from support.declared import pipeline


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("articles", (None, "articles")),
        ("Public.Articles", ("public", "articles")),
        ('"Articles"', (None, "Articles")),
        ('public."Weird.Name"', ("public", "Weird.Name")),
        ('"a ""b"""."c"', ('a "b"', "c")),
        ("ärzte.größe_1$", ("ärzte", "größe_1$")),
    ],
)
def test_a_table_is_written_as_in_sql(load, written, parsed):
    articles = load(pipeline(source=f"'{written}'")).pipelines["articles"]
    assert articles.source == parsed


@pytest.mark.parametrize(
    "written", ["", "a.b.c", "a.", ".a", "a b", '"a', "a;drop", "1a", '""', "x" * 64, '"\\u0000"', "a-b"]
)
def test_an_invalid_table_name_is_refused(refusal, written):
    quoted = '"' + written.replace('"', '\\"') + '"'
    assert refusal(pipeline(source=quoted)).key == "pipelines.articles.source"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("dimensions", '"1536"', ["integer", '"1536"']),
        ("dimensions", "true", ["integer", "true"]),
        ("dimensions", "0", ["expected at least 1", "0"]),
        ("dimensions", "16001", ["16000", "16001"]),
        ("dimensions", "", ["expected"]),
        ("model", "", ["expected"]),
        ("model", '""', ["at least 1 character"]),
        ("batch_size", "2049", ["2048", "2049"]),
        ("metric", '"cos"', ["'cosine', 'l2' or 'inner_product'", '"cos"']),
        ("vector_type", '"bit"', ["'vector' or 'halfvec'", '"bit"']),
        ("text", '"title"', ['["title", "body"]', '"title"']),
        ("text", "[]", ["list of column names"]),
        ("text", '["a", "a"]', ["each column only once"]),
        ("text", '{ sql = "a", columns = ["a"] }', ["text.sql", "nothing else"]),
        ("text", '{ sql = " " }', ["an SQL expression"]),
        ("where", '" "', ["an SQL expression"]),
        ("key", "[1]", ["list of column names"]),
        ("capture_replicated", '"yes"', ["boolean", '"yes"']),
        ("provider", '"opnai"', ["one of cohere, gemini, local, openai, voyage", "'opnai'"]),
        ("target", '"public.articles"', ["a table that nothing else uses", "the source of articles"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(refusal, key, value, says):
    error = refusal(pipeline(**{key: value}))
    assert error.key == f"pipelines.articles.{key}"
    assert all(words in str(error) for words in says), str(error)


@pytest.mark.parametrize(
    ("dimensions", "index", "key", "says"),
    [
        (256, "m = 40", "ef_construction", ["at least twice m, which is 80", "got 64"]),
        (256, 'method = "hnsw"\nef_construction = 20', "ef_construction", ["at least twice m, which is 32"]),
        (256, "m = 101", "m", ["expected at most 100", "101"]),
        (256, 'method = "hnsw"\nlists = 9', "lists", ['only method = "ivfflat" has it']),
        (256, 'method = "ivfflat"\nm = 9', "m", ['only method = "hnsw" has it']),
        (256, 'method = "diskann"', "method", ["'hnsw' or 'ivfflat'"]),
        (256, 'storage = "sparsevec"', "storage", ["'vector', 'halfvec' or 'bit'"]),
        (256, 'window = "1-2-3"', "window", ["two times of the day"]),
        (2001, 'method = "hnsw"', "storage", ['expected "halfvec" or "bit"', "at most 2,000", "have 2,001"]),
        (4001, 'storage = "halfvec"', "storage", ['expected "bit": an index of halfvec has at most 4,000']),
    ],
)
def test_an_index_that_pgvector_would_refuse_is_refused_at_once(refusal, dimensions, index, key, says):
    error = refusal(pipeline(dimensions=str(dimensions)) + f"[pipelines.articles.index]\n{index}\n")
    assert error.key == f"pipelines.articles.index.{key}"
    assert all(words in str(error) for words in says), str(error)


def test_an_index_more_precise_than_the_column_is_refused(refusal):
    error = refusal(pipeline(vector_type='"halfvec"') + '[pipelines.articles.index]\nstorage = "vector"\n')
    assert error.key == "pipelines.articles.index.storage"
    assert 'expected "halfvec" or "bit"' in str(error)


@pytest.mark.parametrize(("dimensions", "storage"), [(2000, "vector"), (4000, "halfvec"), (16000, "bit")])
def test_an_index_of_as_many_dimensions_as_pgvector_supports_is_accepted(load, dimensions, storage):
    section = f'[pipelines.articles.index]\nmethod = "hnsw"\nstorage = "{storage}"\nm = 32\nef_construction = 64\n'
    [loaded] = load(pipeline(dimensions=str(dimensions)) + section).pipelines.values()
    assert (loaded.options.index.storage, loaded.options.index.m) == (storage, 32)


@pytest.mark.parametrize("name", ["Articles", "1a", "a-b", "x" * 41])
def test_a_pipelines_name_fits_into_names_of_tables(refusal, name):
    error = refusal(pipeline().replace("articles]", f"{name}]"))
    assert error.key == f"pipelines.{name}"
    assert "a-z, 0-9 and _" in str(error)


@pytest.mark.parametrize(
    ("text", "place", "meant"),
    [
        ("[pipeline.a]\n", "pipeline", "pipelines"),
        (pipeline(dimension="3"), "pipelines.articles.dimension", "dimensions"),
        ("[providers.openai]\nurl = 'x'\n", "providers.openai.url", "base_url"),
    ],
)
def test_an_unknown_key_gets_a_suggestion(refusal, text, place, meant):
    error = refusal(text)
    assert error.key == place
    assert f"did you mean {meant}?" in str(error)


SECRET = "sk-hunter2"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"openai_api_key = '{SECRET}'", "openai_api_key"),
        (f"[providers]\napi_key = '{SECRET}'", "providers.api_key"),
        (f"[providers]\nopenai = '{SECRET}'", "providers.openai"),
        (f"[providers.openai]\napi_key = '{SECRET}'", "providers.openai.api_key"),
        (f"[providers.openai]\npassword = '{SECRET}'", "providers.openai.password"),
        (f"[providers.openai]\napi_key_env = '{SECRET}'", "providers.openai.api_key_env"),
        ("[providers.openai]\napi_key_env = 'gsk_hunter2'", "providers.openai.api_key_env"),
        (f"[providers.openai]\nbase_url = 'https://me:{SECRET}@host/v1'", "providers.openai.base_url"),
        (f"[providers.openai]\nbase_url = 'https://me:{SECRET}'", "providers.openai.base_url"),
        (f"[providers.openai]\nbase_url = 'https://host/v1?key={SECRET}'", "providers.openai.base_url"),
        (pipeline(api_key=f"'{SECRET}'"), "pipelines.articles.api_key"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(refusal, text, place):
    error = refusal(text)
    assert error.key == place
    assert "hunter2" not in str(error)
    if "api_key = " in text:
        assert "secrets belong in the environment: name the variable in api_key_env" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PGPASSWORD"),
        *("OPENAI_BASE_URL", "PGVECTOR_SYNC_REDIS_PREFIX", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_variable_that_holds_another_secret_is_refused(refusal, name):
    error = refusal(f"[providers.openai]\napi_key_env = '{name}'")
    assert error.key == "providers.openai.api_key_env"
    assert f"{name} holds something else and is never sent" in str(error)


@pytest.mark.parametrize("url", ["ftp://host", "host/v1", "https://", "https:///v1", "https://h o", "https://h#f"])
def test_an_invalid_endpoint_is_refused(refusal, url):
    assert refusal(f"[providers.openai]\nbase_url = '{url}'").key == "providers.openai.base_url"


@pytest.mark.parametrize("key", ["base_url = 'http://localhost'", "api_key_env = 'KEY'"])
def test_local_has_no_endpoint(refusal, key):
    error = refusal(f"[providers.local]\n{key}\n" + pipeline())
    assert "runs in the worker's process" in str(error)


def test_a_provider_of_any_name_may_be_local(load):
    loaded = load("[providers.here]\ndialect = 'local'\n" + pipeline(provider="'here'", model="", dimensions=""))
    assert loaded.providers == {"here": Provider("here", dialect="local")}
    assert (loaded.pipelines["articles"].options.model, loaded.pipelines["articles"].options.dimensions) == (
        "wordllama",
        256,
    )


def test_a_built_in_provider_with_another_dialect_loses_its_defaults(load):
    loaded = load("[providers.openai]\ndialect = 'local'\n" + pipeline())
    assert loaded.providers == {"openai": Provider("openai", dialect="local")}
    loaded = load(
        "[providers.local]\ndialect = 'openai'\nbase_url = 'https://x/v1'\n" + pipeline(provider="'local'")
    )
    assert loaded.providers == {"local": Provider("local", "https://x/v1")}


@pytest.mark.parametrize(
    ("name", "base_url", "key"),
    [
        ("cohere", "https://api.cohere.com/v2", "CO_API_KEY"),
        ("voyage", "https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    ],
)
def test_providers_with_an_api_of_their_own_need_no_section(load, name, base_url, key):
    built_in = Provider(name, base_url=base_url, api_key_env=key, dialect=name)
    assert load(pipeline(provider=f"'{name}'")).providers == {name: built_in}
    loaded = load(f"[providers.{name}]\nrequests_per_minute = 20\n" + pipeline(provider=f"'{name}'"))
    assert loaded.providers == {name: replace(built_in, requests_per_minute=20)}
    compatible = f"[providers.{name}]\ndialect = 'openai'\nbase_url = 'https://x/v1'\n"
    loaded = load(compatible + pipeline(provider=f"'{name}'"))
    assert loaded.providers == {name: Provider(name, "https://x/v1")}


@pytest.mark.parametrize("key", ["encoding = 'float'", "dimensions_parameter = 'dimensions'"])
@pytest.mark.parametrize("name", ["cohere", "voyage", "gemini"])
def test_an_option_that_an_api_has_no_use_for_is_refused(refusal, name, key):
    error = refusal(f"[providers.{name}]\n{key}\n" + pipeline())
    assert error.key == f"providers.{name}.{key.split()[0]}"
    assert f"not supported: the dialect {name} has no such choice" in str(error)


@pytest.mark.parametrize("dialect", ["'opemai'", "''", "'sk-proj-Zq81hT0vBnM4xW7c'"])
def test_an_unknown_dialect_is_refused_with_the_known_ones(refusal, dialect):
    error = refusal(f"[providers.openai]\ndialect = {dialect}\n" + pipeline())
    assert error.key == "providers.openai.dialect"
    assert "expected one of cohere, gemini, local, openai, voyage" in str(error)
    assert "sk-proj" not in str(error)
