"""What makes pages of this site from files that are written for GitHub and Jupyter: links, buttons, formulas, panels."""

import posixpath
import re

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

from course_utils.widgets import ClassPicker, LivePanel
from tools.addresses import GITHUB, REPOSITORY_ROOT, repository

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
PICTURE = "image/png"
PANEL = re.compile(rf"\b({'|'.join(kind.__name__ for kind in LivePanel.__subclasses__())})\(")
DATASET = re.compile(r'load_dataset\("(\w+)"')
LIVE_NOTE = (
    "In the notebook, a panel appears here. The panel above is like it, and runs in your browser: it draws with the "
    "weights that come with the course."
)
STILL_NOTE = "In the notebook, a panel appears here that you can move. It needs Python: open the notebook to try it."


def setup(app: Sphinx) -> dict:
    app.add_directive("live-page", LivePage)
    for transform in (LinksToSources, Buttons, Panels, PicturesInWords):
        app.add_transform(transform)
    app.add_html_math_renderer("mathml", (visit_inline_formula, None), (visit_formula, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def live_page(docname: str, choice: str = "") -> nodes.raw:
    """The live page in a frame, on the page `docname`; `choice` is the part of its address that says what to draw."""
    address = posixpath.relpath("live/index.html", posixpath.dirname(docname) or ".") + "?embed=1" + choice
    may = 'loading="lazy" allow="clipboard-write; web-share"'
    frame = f'<iframe class="live-page" src="{address}" title="A slider that draws" {may}></iframe>'
    return nodes.raw("", frame, format="html")


class LivePage(Directive):
    """`{live-page}`: the live page, in a frame."""

    def run(self) -> list[nodes.Node]:
        return [live_page(self.state.document.settings.env.docname)]


class LinksToSources(SphinxTransform):
    """A relative link to a file or folder of the repository that is no page here leads to GitHub."""

    default_priority = 200

    def apply(self):
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftype") != "myst" or link.get("refdomain"):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(self.env.docname), link["reftarget"]))
            source = REPOSITORY_ROOT / path
            if not path.startswith("..") and source.exists():
                kind = "tree" if source.is_dir() else "blob"
                address = f"{GITHUB}{repository()}/{kind}/main/{path}"
                link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=False))


class Buttons(SphinxTransform):
    """Badges, which are pictures on another host, become links in words; a notebook has a download button beside it."""

    default_priority = 200

    def apply(self):
        for picture in list(self.document.findall(nodes.image)):
            if picture["uri"] != BADGE:
                continue
            badge = picture.parent
            badge.replace(picture, nodes.Text(picture["alt"]))
            badge["classes"].append("button")
            if self.env.docname.startswith("notebooks/"):
                badge.parent["classes"].append("notebook-buttons")
                badge.parent.append(self.download())

    def download(self) -> nodes.Node:
        name = posixpath.basename(self.env.docname) + ".ipynb"
        words = nodes.inline("", "Download the notebook")
        return addnodes.download_reference("", "", words, reftarget=name, classes=["button"])


class Panels(SphinxTransform):
    """Where a notebook has a panel, which nothing draws here: the live page under the first slider, and a note."""

    default_priority = 200

    def apply(self):
        cells = {cell: source_of(cell) for cell in code_cells(self.document)}
        dataset = DATASET.search("\n".join(cells.values()))
        choice = f"#weights={dataset.group(1)}" if dataset else ""
        live = False
        for cell, source in cells.items():
            panel = PANEL.search(source)
            if panel and panel.group(1) == ClassPicker.__name__ and not live:
                live = True
                insert_after(cell, live_page(self.env.docname, choice), note(LIVE_NOTE))
            elif panel:
                insert_after(cell, note(STILL_NOTE))


def note(words: str) -> nodes.paragraph:
    return nodes.paragraph("", words, classes=["panel-note"])


def insert_after(node: nodes.Node, *others: nodes.Node):
    place = node.parent.index(node) + 1
    node.parent.insert(place, list(others))


class PicturesInWords(SphinxTransform):
    """The pictures among a notebook's outputs have the words that their figures gave them, in the notebook's file."""

    default_priority = 200

    def apply(self):
        cells = code_cells(self.document)
        if not cells:
            return
        notebook = nbformat.read(self.env.doc2path(self.env.docname), as_version=4)
        for cell in cells:
            outputs = notebook.cells[cell["cell_index"]].outputs
            pictures = [output for output in outputs if PICTURE in output.get("data", {})]
            words = [output.metadata.get(PICTURE, {}).get("alt") for output in pictures]
            for picture, alt in zip(cell.findall(nodes.image), words, strict=True):
                picture["alt"] = alt or "A figure without a title"


def code_cells(document: nodes.document) -> list[nodes.container]:
    """The cells of code on a notebook's page, with their outputs."""
    return [node for node in document.findall(nodes.container) if node.get("nb_element") == "cell_code"]


def source_of(cell: nodes.container) -> str:
    """The code of a cell, without its outputs."""
    return next(part.astext() for part in cell.children if part.get("nb_element") == "cell_code_source")


def mathml(tex: str, display: str) -> str:
    """A formula as MathML, which browsers show without a script.

    Raises:
        ExtensionError: for a command that the converter does not know.
    """
    formula = convert(tex, display=display)
    if "\\" in formula:
        raise ExtensionError(f"no MathML for {tex!r}: the converter does not know one of its commands.")
    return formula


def visit_inline_formula(translator, node: nodes.math):
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_formula(translator, node: nodes.math_block):
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode
