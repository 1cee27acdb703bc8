"""What every test gets stands in `tests/support`: see README.md."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support")  # so that a check that fails there shows its values, too
pytest_plugins = ["support.plugin", "support.fixtures"]
