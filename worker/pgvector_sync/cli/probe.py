"""`probe`: asks one worker, beat or `sync` on this machine whether it is ready, or alive.

Orchestrators call it every few seconds, and most of a command's cost is imports, so it imports next to nothing.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from pgvector_sync.engine import pulse_socket

ROLES = ("worker", "beat", "sync")
HELP = "Ask a worker, beat or sync on this machine whether it is ready. Exits 0 if so, and 1 if not."
USAGE = "usage: pgvector-sync probe {worker,beat,sync} [--live] [--name NAME]"
LIVE_HELP = "Ask only whether it is alive: for liveness probes. It is, as long as it works or waits for a server."
NAME_HELP = "The name of the process, if several run here: for a worker its Celery node name."


def run(arguments: list[str]) -> NoReturn:
    """Run the command with its command-line `arguments` and exit."""
    live, name, roles = False, None, []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--live":
            live = True
        elif argument == "--name":
            name = next(rest, None)
            if name is None:
                _misused("expected a name after --name")
        elif argument.startswith("--name="):
            name = argument.partition("=")[2]
        elif argument.startswith("-"):
            _misused(f"unknown option: {argument}")
        else:
            roles.append(argument)
    if len(roles) != 1 or roles[0] not in ROLES:
        _misused(f"expected one of {', '.join(ROLES)}, got {' '.join(roles) or 'nothing'}")
    passed, lines = check(roles[0], live=live, name=name)
    print("\n".join(lines))  # noqa: T201
    sys.exit(0 if passed else 1)


def check(role: str, *, live: bool = False, name: str | None = None) -> tuple[bool, list[str]]:
    """Ask all processes of a role, or the named one; return whether all passed, and a line per process."""
    answers = [_ask(role, path, live=live, name=name) for path in pulse_socket.sockets(role)]
    known = [answer for answer in answers if answer is not None]
    if not known:
        called = f" called {name}" if name else ""
        return False, [f"no {role}{called} of this user runs here: there is no socket in {pulse_socket.folder()}"]
    return all(passed for passed, _ in known), [line for _, line in known]


def _ask(role: str, path: str, *, live: bool, name: str | None) -> tuple[bool, str] | None:
    import json

    pid = path.rpartition("-")[2].removesuffix(pulse_socket.SUFFIX)
    try:
        answer = json.loads(pulse_socket.ask(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return None if name else (False, f"not running: {role} with process id {pid} was killed")
    except TimeoutError:
        limit = pulse_socket.TIMEOUT_SECONDS
        return False, f"not answering: {role} with process id {pid} gave no answer within {limit:g} s"
    except (OSError, ValueError) as error:
        return False, f"not answering: {role} with process id {pid} ({type(error).__name__})"
    if name not in (None, answer["name"]):
        return None
    passed = bool(answer["live"] if live else answer["ready"])
    state = ("" if passed else "not ") + ("alive" if live else "ready")
    problems = "; ".join(answer["problems"])
    return passed, f"{state}: {answer['name']}" + (f" ({problems})" if problems else "")


def _misused(problem: str) -> NoReturn:
    sys.stderr.write(f"error: {problem}\n  → {USAGE}\n")
    sys.exit(2)
