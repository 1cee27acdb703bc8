"""How is a command typed, and what does it print? Each module registers its commands on `app.app`; `main` turns
errors into exit codes.

`health` and `probe` run before anything else is imported, because orchestrators call them every few seconds.
"""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys
from importlib.util import find_spec, module_from_spec
from typing import NoReturn

__all__ = ["main"]

_SKIPPED_PACKAGES = ("pgvector_sync.database", "pgvector_sync.settings", "pgvector_sync.telemetry")
"""Packages of which `health` needs single modules. Their `__init__` imports more than the query costs."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command in `arguments` (default: `sys.argv`) and exit."""
    typed = sys.argv[1:] if arguments is None else arguments
    _escape_what_stdout_lacks()
    if typed[:1] == ["health"] and not {"-h", "--help"} & set(typed):
        if not os.path.isdir(".pgvector-sync"):  # noqa: PTH112  finding embedded servers needs the whole packages
            _skip_package_code()
        from pgvector_sync.cli import health

        health.run(typed[1:])
    if typed[:1] == ["probe"] and not {"-h", "--help"} & set(typed):
        from pgvector_sync.cli import probe

        probe.run(typed[1:])
    if arguments is None:
        gc.disable()  # during imports, which leave little garbage: a fifth of the CPU time of a short command
    from pgvector_sync.cli.app import main as run

    run(arguments)


def _escape_what_stdout_lacks() -> None:
    """Let stdout escape the characters that its encoding lacks: rows, and thus results, may have any."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("pgvector_sync.escape", _escaped)
        sys.stdout.reconfigure(errors="pgvector_sync.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Escape characters as \uXXXX, which JSON documents may contain, unlike the \xXX of `backslashreplace`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)), error.end


def _skip_package_code() -> None:
    """Make modules of these packages importable in this process without running the packages' `__init__`."""
    for name in _SKIPPED_PACKAGES:
        spec = find_spec(name)
        if name not in sys.modules and spec is not None:
            sys.modules[name] = module_from_spec(spec)
