"""`[pipelines.x.document]` and `[pipelines.x.query]`: what is read, and what is refused with its key."""

from __future__ import annotations

import pytest

from pgvector_sync.declare.declared import check_declared
from pgvector_sync.declare.sections import DocumentSection, QuerySection
from pgvector_sync.declare.values import PREFIX_CHARACTERS
from pgvector_sync.embedding.dialects import DIALECTS
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import DocumentInput, QueryInput
from pgvector_sync.settings import Settings
from support.declared import pipeline, rows


def with_input(lines: str, *, section: str = "document") -> str:
    return pipeline() + f"[pipelines.articles.{section}]\n{lines}\n"


def test_prefix_body_and_model_are_read(load):
    options = (
        load(
            with_input(
                'prefix = "passage: "\nbody = { input_type = "document", nested = { list = [1, 2.5, true] } }'
            )
            + '[pipelines.articles.query]\nprefix = ""\nmodel = "m-lite"\nbody.input_type = "query"\n'
        )
        .pipelines["articles"]
        .options
    )
    body = {"input_type": "document", "nested": {"list": [1, 2.5, True]}}
    assert options.document == DocumentInput(prefix="passage: ", body=body)
    assert options.query == QueryInput(prefix="", body={"input_type": "query"}, model="m-lite")
    assert load(pipeline()).pipelines["articles"].options.document.prefix is None


@pytest.mark.parametrize("section", ["document", "query"])
@pytest.mark.parametrize("name", ["input", "model", "dimensions", "encoding_format", "Input", "output_dimension"])
def test_a_body_can_not_replace_what_the_program_sends(refusal, section, name):
    error = refusal(with_input(f'body = {{ {name} = "x" }}', section=section))
    assert error.key == f"pipelines.articles.{section}.body.{name}"
    assert str(error).startswith(f"{error.where}: {error.key}: not supported: ")


@pytest.mark.parametrize("name", ["input", "MODEL", "late_chunking"])
def test_the_same_rule_holds_for_the_parameters_of_a_provider(refusal, name):
    section = f"[providers.openai]\nextra_body = {{ {name} = true }}\n"
    assert refusal(section + pipeline()).key == f"providers.openai.extra_body.{name}"


def test_parameters_that_decide_the_vectors_belong_to_the_pipeline_and_others_to_the_provider(load, refusal):
    error = refusal('[providers.openai]\nextra_body = { input_type = "document" }\n' + pipeline())
    assert error.key == "providers.openai.extra_body.input_type"
    assert "[pipelines.NAME.document] and [pipelines.NAME.query]" in str(error)
    error = refusal(with_input('body = { user = "search" }'))
    assert error.key == "pipelines.articles.document.body.user"
    assert "extra_body" in str(error)
    right = '[providers.openai]\nextra_body = { user = "search" }\n' + with_input('body = { input_type = "x" }')
    assert load(right).providers["openai"].extra_body == {"user": "search"}


def test_the_problems_of_an_inner_table_are_reported_beside_those_of_its_pipeline(refusal):
    error = str(refusal(pipeline(dimensions='"8"') + '[pipelines.articles.query]\nprefx = "q"\n'))
    assert "pipelines.articles.dimensions: expected a valid integer" in error
    assert "pipelines.articles.query.prefx: unknown key; did you mean prefix?" in error


def test_a_misspelled_limit_is_not_taken_for_a_secret(refusal):
    error = refusal("[providers.openai]\nmax_input_token = 512\n" + pipeline())
    assert "providers.openai.max_input_token: unknown key; did you mean max_input_tokens?" in str(error)


@pytest.mark.parametrize(
    ("lines", "key", "says"),
    [
        ('body = { api_key = "sk-very-secret" }', "document.body.api_key", "secrets belong in the environment"),
        ('body.auth = { password = "sk-very-secret" }', "document.body.auth.password", "secrets belong"),
        ("body = { at = 2026-01-01 }", "document.body.at", "JSON has no dates"),
        ("body = { x = [nan] }", "document.body.x[0]", "JSON has neither nan"),
        ("body = { x = inf }", "document.body.x", "JSON has neither nan"),
        ('body = { x = "a\\u0000b" }', "document.body.x", "without the character U+0000"),
        ('body = { "a\\u0000b" = 1 }', "document.body", "printable characters"),
        (f'body = {{ x = "{"x" * 10_000}" }}', "document.body", "at most 4,096 bytes"),
        ('body = "input_type"', "document.body", "expected a table"),
        ('prefix = "a\\u0000b"', "document.prefix", "control characters"),
        ('prefix = "\\u001b[2Jpassage: "', "document.prefix", "control characters"),
        ('prefix = "a\\r\\n"', "document.prefix", "control characters"),
        ("prefix = 1", "document.prefix", "string"),
        (f'prefix = "{"x" * (PREFIX_CHARACTERS + 1)}"', "document.prefix", "at most 4,000 characters; got 4,001"),
        ('model = "other"', "document.model", "unknown key"),
        ('prefx = "a"', "document.prefx", "did you mean prefix?"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(refusal, lines, key, says):
    error = refusal(with_input(lines))
    assert error.key == f"pipelines.articles.{key}"
    assert says in str(error)
    assert "sk-very-secret" not in str(error)


def test_an_empty_model_for_queries_is_refused(refusal):
    error = refusal(with_input('model = ""', section="query"))
    assert error.key == "pipelines.articles.query.model"
    assert "expected at least 1 character" in str(error)


def test_a_prefix_may_have_lines_and_any_script(load):
    text = "Instruct: find\\tit\\nQuery:"
    assert load(with_input(f'prefix = "{text}"')).pipelines["articles"].options.document.prefix == (
        "Instruct: find\tit\nQuery:"
    )
    assert load(with_input('prefix = "検索: "')).pipelines["articles"].options.document.prefix == "検索: "


SETTINGS = Settings(_env_file=None, openai_base_url=None)
SMALL = "[providers.openai]\nmax_input_tokens = 60\n"


@pytest.mark.parametrize("section", ["document", "query"])
@pytest.mark.parametrize(
    ("text", "limit"), [(SMALL + pipeline(), 60), (pipeline(model='"intfloat/e5-base-v2"'), 512)]
)
def test_a_prefix_that_leaves_no_room_for_a_text_is_refused(load, section, text, limit):
    config = load(text + f'[pipelines.articles.{section}]\nprefix = "{"search " * limit}"\n')
    with pytest.raises(ConfigError, match=rf"of the {limit} tokens that an input of \S+ may have") as refused:
        check_declared(config, SETTINGS)
    assert refused.value.key == f"pipelines.articles.{section}.prefix"
    assert refused.value.hint == "shorten it"


def test_a_prefix_that_takes_half_of_an_input_causes_a_warning(load):
    text = SMALL + pipeline() + '[pipelines.articles.document]\nprefix = "{}"\n'
    [warning] = check_declared(load(text.format("search " * 12)), SETTINGS)
    assert warning == (
        "pipelines.articles.document.prefix: it takes about 42 of the 60 tokens that an input of m may have, "
        "so that little of a longer text is embedded"
    )
    assert check_declared(load(text.format("search ")), SETTINGS) == []


def test_another_local_model_for_queries_must_have_the_same_dimensions(load):
    local = pipeline(provider='"local"', model="", dimensions="") + '[pipelines.articles.query]\nmodel = "{}"\n'
    with pytest.raises(ConfigError, match="unknown local model") as refused:
        check_declared(load(local.format("bert")), SETTINGS)
    assert refused.value.key == "pipelines.articles.query.model"
    assert check_declared(load(local.format("wordllama")), SETTINGS) == []


def test_a_dialect_without_parameters_takes_no_body(refusal):
    local = pipeline(provider='"local"', model="", dimensions="")
    error = refusal(local + '[pipelines.articles.query]\nbody = { input_type = "query" }\n')
    assert error.key == "pipelines.articles.query.body"
    assert "not supported by the dialect local" in str(error)


def test_the_names_that_a_dialect_keeps_to_itself_are_in_lower_case():
    kept = [name for dialect in DIALECTS.values() for name in dialect.own_parameters or ()]
    assert "input" in kept
    assert kept == [name.casefold() for name in kept]


def test_every_key_is_documented():
    documented = rows("### `[pipelines.NAME.document]` and `[pipelines.NAME.query]`")
    assert documented.keys() == DocumentSection.model_fields.keys() | QuerySection.model_fields.keys()
