"""`pgvector-sync.toml` as a whole: what is read, and what is refused."""

import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvector_sync.declare import file
from pgvector_sync.declare.file import MINIMAL, load_config
from pgvector_sync.declare.sections import IndexSection, PipelineSection, ProviderSection, ReconcileSection
from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Metric, Options, Provider, VectorType
from pgvector_sync.store.shape import text_of_columns
from support.declared import DOCS, pipeline, rows


def test_the_minimal_example_is_complete(load):
    loaded = load(MINIMAL)
    assert loaded.providers == {
        "openai": Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    }
    assert loaded.pipelines["articles"] == file.PipelineConfig(
        name="articles",
        source=("public", "articles"),
        text_columns=("title", "body"),
        key=None,
        target=None,
        options=Options(
            text=text_of_columns(("title", "body")),
            where=None,
            provider="openai",
            model="text-embedding-3-small",
            dimensions=1536,
            vector_type=VectorType.VECTOR,
            metric=Metric.COSINE,
            batch_size=None,
            capture_replicated=False,
        ),
    )


def test_every_key_is_read(load):
    loaded = load("""
        [providers.azure-eu]
        base_url = "https://embed.example.com:8443/v1/"
        api_key_env = "AZURE_KEY"
        requests_per_minute = 3000
        tokens_per_minute = 1_000_000
        dimensions_parameter = "none"
        encoding = "float"
        [pipelines.articles]
        source = 'Shop."Weird.Name"'
        text.sql = " coalesce(title, '') "
        where = "published"
        provider = "azure-eu"
        model = "m"
        dimensions = 16000
        batch_size = 2048
        metric = "inner_product"
        vector_type = "halfvec"
        target = "vectors.articles"
        key = ["tenant", "Id"]
        capture_replicated = true
    """)
    assert loaded.providers == {
        "azure-eu": Provider(
            "azure-eu",
            "https://embed.example.com:8443/v1",
            "AZURE_KEY",
            requests_per_minute=3000,
            tokens_per_minute=1_000_000,
            dimensions_parameter="none",
            encoding="float",
        )
    }
    articles = loaded.pipelines["articles"]
    options = articles.options
    assert articles.source == ("shop", "Weird.Name")
    assert (articles.text_columns, options.text) == (None, "coalesce(title, '')")
    assert (options.where, options.dimensions, options.batch_size) == ("published", 16000, 2048)
    assert (options.metric, options.vector_type) == (Metric.INNER_PRODUCT, VectorType.HALFVEC)
    assert (articles.target, articles.key) == (("vectors", "articles"), ("tenant", "Id"))
    assert options.capture_replicated is True


def test_local_needs_neither_section_nor_model(load):
    loaded = load(pipeline(provider='"local"', model="", dimensions=""))
    assert loaded.providers == {"local": Provider("local", dialect="local")}
    assert (loaded.pipelines["articles"].options.model, loaded.pipelines["articles"].options.dimensions) == (
        "wordllama",
        256,
    )


def test_only_the_provider_named_openai_has_defaults(load, refusal):
    override = load('[providers.openai]\nbase_url = "http://localhost:8080"\n' + pipeline())
    assert override.providers["openai"] == Provider("openai", "http://localhost:8080", "OPENAI_API_KEY")
    other = load('[providers.ollama]\nbase_url = "http://localhost:11434/v1"\n' + pipeline(provider='"ollama"'))
    assert other.providers == {"ollama": Provider("ollama", "http://localhost:11434/v1")}
    assert refusal("[providers.ollama]\n" + pipeline()).key == "providers.ollama.base_url"


@pytest.mark.parametrize("limit", ["max_inputs", "max_request_tokens", "max_input_tokens"])
@pytest.mark.parametrize("value", ["0", "-1", "true", '"32"'])
def test_a_limit_of_requests_is_a_positive_number(refusal, limit, value):
    error = refusal(f'[providers.x]\nbase_url = "https://x.example.com/v1"\n{limit} = {value}\n' + pipeline())
    assert error.key == f"providers.x.{limit}"


def test_limits_that_contradict_each_other_are_refused(refusal, load):
    section = '[providers.x]\nbase_url = "https://x.example.com/v1"\nmax_request_tokens = 4000\n'
    error = refusal(section + "max_input_tokens = 8000\n" + pipeline())
    assert error.key == "providers.x.max_input_tokens"
    assert "expected at most max_request_tokens, 4,000; got 8,000" in str(error)
    provider = load(section + pipeline()).providers["x"]
    assert dialect_of(provider).limits(provider).max_input_tokens == 4_000, "known limits give way"


def test_two_pipelines_never_share_a_target(refusal, load):
    both = pipeline(target='"public.x"') + pipeline(target='"x"').replace("articles]", "other]")
    error = refusal(both)
    assert error.key == "pipelines.other.target"
    assert "the target of articles" in str(error)
    assert len(load(both.replace('"x"', '"y"')).pipelines) == 2


def test_a_source_can_not_be_a_target(refusal):
    text = pipeline(target='"books"') + pipeline(source='"public.books"').replace("articles]", "other]")
    assert "the source of other" in str(refusal(text))


def test_all_problems_are_reported_at_once(refusal):
    error = refusal(pipeline(dimensions="0", metrik='"l2"') + "[providers.x]\nencoding = 'hex'\n")
    assert error.key == "providers.x.encoding"
    assert [line.split(": ")[1] for line in str(error).splitlines()] == [
        "providers.x.encoding",
        "pipelines.articles.dimensions",
        "pipelines.articles.metrik",
    ]


def test_a_file_without_pipelines_is_refused(refusal):
    assert refusal("").key == "pipelines"


def test_a_syntax_error_is_reported_with_its_line(refusal):
    assert "line 2" in str(refusal("a = 1\nb = what\n"))


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_absurd_toml_is_a_config_error(refusal, text):
    assert "not valid TOML" in str(refusal(text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError) as missing:
        load_config(tmp_path / "nowhere.toml")
    assert missing.value.where == str(tmp_path / "nowhere.toml")
    assert MINIMAL in (missing.value.hint or "")
    assert "pgvector-sync init" in (missing.value.hint or "")
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = 1\nb = '\xe4'\n")
    with pytest.raises(ConfigError, match=r"UTF-8.*line 2"):
        load_config(latin)


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config(path).pipelines


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "providers": VALUES
            | st.dictionaries(
                st.sampled_from(["openai", "local", "x"]),
                st.dictionaries(st.sampled_from([*ProviderSection.model_fields, "api_key"]), VALUES),
            ),
            "pipelines": VALUES
            | st.dictionaries(
                st.sampled_from(["a", "b", "B"]),
                st.dictionaries(st.sampled_from([*PipelineSection.model_fields, "keys"]), VALUES),
            ),
        },
    )
)
def test_whatever_the_file_holds_the_answer_is_a_config_or_a_config_error(document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_read", lambda path: document)
        try:
            load_config(Path("any.toml"))
        except ConfigError as error:
            assert error.key  # noqa: PT017


def test_a_price_belongs_to_a_model(load):
    loaded = load(pipeline() + "[prices]\nm = 0.5\nother = 1\n")
    assert loaded.pipelines["articles"].options.price == Decimal("0.5")


def test_every_key_of_the_file_is_documented():
    assert sorted(rows("### `[providers.NAME]`")) == sorted(ProviderSection.model_fields)
    assert sorted(rows("### `[pipelines.NAME]`")) == sorted(PipelineSection.model_fields)
    assert sorted(rows("### `[pipelines.NAME.reconcile]`")) == sorted(ReconcileSection.model_fields)
    assert sorted(rows("### `[pipelines.NAME.index]`")) == sorted(IndexSection.model_fields)


def test_the_example_in_the_docs_loads(load):
    example = re.search(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert load(example[1]).pipelines.keys() == {"articles"}
    assert tomllib.loads(example[1])["providers"]["openai"]["base_url"] == file.BUILT_IN["openai"].base_url
