"""`provider test` of providers that are called by their own API."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgvector_sync.model import Provider, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.provider_test import run, subject_of
from pgvector_sync.observe.provider_test.report import Report, report_of
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.settings import Settings
from support.native_apis import Cohere, Gemini, Voyage
from support.native_endpoint import KEY, Api, NativeEndpoint


def tried(api: Api, model: str, dimensions: int) -> Report:
    settings = Settings(_env_file=None, allowed_hosts="http://127.0.0.1=NATIVE_KEY")
    with NativeEndpoint(api) as endpoint:
        provider = Provider("test", base_url=endpoint.base_url, api_key_env="NATIVE_KEY", dialect=api.dialect)
        spec = Spec(model, dimensions, dialect=api.dialect)
        seen = Seen(subject_of(provider, spec, spec))
        deadline = Deadline.after(timedelta(seconds=100))
        run(seen, settings, {"NATIVE_KEY": KEY}, deadline=deadline, began=lambda _: None)
        assert seen.calls == len(endpoint.exchanges)
    return report_of(seen, settings)


@pytest.mark.parametrize(
    ("api", "model", "dimensions", "settings"),
    [
        (Cohere(), "embed-v4.0", 1_536, {}),
        pytest.param(*(Cohere(), "embed-english-v3.0", 1_024, {"max_input_tokens": 512}), marks=pytest.mark.slow),
        pytest.param(*(Voyage(), "voyage-4", 1_024, {}), marks=pytest.mark.slow),
        pytest.param(
            *(Gemini(), "gemini-embedding-001", 768, {"max_input_tokens": 2_048}), marks=pytest.mark.slow
        ),
    ],
)
def test_a_native_dialect_is_tested_within_its_own_limits(
    api: Api, model: str, dimensions: int, settings: dict[str, int]
) -> None:
    report = tried(api, model, dimensions)
    assert (report.works, report.stopped_by) == (True, None)
    assert {setting.key: setting.value for setting in report.settings} == settings
    levels = {finding.capability: finding.level for finding in report.findings}
    assert levels["batch of 257"] is Level.OK
    assert not [name for name in levels if name.startswith("encoding") or name == "dimensions"]


def test_a_size_that_the_model_lacks_is_an_error() -> None:
    report = tried(Cohere(), "embed-english-light-v3.0", 1_024)
    assert not report.works
    [finding] = [each for each in report.findings if each.capability == "dimensions of the pipeline"]
    assert (finding.result, finding.setting) == ("1,024 isn't available, only 384", "dimensions = 384")
