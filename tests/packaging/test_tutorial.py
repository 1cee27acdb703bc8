"""Runs the commands in the tutorial as written, with `up` on the test's servers."""

import re
import subprocess
from pathlib import Path

import pytest

from support.blocks import blocks_of, run, search_path

BLOCKS = blocks_of((Path(__file__).parents[2] / "docs/tutorial.md").read_text("utf-8"))


def test_every_block_is_run_or_states_why_not():
    marks = {block.mark for block in BLOCKS}
    assert marks == {"", "runs until Ctrl-C", "not run: tests/packaging installs the wheel"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.body.splitlines()[0][:40])
def test_every_block_is_valid_bash(block):
    subprocess.run(["bash", "-n"], input=block.body, text=True, check=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_works_as_written_and_prints_what_it_promises(database, redis_url, processes, tmp_path):
    environment = {"DATABASE_URL": database.url, "REDIS_URL": redis_url, "PATH": search_path()}
    printed = []
    for block in BLOCKS:
        if block.mark == "runs until Ctrl-C":
            started = processes.start("bash", "-c", f"cd {tmp_path} && exec {block.body.strip()}", **environment)
            started.wait_for(r"worker_ready")
        elif block.mark == "":
            printed.append(run(block, tmp_path, **environment))
    _table, declared, searched, paused, resumed, deleted, repaired, removed = printed
    assert "recipes_embedding" in declared
    assert "Lemonade" in searched
    assert "paused" in paused
    assert "Iced tea" in resumed
    assert re.findall(r"^ +(\d+)$", deleted, re.MULTILINE) == ["1", "3"]
    assert "drift found: exit code 1" in repaired
    assert re.search(r"^ +3$", removed, re.MULTILINE)
