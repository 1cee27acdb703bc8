"""The worker's environment decides which secret is sent where. A role that may only write the provider's row doesn't."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgvector_sync.observe.doctor import examine
from pgvector_sync.settings import Settings
from support.hostile_endpoint import Hostile
from support.provider_attack import Write, works
from support.synced import Synced

SECRET = "hunter2"
VARIABLES = {
    "DATABASE_URL": f"postgresql://app:{SECRET}@db/app",
    "REDIS_URL": f"redis://:{SECRET}@valkey/0",
    "PGPASSWORD": SECRET,
    "CELERY_BROKER_URL": f"redis://:{SECRET}@valkey/1",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "STRIPE_API_KEY": SECRET,
    "VOYAGE_API_KEY": SECRET,
    "OPENAI_API_KEY": SECRET,
    "OPENAI_ADMIN_KEY": SECRET,
}
AMBIENT = {
    "OPENAI_ORG_ID": f"org-{SECRET}",
    "OPENAI_PROJECT_ID": f"proj-{SECRET}",
    "OPENAI_ADMIN_KEY": SECRET,
    "OPENAI_WEBHOOK_SECRET": SECRET,
    "OPENAI_CUSTOM_HEADERS": f"X-Gateway: {SECRET}\nAuthorization: Bearer {SECRET}",
}
Point = Callable[..., None]


@pytest.fixture
def point(write: Write) -> Point:
    """Points the provider elsewhere, as a role that may only update the provider's row."""
    return lambda base_url, key: write(base_url=base_url, api_key_env=key)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.quick_variants(4)
def test_a_role_that_may_update_the_provider_gets_no_secret_of_the_workers_environment(
    synced: Synced, point: Point, elsewhere: Hostile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    point(elsewhere.base_url, name)
    reason = works(synced)
    assert elsewhere.requests == []
    assert "isn't sent" in reason
    assert SECRET not in reason


@pytest.mark.parametrize(
    "spelling", ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "[::ffff:127.0.0.1]"]
)
@pytest.mark.quick_variants(3)
def test_a_role_that_may_update_the_provider_reaches_no_server_on_the_workers_machine(
    synced: Synced, point: Point, elsewhere: Hostile, spelling: str
) -> None:
    point(elsewhere.base_url.replace("127.0.0.1", spelling), None)
    works(synced, allowed="http://127.0.0.1:1=TEST_KEY,http://localhost:1")
    assert elsewhere.requests == []


ELSEWHERE = [
    "/v1/files?x=", "/v1/files?", "/v1#x", "/v1/..", "/v1/../admin", "/./v1", "/v1/%2e%2e/admin", "/v1/%2E/x",
    "/v1/a%2fb", "/v1/a%3Fb", "/v1/%zz", "//elsewhere.example/v1", "/v1;x", "/v1/\x01", "/v1/\x7f", "/v1/\xe9",
    "/v1/\u2028", "/" + "a" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: ascii(path[:20]))
@pytest.mark.quick_variants(5)
def test_a_role_that_may_update_the_provider_can_only_cause_calls_of_embeddings(
    synced: Synced, point: Point, elsewhere: Hostile, path: str
) -> None:
    point(elsewhere.base_url.removesuffix("/v1") + path, "TEST_KEY")
    reason = works(synced)
    assert elsewhere.requests == []
    assert "isn't a URL of the form https://host/path" in reason


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
def test_an_impossible_port_stops_the_pipeline_but_not_the_worker(synced: Synced, point: Point, port: int) -> None:
    point(f"http://127.0.0.1:{port}/v1", "TEST_KEY")
    assert "isn't a URL of the form https://host/path" in works(synced)


def test_a_key_that_is_bound_to_one_host_goes_to_no_other_that_is_allowed(
    synced: Synced, point: Point, elsewhere: Hostile
) -> None:
    point(elsewhere.base_url, "TEST_KEY")
    reason = works(synced, allowed=f"{elsewhere.base_url.removesuffix('/v1')},{synced.endpoint.root}=TEST_KEY")
    assert elsewhere.requests == []
    assert "does not bind TEST_KEY to 127.0.0.1" in reason


@pytest.mark.parametrize(
    ("key", "words"),
    [(None, "does not allow calls to api.voyageai.com"), ("VOYAGE_API_KEY", "VOYAGE_API_KEY is not set")],
)
def test_a_built_in_provider_gets_no_text_from_a_worker_without_its_key(
    synced: Synced, point: Point, monkeypatch: pytest.MonkeyPatch, key: str | None, words: str
) -> None:
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    point("https://api.voyageai.com/v1", key)
    assert words in works(synced)


@pytest.mark.parametrize("key", [None, "TEST_KEY"])
def test_what_the_sdk_reads_from_the_environment_goes_only_to_openai(
    synced: Synced, point: Point, elsewhere: Hostile, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    for variable, value in AMBIENT.items():
        monkeypatch.setenv(variable, value)
    point(elsewhere.base_url, key)
    works(synced)
    assert SECRET not in "".join(elsewhere.requests)
    assert elsewhere.keys == ["" if key is None else "bearer test-key"]


def test_openais_own_headers_still_reach_the_base_url_of_the_environment(
    synced: Synced, point: Point, elsewhere: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: ours")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    point("https://api.openai.com/v1", "OPENAI_API_KEY")
    works(synced, allowed="", base_url=elsewhere.base_url)
    [head] = elsewhere.requests
    assert "openai-organization: org-ours" in head.lower()
    assert "x-gateway: ours" in head.lower()
    assert elsewhere.keys == ["bearer sk-ours"]


def test_doctor_says_which_line_binds_a_key_before_anything_is_sent(
    synced: Synced, point: Point, elsewhere: Hostile
) -> None:
    point(elsewhere.base_url, "VOYAGE_API_KEY")
    settings = Settings(DATABASE_URL=synced.database.url, _env_file=None, allowed_hosts="")
    [found] = [check for check in examine(settings, offline=False) if check.name == "provider"]
    root = elsewhere.base_url.removesuffix("/v1")
    assert (found.advice or "").endswith(f"export PGVECTOR_SYNC_ALLOWED_HOSTS={root}=VOYAGE_API_KEY")
    assert elsewhere.requests == []
