"""How bad a finding of `doctor` or `provider test` is."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    """Nothing to do; advice, if any, is a remark."""
    WARNING = "warning"
    """It works, but not as well or as long as it could: it costs calls, or the quality of the vectors."""
    ERROR = "error"
    """Something doesn't work, will fail, or would give wrong vectors."""
