"""The links of the Markdown pages work, both on a forge and on the site that `make docs` builds."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPEC = spec_from_file_location("lay_out", ROOT / "docs/lay_out.py")
lay_out = module_from_spec(SPEC)
SPEC.loader.exec_module(lay_out)

PAGES = sorted(lay_out.pages(), key=str)
NAMED = re.compile(r"`((?:tests|benchmarks|sql|worker|docs)/[\w./-]+)`")


def text(page: Path) -> str:
    return (ROOT / page).read_text("utf-8")


def prose(page: Path) -> list[str]:
    """The lines outside fenced code."""
    fenced, lines = False, []
    for line in text(page).splitlines():
        fenced ^= line.lstrip().startswith("```")
        lines.append("" if fenced or line.lstrip().startswith("```") else line)
    return lines


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    headings = [line.lstrip("# ") for line in prose(page) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def nav(entries: list) -> list[str]:
    """The pages of a navigation, in its order."""
    pages = []
    for entry in entries:
        (place,) = entry.values()
        pages += nav(place) if isinstance(place, list) else [place]
    return pages


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in lay_out.links(text(page)):
        file = lay_out.resolve(page, target)
        anchor = target.partition("#")[2]
        assert not anchor or anchor in anchors(page if target.startswith("#") else file), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_exists(page):
    if page.name != "CHANGELOG.md" and "decisions" not in page.parts:
        for name in NAMED.findall(text(page)):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_lists_and_tables_follow_a_blank_line_without_which_the_site_does_not_see_them(page):
    lines = prose(page)
    for before, line in pairwise(lines):
        begins = re.match(r"(- |\d+\. |\|)", line)
        if begins and before.strip():
            assert re.match(r"( *- | *\d+\. | {2,}|\|)", before), line


def test_the_readme_links_to_every_page():
    linked = {lay_out.resolve(Path("README.md"), target) for target in lay_out.links(text(Path("README.md")))}
    assert [
        page for page in PAGES if page.parts[0] == "docs" and "decisions" not in page.parts and page not in linked
    ] == []


def test_every_page_is_in_the_navigation_once():
    places = [place.as_posix() for place in lay_out.pages().values() if place.parent.name != "decisions"]
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = nav(yaml.load(config, Loader=yaml.BaseLoader)["nav"])  # BaseLoader ignores the Python objects in it
    assert sorted(listed) == sorted([*places, "decisions/index.md"])


def test_every_decision_is_listed_with_its_heading():
    listed = lay_out.decisions()
    for path in sorted((ROOT / "docs/decisions").glob("*.md")):
        assert f"[{path.read_text('utf-8').splitlines()[0].removeprefix('# ')}]({path.name})" in listed


@pytest.fixture
def repository(tmp_path):
    """A small repository with a README, a page, a decision and a source file."""
    for name, body in {
        "README.md": "[page](docs/page.md#part) `[code](docs/none.md)` [why](docs/decisions) [SQL](sql/a.sql)",
        "docs/page.md": "[home](../README.md) [out](https://example.com) [here](#part)\n\n## Part\n",
        "docs/decisions/0001-x.md": "# 0001. X\n\n[page](../page.md)\n",
        "sql/a.sql": "SELECT 1;\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, "utf-8")
    return tmp_path


def test_links_hold_on_the_site_and_links_to_source_files_become_text(repository, tmp_path):
    lay_out.lay_out(tmp_path / "site", repository)
    laid_out = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text()
        for path in (tmp_path / "site").rglob("*.md")
    }
    assert laid_out["index.md"] == "[page](page.md#part) `[code](docs/none.md)` [why](decisions/index.md) SQL"
    assert laid_out["page.md"].startswith("[home](index.md) [out](https://example.com) [here](#part)")
    assert "[page](../page.md)" in laid_out["decisions/0001-x.md"]
    assert "[0001. X](0001-x.md)" in laid_out["decisions/index.md"]


@pytest.mark.parametrize("target", ["none.md", "../../elsewhere.md", "/etc/hosts"])
def test_a_dead_link_is_refused_with_its_page(repository, target):
    (repository / "docs/page.md").write_text(f"[x]({target})")
    with pytest.raises(FileNotFoundError, match=r"docs/page\.md: the link to .* leads nowhere"):
        lay_out.lay_out(repository / "site", repository)
