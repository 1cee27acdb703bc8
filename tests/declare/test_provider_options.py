"""`headers`, `extra_body`, `ca_file` and `proxy` in the file: what is refused, with its place and without its value."""

from __future__ import annotations

import pytest

from pgvector_sync.declare.declared import check_declared
from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.embedding.network import parameters
from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings
from support.declared import pipeline


def provider(line: str, name: str = "openai") -> str:
    return f"[providers.{name}]\n{line}\n" + pipeline(provider=f'"{name}"')


def test_they_are_read(load):
    lines = (
        'headers = { "X-Team" = "search", "api-key" = "$GATEWAY_KEY" }',
        "extra_body = { truncate = true, provider = { order = ['a', 'b'], quantizations = [8, 1.5] } }",
        'ca_file = "/etc/ssl/private-ca.pem"',
        'proxy = "http://proxy.example:3128/"',
    )
    read = load(provider("\n".join(lines))).providers["openai"]
    assert read.headers == {"X-Team": "search", "api-key": "$GATEWAY_KEY"}
    assert read.extra_body == {"truncate": True, "provider": {"order": ["a", "b"], "quantizations": [8, 1.5]}}
    assert read.ca_file == "/etc/ssl/private-ca.pem"
    assert read.proxy == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ('headers = { "x-api-key" = "hunter2" }', "headers.x-api-key", '"x-api-key" = "$MY_KEY"'),
        (
            'headers = { Authorization = "Token $OTHER" }',
            "headers.Authorization",
            "either this header or api_key_env",
        ),
        ("headers = { X-Team = 5 }", "headers.X-Team", "expected a string"),
        ('headers = { "X-Team" = "hunter2\\n" }', "headers.X-Team", "printable ASCII characters"),
        ('headers = { Host = "hunter2" }', "headers.Host", "not supported"),
        ('headers = "X: hunter2"', "headers", "expected a table"),
        ('extra_body = { input = "hunter2" }', "extra_body.input", "it contains the texts"),
        ('extra_body = { Model = "hunter2" }', "extra_body.Model", "set model in the pipeline's section"),
        ("extra_body = { since = 2026-11-27 }", "extra_body.since", "JSON has no dates and times; quote them"),
        ("extra_body = { a = { at = 07:32:00 } }", "extra_body.a.at", "JSON has no dates and times"),
        ("extra_body = { a = [1, nan] }", "extra_body.a[1]", "JSON has neither nan nor inf"),
        ("extra_body = { a = [-inf] }", "extra_body.a[0]", "JSON has neither nan nor inf"),
        ("extra_body = { a.b.c.d.e.f = 1 }", "extra_body.a.b.c.d.e.f", "at most 5 levels"),
        ("extra_body = { a = [[[[[[1]]]]]] }", "extra_body.a[0][0][0][0][0]", "at most 5 levels"),
        (f'extra_body = {{ a = "{"hunter2 " * 600}" }}', "extra_body", "at most 4,096 bytes"),
        ('extra_body = { a = "b\\u0000" }', "extra_body.a", "without the character U+0000"),
        ('extra_body = { a = { b = "sk-proj-hunter2" } }', "extra_body.a.b", "expected no secret"),
        (
            'extra_body = { a = { api_key = "hunter2" } }',
            "extra_body.a.api_key",
            "secrets belong in the environment",
        ),
        ('extra_body = { api_base = "https://hunter2.example" }', "extra_body.api_base", "to another host"),
        ("extra_body = { fallbacks = ['hunter2'] }", "extra_body.fallbacks", "to another host or model"),
        (
            'extra_body = { metadata = { langfuse_host = "hunter2" } }',
            "extra_body.metadata.langfuse_host",
            "to another host",
        ),
        ('extra_body = { a = [{ targetUrl = "hunter2" }] }', "extra_body.a[0].targetUrl", "to another host"),
        ('extra_body = { a = ["https://hunter2.example/v1"] }', "extra_body.a[0]", "to another host"),
        ('extra_body = { extra_headers = { Host = "hunter2" } }', "extra_body.extra_headers", "to another host"),
        ('extra_body = { endianness = "big" }', "extra_body.endianness", "one list of floats per text"),
        ('extra_body = { messages = "hunter2" }', "extra_body.messages", "it contains the texts"),
        ("extra_body = { a = -9223372036854775809 }", "extra_body.a", "at most 64 bits"),
        ("extra_body = { '' = 1 }", "extra_body", "names of 1 to 100 printable characters"),
        ("extra_body = 5", "extra_body", "expected a table"),
        ('ca_file = "private-ca.pem"', "ca_file", "expected an absolute path"),
        ('ca_file = "/etc/ssl/a,b.pem"', "ca_file", "without a comma"),
        ('ca_file = ""', "ca_file", "expected an absolute path"),
        ('proxy = "http://me:hunter2@proxy.example:3128"', "proxy", "belong in the environment"),
        ('proxy = "https://proxy.example"', "proxy", "expected http://host[:port]"),
        ('proxy = "socks5://proxy.example:1080"', "proxy", "expected http://host[:port]"),
        ('proxy = "proxy.example:3128"', "proxy", "expected http://host[:port]"),
    ],
)
def test_what_cant_be_sent_or_holds_a_secret_is_refused_with_its_place(refusal, line: str, key: str, words: str):
    error = refusal(provider(line))
    assert error.key == f"providers.openai.{key}"
    assert words in str(error)
    assert "hunter2" not in f"{error} {error.hint}"


REAL = {
    # of vLLM, NVIDIA NIM, Jina, OpenRouter, Ollama and LiteLLM
    "openai": {
        "user": "550e8400-e29b-41d4-a716-446655440000",
        "truncate_prompt_tokens": 512,
        "add_special_tokens": True,
        "priority": 0,
        "truncate": "END",
        "normalized": True,
        "max_tokens": 512,
        "provider": {"order": ["openai", "azure"], "allow_fallbacks": False, "max_price": {"prompt": 1}},
        "keep_alive": "30m",
        "options": {"num_ctx": 8192, "num_gpu": 99},
        "num_retries": 2,
        "metadata": {"tags": ["a"], "trace_id": "b1gvmob95yysaplct532"},
        "cache": {"no-cache": True},
        "instruction": "Retrieve relevant passages; see https://x.example",
    },
    "cohere": {"max_tokens": 512, "priority": 5, "truncate": "END", "input_type": "clustering"},
    "voyage": {"truncation": True, "input_type": "document"},
    "gemini": {"taskType": "SEMANTIC_SIMILARITY", "autoTruncate": True, "title": "a title"},
}


@pytest.mark.parametrize("dialect", REAL)
def test_parameters_of_real_providers_can_be_sent(dialect: str):
    assert not list(parameters.problems(REAL[dialect], DIALECTS[dialect]))


@pytest.mark.parametrize(
    "line",
    [
        'headers = { "X-Team" = "a" }',
        "extra_body = { a = 1 }",
        'ca_file = "/etc/ca.pem"',
        'proxy = "http://proxy.example"',
    ],
)
def test_a_local_model_takes_none_of_them(refusal, line: str):
    error = refusal(provider(line, "local"))
    assert error.key == f"providers.local.{line.partition(' ')[0]}"
    assert "runs in the worker's process" in str(error)


def settings(**values: str) -> Settings:
    return Settings(_env_file=None, openai_base_url=None, **values)


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        (
            'headers = { "x-team-key" = "$TEAM_KEY" }',
            "headers",
            "PGVECTOR_SYNC_ALLOWED_HOSTS=api.openai.com=TEAM_KEY",
        ),
        ('ca_file = "/etc/ca.pem"', "ca_file", "export PGVECTOR_SYNC_CA_FILES=/etc/ca.pem"),
        ('proxy = "http://proxy.example:3128"', "proxy", "PGVECTOR_SYNC_ALLOWED_HOSTS=http://proxy.example:3128"),
    ],
)
def test_what_only_the_workers_environment_can_allow_is_a_warning_with_the_line(
    load, line: str, key: str, says: str
):
    [warning] = check_declared(load(provider(line)), settings())
    assert warning.startswith(f"providers.openai.{key}: this environment does not ")
    assert "in the workers' environment" in warning
    assert says in warning


def test_a_file_that_is_missing_where_apply_runs_is_a_warning(load):
    [warning] = check_declared(load(provider('ca_file = "/nowhere/ca.pem"')), settings(ca_files="/nowhere/ca.pem"))
    assert "ca_file of openai can't be read as PEM certificates (FileNotFoundError)" in warning


def test_a_proxy_for_the_workers_own_machine_is_refused_everywhere(load):
    text = '[providers.vllm]\nbase_url = "http://127.0.0.1:8000/v1"\nproxy = "http://proxy.example"\n'
    config = load(text + pipeline(provider='"vllm"'))
    with pytest.raises(ConfigError, match=r"can't reach 127\.0\.0\.1:8000") as caught:
        check_declared(config, settings(allowed_hosts="http://127.0.0.1,http://proxy.example"))
    assert caught.value.key == "providers.vllm.proxy"
