"""Commands are imported when they are used, and what is listed about them is what they say."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest
import typer

from pgvector_sync import cli
from pgvector_sync.cli.commands import COMMANDS, Listed
from support.steps import Steps

NEVER = {"celery", "kombu", "openai", "httpx2", "numpy", "redis", "structlog"}
"""Packages that take long to import, and that commands which only read our own tables don't need."""
NEVER_FOR_HELP = NEVER | {"psycopg", "pydantic", "pydantic_settings", "importlib.metadata"}


@pytest.fixture(params=[command[0] for command in COMMANDS])
def listed(request: pytest.FixtureRequest) -> Listed:
    [command] = [command for command in COMMANDS if command[0] == request.param]
    return Listed(*command)


def imported_by(*arguments: str) -> set[str]:
    """The modules that a process has imported when a command ends, which must succeed."""
    program = (
        "import json, sys\n"
        "from pgvector_sync.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_no_command_and_little_else() -> None:
    modules = imported_by("--help")
    assert not NEVER_FOR_HELP & modules
    assert {name for name in modules if name.startswith("pgvector_sync.cli.")} == {
        f"pgvector_sync.cli.{name}" for name in ("app", "commands", "flags")
    }


@pytest.mark.quick_variants(1)
@pytest.mark.parametrize("arguments", [("status",), ("pause", "docs"), ("runs", "list"), ("dead-letters", "list")])
def test_a_short_command_imports_nothing_that_embeds_or_sends_messages(
    docs: Steps, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DATABASE_URL", docs.synced.database.url)
    assert not NEVER & imported_by(*arguments)


def test_the_listed_help_is_the_commands_own(listed: Listed) -> None:
    command = listed.load()
    assert command.name == listed.name
    assert listed.help == inspect.cleandoc(command.help).split("\n\n")[0].replace("\n", " ")


def test_no_help_has_words_in_brackets_which_rich_takes_for_markup(listed: Listed) -> None:
    command = listed.load()
    for each in [command, *getattr(command, "commands", {}).values()]:
        assert not [
            option.name for option in each.params if re.search(r"\[[a-z/@#]", getattr(option, "help", "") or "")
        ]


def test_every_command_of_every_module_is_listed() -> None:
    registered: dict[str, str] = {}
    for module in iter_modules(cli.__path__):
        register = getattr(import_module(f"pgvector_sync.cli.{module.name}"), "register", None)
        if register is not None:
            app = typer.Typer()
            register(app)
            registered |= dict.fromkeys(typer.main.get_group(app).commands, module.name)
    assert registered == {name: module for name, module, _ in COMMANDS}


def test_a_misspelt_command_is_answered_with_the_right_one(command_line) -> None:
    code, _, err = command_line("statu")
    assert code == 2
    assert "Did you mean 'status'?" in err


def test_no_help_has_brackets_that_are_taken_for_markup_and_not_shown() -> None:
    loaded = [Listed(*command).load() for command in COMMANDS]
    commands = [each for command in loaded for each in (command, *getattr(command, "commands", {}).values())]
    for command in commands:
        for text in (command.help, *(getattr(parameter, "help", None) for parameter in command.params)):
            assert not re.search(r"\[[a-z/#@]", text or ""), f"{command.name}: {text}"


def test_flags_have_no_type_in_the_help_of_a_command(command_line) -> None:
    for arguments in (["sync"], ["runs", "list"]):
        code, out, _ = command_line(*arguments, "--help")
        assert code == 0
        assert "<bool>" not in out
    assert "--json" in out
