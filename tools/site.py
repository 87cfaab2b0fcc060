"""For maintainers: build the course as a site, the live page in it.

    python -m tools.site

The site is written to `site/_build/html`. Its pages are the notebooks with their committed outputs, the pages of the
repository, and a reference from the docstrings. `site/course` holds what is the site's own.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from course_utils.pipeline import ClassConditionedPipeline
from tools.addresses import REPOSITORY_ROOT

OWN = REPOSITORY_ROOT / "site" / "course"
BUILD = REPOSITORY_ROOT / "site" / "_build"
# The pages and pictures of the repository that the site shows, each at the place that it has in the repository.
SHOWN = (
    "notebooks/[0-9]*.ipynb",
    "notebooks/images/*",
    "*.md",
    "course_utils/README.md",
    "course_utils/pretrained/**/README.md",
    "tests/benchmarks/README.md",
)
SEED = 12  # of the noise that the site's pictures are drawn from
NEEDED = {"sphinx": "sphinx", "myst_nb": "myst-nb", "sphinx_book_theme": "sphinx-book-theme"} | {
    "latex2mathml": "latex2mathml"
}


def check_tools():
    """Raises ValueError if a program or a package that builds the site is not installed."""
    packages = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if packages:
        raise ValueError(f"{' and '.join(packages)} not installed here: run `pip install -e .[site]` first.")
    if shutil.which("npm") is None:
        raise ValueError("npm is not installed here: install Node.js, which brings it, for the live page.")


def collect(folder: Path):
    """Put all that Sphinx reads into a folder: the site's own files, what is shown, and what is made from the package."""
    shutil.copytree(OWN, folder)
    for path in (path for pattern in SHOWN for path in REPOSITORY_ROOT.glob(pattern)):
        place = folder / path.relative_to(REPOSITORY_ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    draw(folder / "static")


def draw(folder: Path):
    """Let the course's weights draw the site's icon, and the picture that stands for the site where others link it."""
    pipe = ClassConditionedPipeline.from_pretrained("mnist")
    pictures = pipe(list(range(10)), generator=torch.Generator().manual_seed(SEED), output_type="pt").images
    paper = 255 - (255 * pictures[:, 0]).round().to(torch.uint8)  # (10, 28, 28), dark ink on white
    enlarged(paper[3], 4).save(folder / "icon.png", optimize=True)
    rows = [torch.cat(list(row), dim=1) for row in paper.split(5)]
    enlarged(torch.cat(rows), 8).save(folder / "card.png", optimize=True)


def enlarged(grey: torch.Tensor, times: int) -> Image.Image:
    """A picture of uint8 (H, W) with each pixel a square of so many."""
    picture = Image.fromarray(grey.numpy())
    return picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)


def build(folder: Path, add_live_page: Callable[[Path], None]):
    """Build the whole site in a folder; `add_live_page` writes the live page into the folder that it is given.

    Raises:
        ValueError: if a tool is missing, or if Sphinx has warned of something.
    """
    check_tools()
    from sphinx.cmd.build import main as sphinx_build

    shutil.rmtree(folder, ignore_errors=True)
    collect(folder / "source")
    if sphinx_build(["-W", "--keep-going", "-q", "-d", str(folder / "doctrees"), str(folder / "source"), str(folder / "html")]):
        raise ValueError("Sphinx found what is named above: mend it, and build again.")
    add_live_page(folder / "html" / "live")


def main() -> int:
    """Build the site; what is wrong is one line on stderr and exit status 2."""
    try:
        from tools import live_page

        build(BUILD, live_page.build)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"the site is in {BUILD / 'html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
