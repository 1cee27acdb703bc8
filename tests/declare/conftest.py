from __future__ import annotations

import pytest

from pgvector_sync.declare.file import Config, load_config
from pgvector_sync.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    def write_and_load(text: str) -> Config:
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
