"""For maintainers: build the course as a site, with the live page in it.

    python -m tools.site

The site is written to `site/_build/html`. Its pages are the notebooks with their committed outputs, the pages of the
repository, and a reference from the docstrings. `site/course` holds what is the site's own, and its `pages.py` what the
site makes of the rest.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from course_utils.pictures import picture_grid
from course_utils.pipeline import ClassConditionedPipeline
from tools import live_page
from tools.addresses import REPOSITORY_ROOT

OWN = REPOSITORY_ROOT / "site" / "course"
LIVE = REPOSITORY_ROOT / "site" / "live"
BUILD = REPOSITORY_ROOT / "site" / "_build"
# The pages and pictures of the repository that the site shows, each at its place in the repository.
SHOWN = (
    *("notebooks/[0-9]*.ipynb", "notebooks/images/*", "*.md", "course_utils/README.md"),
    *("course_utils/pretrained/**/README.md", "tests/benchmarks/README.md"),
)
PACKAGES = {  # as Python and as pip call them
    "sphinx": "sphinx",
    "myst_nb": "myst-nb",
    "sphinx_book_theme": "sphinx-book-theme",
    "latex2mathml": "latex2mathml",
}
SEED = 12  # of the noise of the site's own pictures: the first one of 120 by how sure both judges are of every digit


def check_packages():
    """Raises ModuleNotFoundError if a package that builds the site is not installed."""
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(
            f"the site needs packages that are not installed here: pip install {' '.join(missing)}"
        )


def fetch_engine():
    """Have npm fetch what the live page runs on, unless it is there.

    Raises:
        FileNotFoundError: if there is no npm.
        ValueError: if npm has failed.
    """
    if (LIVE / "node_modules").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("the site needs npm, not installed here: install Node.js, which brings it.")
    if subprocess.run([npm, "ci", "--prefix", str(LIVE)]).returncode:
        raise ValueError(f"`npm ci --prefix {LIVE}` has failed, and says why above.")


def collect(folder: Path):
    """Put all that Sphinx reads into a new folder."""
    shutil.copytree(OWN, folder)
    for path in (path for pattern in SHOWN for path in REPOSITORY_ROOT.glob(pattern)):
        place = folder / path.relative_to(REPOSITORY_ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    draw(folder / "static")


def draw(folder: Path):
    """Let the course's weights draw the site's icon, and the picture that other sites show with a link to this one."""
    pipe = ClassConditionedPipeline.from_pretrained("mnist")
    digits = pipe(list(range(10)), generator=torch.Generator().manual_seed(SEED), output_type="pt").images
    picture_grid(digits[3:4], columns=1).save(folder / "icon.png", optimize=True)
    picture_grid(digits, columns=5).save(folder / "card.png", optimize=True)


def build(folder: Path, add_live_page: Callable[[Path], None]):
    """Build the whole site in `folder`, where `html` is to be published.

    Args:
        folder: what is in it is deleted first.
        add_live_page: writes the live page into a folder.

    Raises:
        ValueError: if Sphinx has warned of anything.
    """
    from sphinx.cmd.build import main as sphinx_build  # a package that only this needs

    shutil.rmtree(folder, ignore_errors=True)
    add_live_page(folder / "html" / "live")  # Sphinx leaves what it finds
    collect(folder / "source")
    strict = ["-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    if sphinx_build([*strict, str(folder / "source"), str(folder / "html")]):
        raise ValueError("Sphinx has warned of what stands above: mend it, and build again.")


def main() -> int:
    """Build the site; what is wrong is one line on stderr and exit status 2."""
    try:
        check_packages()
        fetch_engine()
        build(BUILD, live_page.build)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"the site is in {BUILD / 'html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
