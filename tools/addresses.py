"""Where the course is published, and what is written from that: first cells, badges and links."""

import re
import subprocess
from pathlib import Path

from course_utils.storage.files import written_whole
from course_utils.validation import quoted

REPOSITORY_ROOT = Path(__file__).parent.parent
GITHUB = "https://github.com/"
ADDRESSED_FILES = ("README.md", "CITATION.cff")  # beside the notebooks
BADGE = (
    "[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook}.ipynb)"
)
A_REPOSITORY = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
# What precedes the course's OWNER/NAME in the files that name it.
BEFORE_REPOSITORY = (
    r"(colab\.research\.google\.com/github/|git clone https://github\.com/|^repository-code: https://github\.com/)"
)
# The course's site in those files, which link to no other one on GitHub Pages.
A_SITE = r"https://[\w-]+\.github\.io/[\w.-]+/"
# It works alone: on Colab the notebook is the only file there is. pip leaves packages as they are that are new enough.
FIRST_CELL = """\
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "{archive}"])"""
# How every version of that cell begins.
FIRST_LINES = ("# Find the course", "import importlib.util, pathlib, subprocess, sys  # Find the course")


def project_value(name: str) -> str:
    """A value of pyproject.toml, such as its "version" or "Repository"."""
    return re.search(
        rf'^{name} = "(.+)"$', (REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    ).group(1)


def repository() -> str:
    """The course's repository on GitHub as OWNER/NAME, from pyproject.toml."""
    return project_value("Repository").removeprefix(GITHUB)


def site_address() -> str:
    """Where GitHub Pages shows the course's site."""
    owner, name = repository().split("/")
    return f"https://{owner}.github.io/{name}/"


def archive() -> str:
    """Where pip gets the course from: a release by its tag, a version before its release (`.dev0`) as it is now."""
    version = project_value("version")
    state = "HEAD" if ".dev" in version else f"refs/tags/v{version}"
    return f"{GITHUB}{repository()}/archive/{state}.zip"


def first_cell() -> str:
    """The code that every notebook begins with."""
    return FIRST_CELL.format(archive=archive())


def badge(notebook: str) -> str:
    """The Markdown of a notebook's button "Open in Colab"."""
    return BADGE.format(repository=repository(), notebook=notebook)


def with_badge(markdown: str, notebook: str) -> str:
    """A notebook's opening text with its badge under the title."""
    title, *rest = [part for part in markdown.split("\n\n") if not part.startswith("[![Open In Colab]")]
    return "\n\n".join([title, badge(notebook), *rest])


def readdressed(text: str) -> str:
    """The text of README.md or CITATION.cff with the repository and the version that pyproject.toml names."""
    text = re.sub(BEFORE_REPOSITORY + A_REPOSITORY, rf"\g<1>{repository()}", text, flags=re.MULTILINE)
    text = re.sub(A_SITE, site_address(), text)
    return re.sub(r"^version: .+$", f"version: {project_value('version')}", text, flags=re.MULTILINE)


def set_repository(name: str):
    """Write OWNER/NAME into pyproject.toml; an address on GitHub will do, too.

    Raises:
        ValueError: if it is no such name.
    """
    name = on_github(name) or name
    if not re.fullmatch(A_REPOSITORY, name):
        raise ValueError(f"{quoted(name)} is no repository on GitHub: expected OWNER/NAME, such as ada/my-course.")
    project = REPOSITORY_ROOT / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    text = re.sub(r'^Repository = ".+"$', f'Repository = "{GITHUB}{name}"', text, flags=re.MULTILINE)
    with written_whole(project) as file:
        file.write_text(text, encoding="utf-8")


def on_github(address: str) -> str | None:
    """OWNER/NAME of an address on GitHub, such as one of git's; None of any other."""
    found = re.fullmatch(rf"(?:https://|ssh://)?(?:[^/@]+@)?github\.com[:/]({A_REPOSITORY}?)(?:\.git)?/?", address)
    return found and found.group(1)


def origin() -> str:
    """OWNER/NAME of the git remote "origin".

    Raises:
        ValueError: if there is none, or no git, or if it is not on GitHub.
    """
    command = ["git", "-C", str(REPOSITORY_ROOT), "remote", "get-url", "origin"]
    try:
        git = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError:
        raise ValueError("git is not installed here: name the repository, as OWNER/NAME.") from None
    address = git.stdout.strip()
    if git.returncode:
        raise ValueError("git has no remote called origin here: name the repository, as OWNER/NAME.")
    if not on_github(address):
        raise ValueError(f"origin is {address!r}, which is not on GitHub: name the repository, as OWNER/NAME.")
    return on_github(address)
