"""How Sphinx builds the course's site; `python -m tools.site` runs it."""

import sys
from pathlib import Path

COURSE = Path(__file__).parent
sys.path[:0] = [str(COURSE.parent.parent), str(COURSE)]  # the repository's packages, and the extension beside this file

from tools.addresses import GITHUB, project_value, repository, site_address  # noqa: E402

project = "Draw the digit I ask for"
author = "The authors of the class-conditional diffusion course"
copyright = author
version = release = project_value("version")
language = "en"
locale_dirs = ["locales"]  # translations: catalogues of sphinx-intl, beside this file

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
templates_path = ["templates"]

smartquotes_action = "D"  # dashes only: quotes are plain, as on GitHub and as in the code that docstrings name

# The notebooks' committed outputs are shown; nothing runs.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables among the outputs
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4  # links to a heading, as GitHub makes them

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"
default_role = "code"
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = project
html_baseurl = site_address()
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = [("course.js", {"defer": "defer"})]
html_logo = html_favicon = "static/icon.png"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False
html_theme_options = {
    "logo": {"text": project, "alt_text": "A three, drawn by the course's network"},
    "repository_url": GITHUB + repository(),
    "use_repository_button": True,
    "use_download_button": False,  # notebooks have a button of their own, under the title
    "navbar_persistent": [],  # the search is above the list of pages
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}
html_context = {
    "default_mode": "auto",  # light or dark as the reader's system is
    "description": project_value("description"),
    "site_address": site_address(),
}
