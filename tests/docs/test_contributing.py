"""CONTRIBUTING.md, the Makefile, pre-commit and CI agree on what a contributor runs."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in body.splitlines()]


def test_pre_commit_runs_exactly_the_commands_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == recipe("lint")
    assert all(hook["always_run"] and not hook["pass_filenames"] for hook in hooks)


def test_the_complete_check_builds_the_docs_strictly():
    assert "step make docs\n" in (ROOT / ".ci/run").read_text("utf-8")
    assert any("--strict" in line for line in recipe("docs"))


def test_every_make_command_that_the_guide_names_exists():
    named = {word for line in re.findall(r"`make ([a-z -]+)", CONTRIBUTING) for word in line.split()}
    assert {"test", "test-slow", "lint", "docs", "proof", "soak", "figures", "release", "pins"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
