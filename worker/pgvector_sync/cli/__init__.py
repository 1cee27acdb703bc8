"""How is a command typed, and what does it print? Each file adds its commands to `app.app`;
`main` makes errors exit codes.

`health` is answered before anything else is imported: it is asked every few seconds.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec, module_from_spec
from typing import NoReturn

__all__ = ["main"]

_PACKAGES = ("pgvector_sync.database", "pgvector_sync.settings", "pgvector_sync.telemetry")
"""Those of which `health` needs a single module, while their own code imports what takes longer than the query."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["health"] and not {"-h", "--help"} & set(given):
        if not os.path.isdir(".pgvector-sync"):  # noqa: PTH112  embedded servers are looked up by whole packages
            _leave_out_package_code()
        from pgvector_sync.cli import health

        health.run(given[1:])
    from pgvector_sync.cli.app import main as run

    run(arguments)


def _leave_out_package_code() -> None:
    """Lets the rest of this process import modules of these packages without running the packages' own code."""
    for name in _PACKAGES:
        spec = find_spec(name)
        if name not in sys.modules and spec is not None:
            sys.modules[name] = module_from_spec(spec)
