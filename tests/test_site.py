"""The course as a site: every page is there, links lead somewhere, nothing is fetched from elsewhere, anyone can read it."""

import ast
import functools
import http.server
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml

from browsing import ARTIFACTS, DESKTOP, chromium, unavailable
from tools import addresses, site

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
OTHER_PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "course_utils/README.md", "tests/benchmarks/README.md"),
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("course_utils/pretrained/**/README.md"))),
]
MODULES = (
    *("data", "model", "minimal", "training", "sampling", "pipeline", "evaluation", "classifier", "widgets"),
    *("watching", "recipes", "two_steps", "challenge", "own_pictures", "exercises"),
)
TRAINING, CLOTHES = "notebooks/03_training_and_sampling.html", "notebooks/06_fashion_mnist_challenge.html"
LOOKED_AT = ("index.html", TRAINING, "api/training.html", "tests/benchmarks/README.html")
NARROW = {"width": 360, "height": 740}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
# In place of the live page, whose own tests need npm; the site tells it to be light or dark, as the reader does the site.
STUB = """<!doctype html><html lang="en"><title>Stub</title>
<style>:root { color-scheme: light dark; } body { margin: 0; height: 777px; background: light-dark(white, black); }</style>
<body></body></html>"""
AXE = ROOT / "site" / "live" / "node_modules" / "axe-core" / "axe.min.js"


def needs_sphinx():
    if sys.version_info < (3, 11):
        pytest.skip("the theme of the site needs Python 3.11")
    try:
        site.check_packages()
    except ModuleNotFoundError as error:
        unavailable(str(error))


def add_stub(folder: Path):
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(STUB, encoding="utf-8")


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The folder of the built site."""
    needs_sphinx()
    folder = tmp_path_factory.mktemp("site")
    site.build(folder / "built", add_stub)
    return folder / "built" / "html"


class Page(HTMLParser):
    """What a page links to, loads, and holds."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.anchors, self.tags = [], [], set(), []
        self.text = path.read_text(encoding="utf-8")
        self.article = self.text.partition("<article")[2].partition("</article>")[0]  # without the lists of pages
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag == "link" and attributes.get("rel") != "canonical":
            self.loads.append(attributes["href"])
        self.loads += [attributes[key] for key in ("src", "poster", "data") if attributes.get(key)]

    def all(self, tag: str, css_class: str = "") -> list[dict]:
        """The attributes of the tags of a kind, those of a class only if one is given."""
        found = [attributes for name, attributes in self.tags if name == tag]
        return [attributes for attributes in found if not css_class or css_class in attributes.get("class", "").split()]


@pytest.fixture(scope="session")
def pages(built) -> dict[str, Page]:
    """The site's pages by their addresses; the theme's own snippets are none."""
    paths = [path for path in sorted(built.rglob("*.html")) if "_static" not in path.parts]
    return {path.relative_to(built).as_posix(): Page(path) for path in paths}


def page_of(source) -> str:
    """The address of the page that is made of a file of the repository."""
    path = Path(source)
    return (path.relative_to(ROOT) if path.is_absolute() else path).with_suffix(".html").as_posix()


def cells_of(notebook: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == kind]


def outputs_of(notebook: Path, mime_type: str) -> list:
    outputs = [output for cell in cells_of(notebook) for output in cell.outputs]
    return [output for output in outputs if mime_type in output.get("data", {})]


# The pages.


def test_no_page_is_missing(pages):
    expected = {page_of(path) for path in NOTEBOOKS} | {page_of(name) for name in OTHER_PAGES}
    expected |= {f"api/{name}.html" for name in (*MODULES, "index")} | {"index.html", "live/index.html"}
    assert expected <= set(pages)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_page_has_its_title_and_the_contents_link_it(pages, notebook):
    title = re.match(r"# (.+)", nbformat.read(notebook, 4).cells[0].source).group(1)
    page = pages[page_of(notebook)]
    assert f"<title>{title} &#8212; Draw the digit I ask for</title>" in page.text
    assert page.all("meta")[0] and {"property": "og:title", "content": title} in page.all("meta")
    assert page_of(notebook) in pages["index.html"].links


def test_notebooks_are_in_order_in_the_contents(pages):
    listed = [link for link in pages["index.html"].links if link.startswith("notebooks/") and "#" not in link]
    assert list(dict.fromkeys(listed)) == [page_of(path) for path in NOTEBOOKS]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_shown_with_their_words(pages, notebook):
    page = pages[page_of(notebook)]
    words = [" ".join(output.metadata["image/png"]["alt"].split()) for output in outputs_of(notebook, "image/png")]
    shown = [" ".join(tag["alt"].split()) for tag in page.all("img") if "_images/" in tag["src"]]
    assert words and shown == [word or "A figure without a title" for word in words]
    tables = [output for output in outputs_of(notebook, "text/markdown") if output.data["text/markdown"][0] == "|"]
    assert len(page.all("table")) >= len(tables)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_exercises_notes_and_formulas_can_be_read(pages, notebook):
    page, prose = pages[page_of(notebook)], "\n".join(cell.source for cell in cells_of(notebook, "markdown"))
    assert page.article.count("<details><summary>") == prose.count("<details><summary>")
    dots = [
        cell for cell in cells_of(notebook) if any(t.startswith("exercise-") for t in cell.metadata.get("tags", []))
    ]
    code = [re.sub(r"<[^>]+>", "", block) for block in re.findall(r"<pre>.*?</pre>", page.article, re.DOTALL)]
    assert sum("..." in block for block in code) >= len(dots)
    assert ("$" in re.sub(r"`[^`]*`", "", prose)) == bool(page.all("math"))
    assert "$$" not in re.sub(r"<pre>.*?</pre>", "", page.article, flags=re.DOTALL)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_one_button_to_colab_and_one_to_download_it(built, pages, notebook):
    page = pages[page_of(notebook)]
    colab = [link for link in page.links if "colab" in link]
    assert colab == [re.search(r"\((https://colab\.[^)]+ipynb)\)", addresses.badge(notebook.stem)).group(1)]
    (download,) = (tag["href"] for tag in page.all("a", "download"))
    assert (built / page_of(notebook)).parent.joinpath(download).read_bytes() == notebook.read_bytes()


def frames(page: Page) -> list[str]:
    return [tag["src"] for tag in page.all("iframe", "live-page")]


def test_the_live_page_is_where_a_class_is_picked(pages):
    assert frames(pages["index.html"]) == ["live/index.html?embed=1"]
    assert frames(pages[TRAINING]) == ["../live/index.html?embed=1#weights=mnist"]
    assert frames(pages[CLOTHES]) == ["../live/index.html?embed=1#weights=fashion_mnist"]
    before, after = pages[CLOTHES].text.split("<iframe")
    assert before.count(">ClassPicker<") == 2 and after.count(">ClassPicker<") == 1  # an import and a call, and a call


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_where_a_panel_cannot_be_shown_a_note_says_so(pages, notebook):
    panels = re.compile(r"^(ClassPicker|NoiseSlider|GuidanceSlider|EmbeddingMixer)\(", re.MULTILINE)
    calls = [cell for cell in cells_of(notebook) if panels.search(cell.source)]
    assert len(pages[page_of(notebook)].all("p", "panel-note")) == len(calls)


def test_the_reference_has_all_that_notebooks_take_from_its_modules(pages):
    taken = set()
    for path in ROOT.glob("notebooks/[0-9]*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.removeprefix("course_utils.") in MODULES:
                taken |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = {anchor for name in MODULES for anchor in pages[f"api/{name}.html"].anchors}
    assert len(taken) > 20 and taken - found == {"course_utils.exercises.broken_steps"}  # a module that draws a figure


def test_a_docstrings_arguments_are_listed(pages):
    text = re.sub(r"<[^>]+>", "", pages["api/sampling.html"].text)
    assert "num_inference_steps (int) – network evaluations per picture" in text and "Raises:" in text


def test_the_index_of_the_search_has_the_notebooks_words(built):
    index = json.loads((built / "searchindex.js").read_text(encoding="utf-8").removeprefix("Search.setIndex(")[:-1])
    places = index["terms"]["discrimin"]  # of discriminator
    assert "notebooks/07_faster" in [index["docnames"][number] for number in places]


@pytest.mark.parametrize("address", ["index.html", TRAINING, "api/training.html"])
def test_pages_name_their_language_address_icon_and_card(built, pages, address):
    page = pages[address]
    assert page.all("html")[0]["lang"] == "en"
    assert {"rel": "canonical", "href": addresses.site_address() + address} in page.all("link")
    (icon,) = (tag["href"] for tag in page.all("link") if tag.get("rel") == "icon")
    assert 100 < (built / address).parent.joinpath(icon).stat().st_size < 5_000
    cards = {tag["property"]: tag["content"] for tag in page.all("meta") if "property" in tag}
    assert cards["og:description"] == addresses.project_value("description")
    assert cards["og:url"] == addresses.site_address() + address
    assert (built / cards["og:image"].removeprefix(addresses.site_address())).is_file()


# Links.


def faults_of_links(built: Path, pages: dict[str, Page]) -> list[str]:
    """Links that lead to no file of the site, or to no anchor on its page."""
    faults = []
    for address, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data"):
                continue
            target = (built / address).parent.joinpath(unquote(parts.path)).resolve() if parts.path else built / address
            known = pages.get(target.relative_to(built).as_posix()) if target.is_relative_to(built) else None
            lost = known and link in page.links and parts.fragment and unquote(parts.fragment) not in known.anchors
            if parts.scheme or not target.is_relative_to(built) or not target.is_file() or lost:
                faults.append(f"{address}: {link}")
    return faults


def test_every_link_and_anchor_leads_somewhere(built, pages):
    assert faults_of_links(built, pages) == []
    assert sum(len(page.links) for page in pages.values()) > 1000


@pytest.mark.parametrize(
    "link", ["nowhere.html", "b.html#nowhere", "#nowhere", "../outside.html", "file:///etc/passwd"]
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, link):
    (tmp_path / "outside.html").write_text("", encoding="utf-8")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "b.html").write_text('<p id="here">', encoding="utf-8")
    (folder / "a.html").write_text(f'<a href="b.html#here"></a><a href="{link}"></a>', encoding="utf-8")
    read = {name: Page(folder / name) for name in ("a.html", "b.html")}
    assert faults_of_links(folder, read) == [f"a.html: {link}"]


def test_links_to_files_that_are_no_pages_lead_to_the_repository(pages):
    repository = addresses.GITHUB + addresses.repository()
    assert f"{repository}/blob/main/course_utils/minimal.py" in pages["README.html"].links
    assert f"{repository}/tree/main/course_utils/exercises" in pages["CONTRIBUTING.html"].links
    ours = [link for page in pages.values() for link in page.links if link.startswith(f"{repository}/")]
    files = [link.split("/main/")[1] for link in ours]
    assert len(files) > 10 and all((ROOT / file).exists() for file in files)


def test_links_between_pages_stay_on_the_site(pages):
    assert "01_data.html" in pages[TRAINING].links
    assert "../tests/benchmarks/README.html#the-log-of-trials" in pages["notebooks/07_faster.html"].links
    assert "course_utils/README.html#check-your-setup" in pages["README.html"].links


def test_nothing_is_loaded_from_another_host(built, pages):
    loaded = [load for page in pages.values() for load in page.loads]
    assert [load for load in loaded if urlsplit(load).netloc] == []
    for path in built.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


# What goes wrong.


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A site of one page, which a test may write."""
    needs_sphinx()
    own = tmp_path / "own"
    shutil.copytree(site.OWN, own, ignore=shutil.ignore_patterns("*.md", "__pycache__"))
    monkeypatch.setattr(site, "OWN", own)
    monkeypatch.setattr(site, "SHOWN", ())
    return own / "index.md"


@pytest.mark.parametrize(
    "text, words",
    [
        ("[a](nowhere.md)", "nowhere.md"),
        ("[a](#nowhere)", "nowhere"),
        (r"$\nonsense{x}$", "nonsense"),
        ("```{eval-rst}\n.. automodule:: course_utils.nowhere\n```", "course_utils.nowhere"),
    ],
)
def test_a_warning_stops_the_build_and_is_shown(small, tmp_path, capfd, text, words):
    small.write_text(f"# Title\n\n{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Sphinx has warned"):
        site.build(tmp_path / "built", add_stub)
    assert words in capfd.readouterr().err


def test_a_page_without_faults_is_built_anew_each_time(small, tmp_path):
    small.write_text("# Title\n", encoding="utf-8")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "old").write_text("", encoding="utf-8")
    site.build(tmp_path / "built", add_stub)
    assert (tmp_path / "built" / "html" / "live" / "index.html").is_file() and not (tmp_path / "built" / "old").exists()


def refused(capsys) -> str:
    """What the command says before it exits with status 2."""
    with pytest.raises(SystemExit) as stop:
        site.main()
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


def test_packages_that_are_missing_are_named_in_one_sentence(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "myst_nb" else found(name))
    needs = "the site needs packages that are not installed here: pip install"
    assert refused(capsys).startswith(f"error: {needs}") and "myst-nb" in refused(capsys)


def test_npm_that_is_missing_or_fails_is_one_sentence(monkeypatch, capsys, tmp_path):
    needs_sphinx()
    monkeypatch.setattr(site, "LIVE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert refused(capsys) == "error: the site needs npm, not installed here: install Node.js, which brings it."
    monkeypatch.setattr(shutil, "which", lambda name: "npm")
    monkeypatch.setattr(subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    assert refused(capsys).startswith("error: `npm ci --prefix") and "\n" not in refused(capsys)


def test_the_site_is_published_by_the_command_that_builds_it():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert "python -m tools.site" in " ".join(step.get("run", "") for step in steps)
    (upload,) = (step for step in steps if step.get("uses", "").startswith("actions/upload-pages-artifact@"))
    assert ROOT / upload["with"]["path"] == site.BUILD / "html"


# In a browser.


class Served(NamedTuple):
    """The site as a browser gets it."""

    address: str
    browser: object


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def served(built):
    """The site under a folder of its own, as GitHub Pages serves it."""
    with chromium() as browser:
        (built.parent / "served").mkdir(exist_ok=True)
        shutil.copytree(built, built.parent / "served" / "course", dirs_exist_ok=True)
        handler = functools.partial(Quiet, directory=built.parent / "served")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield Served(f"http://127.0.0.1:{server.server_port}/course/", browser)
            server.shutdown()


def open_page(served: Served, address: str, viewport: dict = DESKTOP, scheme: str = "light"):
    """A page of the site in a window of its own, and a list of what it asks of other hosts."""
    context = served.browser.new_context(viewport=viewport, color_scheme=scheme)
    page, foreign = context.new_page(), []
    ours = (served.address, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(ours) or foreign.append(request.url))
    page.goto(served.address + address)
    page.wait_for_load_state("networkidle")
    return page, foreign


def test_pages_ask_no_other_host_and_fit_a_phone(served, pages):
    page, foreign = open_page(served, "index.html", NARROW)
    too_wide = []
    for address in pages:
        page.goto(served.address + address, wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        too_wide += [f"{address}: {width}"] if width > NARROW["width"] else []
    assert foreign == [] and too_wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", LOOKED_AT)
def test_pages_are_light_or_dark_as_the_reader_likes(served, address, scheme):
    ARTIFACTS.mkdir(exist_ok=True)
    for viewport in (DESKTOP, NARROW):
        page, foreign = open_page(served, address, viewport, scheme)
        grey = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(grey[:3]) > 600) == (scheme == "light") and foreign == []
        name = address.replace("/", "-").removesuffix(".html")
        page.screenshot(path=ARTIFACTS / f"site-{name}-{scheme}-{viewport['width']}.png")
        page.context.close()


def test_the_frame_of_the_live_page_has_its_height_and_colours(served):
    page, _ = open_page(served, "index.html")
    page.wait_for_function("document.querySelector('.live-page').offsetHeight === 777")
    ground = "getComputedStyle(document.querySelector('.live-page').contentDocument.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")  # as the theme's button does
    page.wait_for_function(f"{ground} === 'rgb(0, 0, 0)'")
    page.context.close()


def test_the_search_finds_a_notebook(served):
    page, foreign = open_page(served, "search.html?q=guidance")
    page.locator(f"#search-results a[href^='{TRAINING}']").first.wait_for()
    assert foreign == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["index.html", CLOTHES, "api/training.html", "README.html"])
def test_nothing_bars_readers_with_disabilities(served, address, scheme):
    if not AXE.is_file():
        unavailable("axe-core is not installed: npm ci --prefix site/live")
    page, _ = open_page(served, address, scheme=scheme)
    page.add_script_tag(path=AXE)
    report = page.evaluate("axe.run(document, { iframes: false })")
    serious = [fault for fault in report["violations"] if fault["impact"] in ("serious", "critical")]
    assert {fault["id"]: [node["html"][:200] for node in fault["nodes"]][:3] for fault in serious} == {}
    page.context.close()
