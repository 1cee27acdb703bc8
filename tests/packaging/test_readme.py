"""Runs the commands in the README as written."""

import re
import subprocess
from pathlib import Path

import pytest

from support.blocks import blocks_of, run, search_path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
LINES = 180
BLOCKS = blocks_of(README)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LINES


def test_every_block_is_run_or_states_why_not():
    marks = {block.mark for block in BLOCKS}
    assert marks <= {
        "",
        "run by .ci/run",
        "runs until Ctrl-C",
        "not run: tests/packaging installs the wheel",
        "not run: needs an engine",
    }


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.body.splitlines()[0][:40])
def test_every_block_is_valid_bash(block):
    subprocess.run(["bash", "-n"], input=block.body, text=True, check=True)


def test_ci_runs_the_two_commands():
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    for line in next(block for block in BLOCKS if block.mark == "run by .ci/run").body.splitlines():
        assert line.split("#")[0].strip() in ci


def test_links_point_to_existing_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_steps_to_sync_a_table_work_as_written(database, redis_url, processes, tmp_path):
    database.execute(
        "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, published boolean NOT NULL);"
        "INSERT INTO articles SELECT n, 'Title ' || n, 'About the number ' || n, n <> 7 FROM generate_series(1, 50) n"
    )
    environment = {"DATABASE_URL": database.url, "REDIS_URL": redis_url, "PATH": search_path()}
    printed = ""
    for block in BLOCKS:
        if block.mark == "runs until Ctrl-C":
            started = processes.start("bash", "-c", f"exec {block.body.strip()}", **environment)
            started.wait_for(r"worker_ready|beat: Starting")
        elif block.mark == "":
            printed += run(block, tmp_path, **environment)
    assert "articles_embedding" in printed
    assert "A bread that rises overnight" in printed
    assert database.value("SELECT count(*) FROM articles_embedding") == 49
