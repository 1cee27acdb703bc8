"""Loads the fixtures and options of `tests/support`; see README.md."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support")  # so that a failing assertion there shows its values
pytest_plugins = ["support.plugin", "support.fixtures"]
