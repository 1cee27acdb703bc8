"""Loads the fixtures and options of `tests/support`; see README.md."""

from __future__ import annotations

import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is if a shell started the tests in the background. Their processes would inherit it and miss every Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
pytest.register_assert_rewrite("support")  # so that a failing assertion there shows its values
pytest_plugins = ["support.plugin", "support.fixtures"]
