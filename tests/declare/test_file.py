"""`pgvector-sync.toml` and the table of settings in the docs."""

import re
import tomllib
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgvector_sync.declare import file as config
from pgvector_sync.declare.file import MINIMAL, load_config
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import Metric, Provider, Schedule, VectorType
from pgvector_sync.settings import Settings, load_settings, unknown_variables

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def load(tmp_path):
    def write_and_load(text: str) -> config.Config:
        path = tmp_path / "pgvector-sync.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)

    return write_and_load


@pytest.fixture
def refusal(load):
    def refused(text: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.exit_code == 2
        return caught.value

    return refused


def pipeline(**values: str) -> str:
    """One pipeline in TOML; every value is TOML source, an empty one leaves the key out."""
    keys = {
        "source": '"public.articles"',
        "text": '["title"]',
        "provider": '"openai"',
        "model": '"m"',
        "dimensions": "3",
    } | values
    return "[pipelines.articles]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items() if v)


def test_the_minimal_example_is_complete(load):
    loaded = load(MINIMAL)
    assert loaded.providers == {
        "openai": Provider("openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_API_KEY")
    }
    assert loaded.pipelines["articles"] == config.PipelineConfig(
        name="articles",
        source_schema="public",
        source_table="articles",
        text_columns=("title", "body"),
        text_sql=None,
        where=None,
        provider="openai",
        model="text-embedding-3-small",
        dimensions=1536,
        metric=Metric.COSINE,
        vector_type=VectorType.VECTOR,
        batch_size=None,
        key=None,
        target=None,
        capture_replicated=False,
    )


def test_every_key_arrives(load):
    loaded = load("""
        [providers.azure-eu]
        base_url = "https://embed.example.com:8443/v1/"
        api_key_env = "AZURE_KEY"
        requests_per_minute = 3000
        tokens_per_minute = 1_000_000
        send_dimensions = false
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
            "azure-eu", "https://embed.example.com:8443/v1", "AZURE_KEY", 3000, 1_000_000, False, "float"
        )
    }
    articles = loaded.pipelines["articles"]
    assert (articles.source_schema, articles.source_table) == ("shop", "Weird.Name")
    assert (articles.text_columns, articles.text_sql) == (None, "coalesce(title, '')")
    assert (articles.where, articles.dimensions, articles.batch_size) == ("published", 16000, 2048)
    assert (articles.metric, articles.vector_type) == (Metric.INNER_PRODUCT, VectorType.HALFVEC)
    assert (articles.target, articles.key) == (("vectors", "articles"), ("tenant", "Id"))
    assert articles.capture_replicated is True


def test_local_needs_neither_section_nor_model(load):
    loaded = load(pipeline(provider='"local"', model="", dimensions=""))
    assert loaded.providers == {"local": Provider("local", dialect="local")}
    assert (loaded.pipelines["articles"].model, loaded.pipelines["articles"].dimensions) == ("wordllama", 256)


def test_only_the_provider_named_openai_has_defaults(load, refusal):
    override = load('[providers.openai]\nbase_url = "http://localhost:8080"\n' + pipeline())
    assert override.providers["openai"] == Provider("openai", "http://localhost:8080", "OPENAI_API_KEY")
    other = load('[providers.ollama]\nbase_url = "http://localhost:11434/v1"\n' + pipeline(provider='"ollama"'))
    assert other.providers == {"ollama": Provider("ollama", "http://localhost:11434/v1")}
    assert refusal("[providers.ollama]\n" + pipeline()).key == "providers.ollama.base_url"


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
    assert (articles.source_schema, articles.source_table) == parsed


@pytest.mark.parametrize(
    "written", ["", "a.b.c", "a.", ".a", "a b", '"a', "a;drop", "1a", '""', "x" * 64, '"\\u0000"', "a-b"]
)
def test_what_is_no_table_is_refused(refusal, written):
    quoted = '"' + written.replace('"', '\\"') + '"'
    assert refusal(pipeline(source=quoted)).key == "pipelines.articles.source"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("dimensions", '"1536"', ["integer", '"1536"']),
        ("dimensions", "true", ["integer", "true"]),
        ("dimensions", "0", ["greater than or equal to 1", "0"]),
        ("dimensions", "16001", ["16000", "16001"]),
        ("dimensions", "", ["expected"]),
        ("model", "", ["expected"]),
        ("model", '""', ["at least 1 character"]),
        ("batch_size", "2049", ["2048", "2049"]),
        ("metric", '"cos"', ["'cosine', 'l2' or 'inner_product'", '"cos"']),
        ("vector_type", '"bit"', ["'vector' or 'halfvec'", '"bit"']),
        ("text", '"title"', ['["title", "body"]', '"title"']),
        ("text", "[]", ["list of column names"]),
        ("text", '["a", "a"]', ["each column once"]),
        ("text", '{ sql = "a", columns = ["a"] }', ["text.sql", "nothing else"]),
        ("text", '{ sql = " " }', ["an SQL expression"]),
        ("where", '" "', ["an SQL expression"]),
        ("key", "[1]", ["list of column names"]),
        ("capture_replicated", '"yes"', ["boolean", '"yes"']),
        ("provider", '"opnai"', ["one of local, openai", "'opnai'"]),
        ("target", '"public.articles"', ["a table of its own", "the source of articles"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(refusal, key, value, says):
    error = refusal(pipeline(**{key: value}))
    assert error.key == f"pipelines.articles.{key}"
    assert all(words in str(error) for words in says), str(error)


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
def test_a_variable_that_holds_no_providers_key_is_refused_as_one(refusal, name):
    error = refusal(f"[providers.openai]\napi_key_env = '{name}'")
    assert error.key == "providers.openai.api_key_env"
    assert f"{name} holds something else, and is never sent" in str(error)


@pytest.mark.parametrize("url", ["ftp://host", "host/v1", "https://", "https:///v1", "https://h o", "https://h#f"])
def test_what_is_no_endpoint_is_refused(refusal, url):
    assert refusal(f"[providers.openai]\nbase_url = '{url}'").key == "providers.openai.base_url"


@pytest.mark.parametrize("key", ["base_url = 'http://localhost'", "api_key_env = 'KEY'"])
def test_local_has_no_endpoint(refusal, key):
    error = refusal(f"[providers.local]\n{key}\n" + pipeline())
    assert "runs in the process" in str(error)


def test_a_provider_of_any_name_may_be_local(load):
    loaded = load("[providers.here]\ndialect = 'local'\n" + pipeline(provider="'here'", model="", dimensions=""))
    assert loaded.providers == {"here": Provider("here", dialect="local")}
    assert (loaded.pipelines["articles"].model, loaded.pipelines["articles"].dimensions) == ("wordllama", 256)


def test_a_built_in_provider_of_another_dialect_has_none_of_its_defaults(load):
    loaded = load("[providers.openai]\ndialect = 'local'\n" + pipeline())
    assert loaded.providers == {"openai": Provider("openai", dialect="local")}
    loaded = load(
        "[providers.local]\ndialect = 'openai'\nbase_url = 'https://x/v1'\n" + pipeline(provider="'local'")
    )
    assert loaded.providers == {"local": Provider("local", "https://x/v1")}


@pytest.mark.parametrize("dialect", ["'opemai'", "''", "'sk-proj-Zq81hT0vBnM4xW7c'"])
def test_an_unknown_dialect_is_refused_with_those_that_there_are(refusal, dialect):
    error = refusal(f"[providers.openai]\ndialect = {dialect}\n" + pipeline())
    assert error.key == "providers.openai.dialect"
    assert "expected one of local, openai" in str(error)
    assert "sk-proj" not in str(error)


def test_two_pipelines_never_share_a_target(refusal, load):
    both = pipeline(target='"public.x"') + pipeline(target='"x"').replace("articles]", "other]")
    error = refusal(both)
    assert error.key == "pipelines.other.target"
    assert "the target of articles" in str(error)
    assert len(load(both.replace('"x"', '"y"')).pipelines) == 2


def test_no_target_is_a_source(refusal):
    text = pipeline(target='"books"') + pipeline(source='"public.books"').replace("articles]", "other]")
    assert "the source of other" in str(refusal(text))


def test_all_problems_are_told_at_once(refusal):
    error = refusal(pipeline(dimensions="0", metrik='"l2"') + "[providers.x]\nencoding = 'hex'\n")
    assert error.key == "providers.x.encoding"
    assert [line.split(": ")[1] for line in str(error).splitlines()] == [
        "providers.x.encoding",
        "pipelines.articles.dimensions",
        "pipelines.articles.metrik",
    ]


def test_a_file_without_pipelines_is_refused(refusal):
    assert refusal("").key == "pipelines"


def test_a_syntax_error_has_its_line(refusal):
    assert "line 2" in str(refusal("a = 1\nb = what\n"))


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_absurd_toml_is_a_config_error(refusal, text):
    assert "not valid TOML" in str(refusal(text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError) as missing:
        load_config(tmp_path / "nowhere.toml")
    assert missing.value.where == str(tmp_path / "nowhere.toml")
    assert MINIMAL in (missing.value.hint or "")
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = 1\nb = '\xe4'\n")
    with pytest.raises(ConfigError, match=r"UTF-8.*line 2"):
        load_config(latin)


def test_a_byte_order_mark_does_no_harm(tmp_path):
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
                st.dictionaries(st.sampled_from([*config._Provider.model_fields, "api_key"]), VALUES),
            ),
            "pipelines": VALUES
            | st.dictionaries(
                st.sampled_from(["a", "b", "B"]),
                st.dictionaries(st.sampled_from([*config._Pipeline.model_fields, "keys"]), VALUES),
            ),
        },
    )
)
def test_whatever_the_file_holds_the_answer_is_a_config_or_a_config_error(document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "_read", lambda path: document)
        try:
            load_config(Path("any.toml"))
        except ConfigError as error:
            assert error.key  # noqa: PT017


def test_a_schedule_is_read_and_what_isnt_given_is_the_default(load):
    text = (
        pipeline() + '[pipelines.articles.reconcile]\nevery = "6h"\ndeep_every = "off"\nwindow = "22:00-05:30"\n'
    )
    assert load(text).pipelines["articles"].schedule == Schedule(
        every=timedelta(hours=6), deep_every=None, window=(time(22), time(5, 30))
    )
    assert load(pipeline()).pipelines["articles"].schedule == Schedule()


def test_a_schedule_may_be_cron(load):
    text = pipeline() + '[pipelines.articles.reconcile]\ncron = "0 3 * * SUN"\n'
    assert load(text).pipelines["articles"].schedule.cron == "0 3 * * SUN"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('every = "6"', 'expected a duration such as "30m"'),
        ('every = "0h"', 'expected a duration such as "30m"'),
        ("every = 6", 'expected a duration such as "30m"'),
        ('cron = "every day"', "expected five fields of cron"),
        ('cron = "61 * * * *"', "expected five fields of cron"),
        ('window = "22-25"', "expected two times of the day in UTC"),
        ('window = "05:00-05:00"', "expected two times of the day in UTC"),
        ("database_share = 0", "greater than 0"),
        ("orphan_share = 2", "less than or equal to 1"),
        ('evry = "6h"', "did you mean every?"),
        ('cron = "0 3 * * *"\nevery = "1d"', "expected every or cron, got both"),
    ],
)
def test_a_schedule_that_is_none_is_refused(refusal, line, words):
    assert words in str(refusal(pipeline() + f"[pipelines.articles.reconcile]\n{line}\n"))


def test_a_price_is_the_models(load):
    loaded = load(pipeline() + "[prices]\nm = 0.5\nother = 1\n")
    assert loaded.pipelines["articles"].usd_per_million_tokens == Decimal("0.5")


def rows(heading: str) -> dict[str, str]:
    """The table below a heading of the docs: its first column without backticks, and its second."""
    section = DOCS.read_text(encoding="utf-8").split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE)
    return dict(cells)


def test_the_docs_have_every_key_of_the_file():
    assert list(rows("### `[providers.NAME]`")) == list(config._Provider.model_fields)
    assert sorted(rows("### `[pipelines.NAME]`")) == sorted(config._Pipeline.model_fields)
    assert sorted(rows("### `[pipelines.NAME.reconcile]`")) == sorted(config._Reconcile.model_fields)


def test_the_example_in_the_docs_loads(load):
    example = re.search(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert load(example[1]).pipelines.keys() == {"articles"}
    assert tomllib.loads(example[1])["providers"]["openai"]["base_url"] == config.BUILT_IN["openai"].base_url


def variable(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if alias else f"PGVECTOR_SYNC_{name.upper()}"


def test_the_docs_have_every_variable():
    assert sorted(rows("## The environment")) == sorted(map(variable, Settings.model_fields))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_docs_have_every_default_in_the_form_that_the_environment_takes(name, monkeypatch):
    documented = rows("## The environment")[variable(name)]
    default = Settings.model_fields[name].default
    if documented == "none":
        assert not default
        return
    monkeypatch.setenv(variable(name), documented.strip("`"))
    assert getattr(Settings(_env_file=None), name) == default
    assert default or isinstance(default, timedelta)


def test_a_host_that_cant_be_read_is_refused_at_the_start_and_not_shown(monkeypatch):
    monkeypatch.setenv("PGVECTOR_SYNC_ALLOWED_HOSTS", "one.example,https://me:hunter2@two.example=KEY")
    load_settings.cache_clear()
    with pytest.raises(ConfigError, match=r"PGVECTOR_SYNC_ALLOWED_HOSTS: entry 2 isn't one of host") as caught:
        load_settings()
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("PGVECTOR_SYNC_ALLOWED_HOST", "PGVECTOR_SYNC_ALLOWED_HOSTS"), ("PGVECTOR_SYNC_REDIS_URL", "REDIS_URL")],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelled_variable_is_refused_with_the_nearest_name(name, meant, place, monkeypatch):
    monkeypatch.setenv(name, "x") if place == "environment" else Path(".env").write_text(f"{name}=x\n")
    load_settings.cache_clear()
    with pytest.raises(ConfigError, match=rf"{name}.*did you mean {meant}\?"):
        load_settings()


def test_what_resembles_no_setting_is_left_to_doctor_and_what_others_set_is_no_concern(monkeypatch):
    for name in ("SERVICE_HOST", "PORT", "PORT_80_TCP_ADDR", "WORKER_SERVICE_PORT", "FAILPOINT", "TEST_EXAMPLES"):
        monkeypatch.setenv(f"PGVECTOR_SYNC_{name}", "x")
    monkeypatch.setenv("PGVECTOR_SYNC_QUANTUM", "x")
    load_settings.cache_clear()
    assert load_settings().attempts == 5
    assert unknown_variables() == ["PGVECTOR_SYNC_QUANTUM"]
