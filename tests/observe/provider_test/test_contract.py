"""Every endpoint of support/endpoints.toml: what `provider test` proposes for it makes it work."""

from __future__ import annotations

from typing import Any

import pytest

from embedding.test_contract import ENDPOINTS, OWN_SIZE, quirks
from observe.provider_test.test_endpoints import tried
from support.endpoint import Endpoint


def size_for(entry: dict[str, Any]) -> int:
    """The pipeline's dimensions: the model's own if the endpoint can't be asked for others."""
    fixed = {"ignores_dimensions", "refuses_dimensions"} & set(quirks(entry))
    return OWN_SIZE if fixed else 64


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENDPOINTS, ids=lambda entry: entry["name"])
def test_the_proposed_settings_make_an_endpoint_work(entry: dict[str, Any]) -> None:
    body = entry.get("pipeline", {}).get("document", {}).get("body", {})
    how = {"dimensions": size_for(entry), "body": body}
    with Endpoint() as endpoint:
        endpoint.behave(*quirks(entry))
        first = tried(endpoint.base_url, **how)
        proposed = {setting.key: setting.value for setting in first.settings}
        assert first.works or proposed
        second = tried(endpoint.base_url, **how, **proposed)
    assert second.works
    assert second.settings == ()
