"""Relative links and anchors of every page lead somewhere, and every picture says in words what it shows."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import jupytext
import pytest
from markdown_it import MarkdownIt

from tools import authoring

ROOT = Path(__file__).parent.parent
PAGES_OF_THE_PACKAGE = sorted((ROOT / "course_utils").rglob("*.md"))  # the cards of the weights among them
PAGES = [*sorted(ROOT.glob("*.md")), *PAGES_OF_THE_PACKAGE, *authoring.notebook_sources()]


def markdown_of(page: Path) -> str:
    """The text of a page; of a notebook, its Markdown cells."""
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    notebook = jupytext.read(page.with_suffix(".py"))
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tokens_of(markdown: str) -> list:
    """All Markdown tokens, those within paragraphs and headings too."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        found += [token, *(token.children or ())]
    return found


class Tags(HTMLParser):
    """The attributes of a page's HTML tags, such as those of a picture with a width."""

    def __init__(self, markdown: str):
        super().__init__()
        self.found = []
        for token in tokens_of(markdown):
            if token.type in ("html_inline", "html_block"):
                self.feed(token.content)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def links_of(markdown: str) -> list[str]:
    """Where a page's links and pictures point, as they are written."""
    tokens = tokens_of(markdown)
    links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
    links += [token.attrs["src"] for token in tokens if token.type == "image"]
    return links + [tag[key] for _, tag in Tags(markdown).found for key in ("href", "src") if key in tag]


def without_words(markdown: str) -> list[str]:
    """The pictures that have no text in their place."""
    found = [token.attrs["src"] for token in tokens_of(markdown) if token.type == "image" and not token.content.strip()]
    tags = [tag for name, tag in Tags(markdown).found if name == "img"]
    return found + [tag.get("src") for tag in tags if not (tag.get("alt") or "").strip()]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings: as GitHub makes them, or, of a notebook, as Jupyter does."""
    tokens = MarkdownIt("commonmark").parse(markdown_of(page))
    headings = ["".join(child.content for child in tokens[i + 1].children) for i in headings_among(tokens)]
    if page.suffix != ".md":
        return {heading.replace(" ", "-") for heading in headings}
    anchors = set()
    for heading in headings:
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(1 for other in anchors if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other))
        anchors.add(f"{anchor}-{count}" if count else anchor)
    return anchors


def headings_among(tokens: list) -> list[int]:
    return [i for i, token in enumerate(tokens) if token.type == "heading_open"]


def broken_links(page: Path, root: Path = ROOT) -> list[str]:
    """The relative links of a page that lead to no file of the course, or to no heading in it."""
    broken = []
    for link in links_of(markdown_of(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(root):
            broken.append(link)
        elif anchor and (target.is_dir() or anchor not in anchors_of(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_anchors_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_have_words(page):
    assert without_words(markdown_of(page)) == []


def test_pages_and_links_are_found():
    links = {page.name: links_of(markdown_of(page)) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "01_data.py"} <= set(links)
    assert "notebooks/01_data.ipynb" in links_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "notebooks/images/slider.gif" in links_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "01_data.ipynb" in links["02_conditioned_unet.py"] and "README.md#start" in links["CONTRIBUTING.md"]


@pytest.mark.parametrize(
    "text, broken",
    [
        ("[a](there.md)", []),
        ("[a](there.md#a-heading-with-code-1)", []),
        ("[a](#here)\n\n# Here", []),
        ("[a](https://example.org/nowhere)", []),
        ("`[a](nowhere.md)`", []),
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("[a][1]\n\n[1]: nowhere.md", ["nowhere.md"]),
        ("| a |\n|---|\n| [a](nowhere.md) |", ["nowhere.md"]),
        ("![a](nowhere.png)", ["nowhere.png"]),
        ('<img src="nowhere.png" alt="a">', ["nowhere.png"]),
        ("[a](there.md#a-heading)", ["there.md#a-heading"]),
        ("[a](#nowhere)\n\n# Here", ["#nowhere"]),
        ("[a](../../outside.md)", ["../../outside.md"]),
        ("[a](one.ipynb#A-Title)", []),
        ("[a](one.ipynb#a-title)", ["one.ipynb#a-title"]),
    ],
)
def test_a_broken_link_is_found(tmp_path, text, broken):
    (tmp_path / "course").mkdir()
    (tmp_path / "outside.md").write_text("", encoding="utf-8")
    (tmp_path / "course" / "there.md").write_text(
        "# A heading, with `code`\n\n# A heading, with `code`\n", encoding="utf-8"
    )
    (tmp_path / "course" / "one.py").write_text("# %% [markdown]\n# # A Title\n", encoding="utf-8")
    (tmp_path / "course" / "one.ipynb").write_text("", encoding="utf-8")
    page = tmp_path / "course" / "page.md"
    page.write_text(text, encoding="utf-8")
    assert broken_links(page, tmp_path / "course") == broken


@pytest.mark.parametrize("text", ["![](a.png)", '<img src="a.png">', '<img src="a.png" alt=" ">', "[![](a.png)](b.md)"])
def test_a_picture_without_words_is_found(text):
    assert without_words(text) == ["a.png"]
