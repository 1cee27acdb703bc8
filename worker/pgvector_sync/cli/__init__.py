"""How is a command typed, and what does it print? Each file adds its commands to `app.app`;
`main` makes errors exit codes.

`health` is answered before anything else is imported: it is asked every few seconds.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["health"] and not {"-h", "--help"} & set(given):
        from pgvector_sync.cli import health

        health.run(given[1:])
    from pgvector_sync.cli.app import main as run

    run(arguments)
