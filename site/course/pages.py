"""What makes pages of this site from files that are written for GitHub and Jupyter: links, buttons, formulas, panels."""

import posixpath
import re
from pathlib import Path
from urllib.parse import urlencode

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

from tools.addresses import GITHUB, REPOSITORY_ROOT, repository

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
LIVE_PANEL = "ClassPicker"
PANEL = re.compile(r"^(ClassPicker|EmbeddingMixer|GuidanceSlider|NoiseSlider)\(", re.MULTILINE)
DATASET = re.compile(r'load_dataset\("(\w+)"')
LIVE_NOTE = (
    "In the notebook, a panel appears here. The panel above is like it, and runs in your browser: it draws with the "
    "weights that come with the course."
)
STILL_NOTE = "In the notebook, a panel appears here that you can move. It needs Python: open the notebook to try it."


def setup(app: Sphinx) -> dict:
    app.add_directive("live-page", LivePage)
    for transform in (LinksToSources, Buttons, Panels):
        app.add_transform(transform)
    app.add_html_math_renderer("mathml", (visit_inline_formula, None), (visit_formula, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def live_page(docname: str, **choices: str) -> nodes.raw:
    """The live page in a frame, from the page `docname`; `choices` are what its address asks for."""
    address = posixpath.relpath("live/index.html", posixpath.dirname(docname) or ".")
    address += "?" + urlencode({"embed": 1} | choices).replace("&", "&amp;")
    frame = f'<iframe class="live-page" src="{address}" title="A slider that draws" loading="lazy"></iframe>'
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
        cells = [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]
        dataset = next((found.group(1) for cell in cells if (found := DATASET.search(cell.astext()))), "mnist")
        live = False
        for cell in cells:
            panel = PANEL.search(cell.astext())
            if not panel:
                continue
            is_live = panel.group(1) == LIVE_PANEL and not live
            live = live or is_live
            shown = [live_page(self.env.docname, data=dataset)] if is_live else []
            note = nodes.paragraph("", LIVE_NOTE if is_live else STILL_NOTE, classes=["panel-note"])
            cell.parent.insert(cell.parent.index(cell) + 1, [*shown, note])


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
