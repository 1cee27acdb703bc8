"""Every command in docs/runbook.md is run in the situation that it is meant for, and prints what the page shows."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from deploy.rules import alerts
from deploy.runbook import PAGE, commands, missing, sections
from deploy.scenes import SCENES
from pgvector_sync.cli.app import app

SECTIONS = sections(PAGE.read_text("utf-8"))
NOT_RUN = "runs until Ctrl-C"


@pytest.mark.slow
@pytest.mark.parametrize("heading", SCENES)
def test_the_commands_print_what_the_runbook_shows(heading, scene):
    to_run = [command for command in commands(SECTIONS[heading]) if command.mark != NOT_RUN]
    assert to_run
    with SCENES[heading](scene):
        for command in to_run:
            if command.mark:
                scene.happens[command.mark]()
            printed = scene.run(command.body)
            line = missing(command.output, printed)
            assert line is None, f"$ {command.body}\n{printed}\nlacks: {line}"
            assert "Traceback" not in printed
        scene.solved()


def test_every_alert_has_a_section_and_every_section_an_alert():
    names = {alert["alert"] for alert in alerts()}
    assert names == {heading for heading in SECTIONS if heading.startswith("PgvectorSync")}


@pytest.mark.parametrize("heading", [heading for heading in SECTIONS if heading.startswith("PgvectorSync")])
def test_a_section_says_what_it_means_what_to_look_at_what_to_do_and_whom_to_wake(heading):
    text = PAGE.read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    assert "**Means.**" in text
    assert "**Wake somebody" in text
    assert "```bash" in text
    assert heading in SCENES or any(part in SCENES for part in re.findall(r"^### (.+)$", text, re.MULTILINE))


def test_every_command_is_run_in_a_scene_and_shows_what_it_prints():
    with_commands = {heading for heading, text in SECTIONS.items() if commands(text)}
    assert with_commands == set(SCENES)
    for heading in with_commands:
        for command in commands(SECTIONS[heading]):
            assert (command.output != "") != (command.mark == NOT_RUN), f"{heading}: {command.body}"


def named_commands() -> list[str]:
    """Every command line of ours, in blocks and within the text."""
    page = PAGE.read_text("utf-8")
    blocks = "\n".join(command.body for command in commands(page))
    found = re.findall(r"^(?:\w+=\S+ )?(pgvector-sync .+)$", blocks, re.MULTILINE)
    found += re.findall(r"`(pgvector-sync [^`]+)`", page)
    return sorted(set(found))


def test_commands_are_named_in_the_text():
    assert len(named_commands()) > 20


@pytest.mark.parametrize("line", named_commands())
def test_every_command_and_option_exists(line):
    name, *words = shlex.split(line)[1:]
    command = get_command(app).commands[name].load()
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    options = {word for word in words if word.startswith("--")}
    if line.startswith("pgvector-sync worker"):
        known |= {"--pool", "--concurrency"}  # Celery's
    assert options <= known


@pytest.mark.parametrize(
    ("expected", "printed", "lacking"),
    [
        ("articles  active  20", "pipeline\narticles   active ~0\n", "articles  active  20"),
        ("articles  active  20", "articles active  7", None),
        ("b\na", "a\nb", "a"),
        ("a … c\n…\nd", "x\na b b c\ny\nd", None),
        ("a … c", "a\nc", "a … c"),
        ("lag 2.5 s (1)", "lag 10.0 s (7)", None),
    ],
)
def test_what_is_compared(expected, printed, lacking):
    assert missing(expected, printed) == lacking
