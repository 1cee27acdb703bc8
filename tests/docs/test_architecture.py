"""docs/architecture.md lists every folder with its question, and names only paths that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "worker/pgvector_sync"
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
FOLDERS = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.MULTILINE))
PATHS = sorted(
    {path for path in re.findall(r"`([\w./-]+)`", PAGE) if "/" in path or Path(path).suffix in {".md", ".py"}}
)


def test_every_folder_of_the_package_is_in_the_table():
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(FOLDERS) == modules - {"__init__", "__main__", "celery_app"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_answers_the_question_of_its_docstring(name):
    module = PACKAGE / name / "__init__.py"
    docstring = ast.get_docstring(
        ast.parse((module if module.exists() else PACKAGE / f"{name}.py").read_text("utf-8"))
    )
    question = re.match(r".+?\?(?= |$)", docstring.splitlines()[0])
    assert question is None or question[0] == FOLDERS[name]


def test_the_page_names_more_than_40_paths():
    assert len(PATHS) > 40


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path):
    assert (ROOT / path).exists() or (PACKAGE / path).exists()


def test_every_kind_of_feature_has_its_row():
    rows = re.findall(r"^\| ([a-z ]+) \|", PAGE.split("## Where to add a feature", 1)[1], re.MULTILINE)
    assert {"provider dialect", "failure class", "drift kind", "doctor check", "metric"} <= set(rows)
    assert {"pipeline option", "command", "periodic job"} <= set(rows)
