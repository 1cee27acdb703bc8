"""Lays the Markdown pages of the repository out for the documentation site. `make docs` runs it before the build.

Some pages stay outside `docs/`, where a forge looks for them (README.md, CONTRIBUTING.md). Every page is copied to
its place on the site, and its links are rewritten to match. A link to a source file becomes plain text, since the
site has no source files. A link to a file that doesn't exist fails here; the strict build checks the anchors.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "tests/README.md": "tests.md",
    "tests/proof/README.md": "proof.md",
}
"""Pages outside `docs/`, and where the site has them."""

CODE = re.compile(r"^```.*?^```|^~~~.*?^~~~|`[^`\n]+`", re.MULTILINE | re.DOTALL)
PICTURES = (".svg", ".png")
"""The endings of files below `docs/` that pages show."""
LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])+)\]\((?P<target>[^)\s]+)\)")


def pages(root: Path = ROOT) -> dict[Path, Path]:
    """Each page of the repository, and its place on the site. Both are relative."""
    docs = {
        path.relative_to(root): path.relative_to(root / "docs") for path in sorted((root / "docs").rglob("*.md"))
    }
    return docs | {Path(page): Path(place) for page, place in ELSEWHERE.items() if (root / page).exists()}


def links(text: str) -> list[str]:
    """The targets of the links in a page that lead to another place in the repository, or to an anchor."""
    without_code = CODE.sub(lambda code: " " * len(code[0]), text)
    return [link["target"] for link in LINK.finditer(without_code) if "://" not in link["target"]]


def resolve(page: Path, target: str, root: Path = ROOT) -> Path:
    """The file or folder that a link leads to, relative to the repository."""
    file = (root / page.parent / target.partition("#")[0]).resolve()
    if not file.is_relative_to(root.resolve()) or not file.exists():
        raise FileNotFoundError(f"{page}: the link to {target} leads nowhere")
    return file.relative_to(root.resolve())


def on_site(page: Path, text: str, places: dict[Path, Path], root: Path = ROOT) -> str:
    """A page's text with links that hold on the site."""
    here = places[page]

    def rewrite(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target or target.startswith("#"):
            return link[0]
        file = resolve(page, target, root)
        if file.suffix in PICTURES and file.is_relative_to("docs"):
            return link[0]
        place = Path("decisions/index.md") if file == Path("docs/decisions") else places.get(file)
        if place is None:
            return link["text"]
        anchor = target.partition("#")[1:]
        return f"[{link['text']}]({Path(os.path.relpath(place, here.parent)).as_posix()}{''.join(anchor)})"

    kept: list[str] = []

    def keep(code: re.Match[str]) -> str:
        kept.append(code[0])
        return f"\0{len(kept) - 1}\0"

    rewritten = LINK.sub(rewrite, CODE.sub(keep, text))
    return re.sub(r"\0(\d+)\0", lambda code: kept[int(code[1])], rewritten)


def decisions(root: Path = ROOT) -> str:
    """The list of decisions, by their headings."""
    lines = ["# Decisions", "", "Why things are as they are, one page per decision.", ""]
    for path in sorted((root / "docs/decisions").glob("*.md")):
        heading = path.read_text("utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{heading}]({path.name})")
    return "\n".join(lines) + "\n"


def lay_out(folder: Path, root: Path = ROOT) -> None:
    """Writes every page below an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    places = pages(root)
    for page, place in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(on_site(page, (root / page).read_text("utf-8"), places, root), "utf-8")
    for picture in sorted(path for path in (root / "docs").rglob("*") if path.suffix in PICTURES):
        place = folder / picture.relative_to(root / "docs")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, place)
    (folder / "decisions/index.md").write_text(decisions(root), "utf-8")


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
