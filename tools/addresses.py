"""Where the course is published, and what is written from that: first cells, badges and links."""

import re
import subprocess
import textwrap
from pathlib import Path

from course_utils.storage.files import written_whole

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
FIRST_CELL = '''\
# Find the course: in the folder above, installed, or (on Colab) by fetching it, with what it needs and Colab lacks.
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if (Path.cwd().parent / "course_utils" / "__init__.py").exists():
    sys.path.insert(0, str(Path.cwd().parent))
elif importlib.util.find_spec("course_utils") is None:
    course, tag = os.environ.get("COURSE_REPOSITORY", "{address}"), "v{version}"
    os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # a wrong address is an error, not a question
    tags = subprocess.run(["git", "ls-remote", "--tags", course, tag], capture_output=True, text=True)
    if tags.returncode:
        raise OSError(f"{{course}} does not answer: check the network and the address, and run this cell again.")
    if not tags.stdout:
        print(f"{{course}} has no {{tag}}: you get its newest state, which may be ahead of this notebook.")
    needs = """{needs}"""
    has = {{str(found.metadata["Name"]).lower().replace("-", "_") for found in importlib.metadata.distributions()}}
    missing = [need for need in needs.split() if need.split(">=")[0] not in has]
    for packages in (missing, ["--no-deps", f"git+{{course}}@{{tag}}" if tags.stdout else f"git+{{course}}"]):
        if packages and subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages]).returncode:
            raise OSError(f"pip could not install {{packages[-1]}}: check the network, and run this cell again.")
    importlib.invalidate_caches()'''
FIRST_LINE = FIRST_CELL.partition(":")[0]


def project_value(name: str) -> str:
    """A value of pyproject.toml, such as its "version" or "Repository"."""
    return re.search(
        rf'^{name} = "(.+)"$', (REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    ).group(1)


def repository() -> str:
    """The course's repository on GitHub as OWNER/NAME, from pyproject.toml."""
    return project_value("Repository").removeprefix(GITHUB)


def notebook_needs() -> list[str]:
    """What a notebook imports, from the first paragraph of requirements.txt.

    Without torch and torchvision, which must come from one place: where they are missing, a notebook is no place to
    choose it.
    """
    lines = (REPOSITORY_ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return [line for line in lines if not line.startswith(("#", "torch"))]


def first_cell() -> str:
    """The code that every notebook begins with."""
    values = dict(address=project_value("Repository"), version=project_value("version"))
    return FIRST_CELL.format(needs=textwrap.fill(" ".join(notebook_needs()), 100, subsequent_indent=" " * 8), **values)


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
    return re.sub(r"^version: .+$", f"version: {project_value('version')}", text, flags=re.MULTILINE)


def set_repository(name: str):
    """Write OWNER/NAME into pyproject.toml.

    Raises:
        ValueError: if it is no such name.
    """
    if not re.fullmatch(A_REPOSITORY, name):
        raise ValueError(f"{name!r} is no repository on GitHub: expected OWNER/NAME, such as ada/my-course.")
    project = REPOSITORY_ROOT / "pyproject.toml"
    text = re.sub(
        r'^Repository = ".+"$',
        f'Repository = "{GITHUB}{name}"',
        project.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    with written_whole(project) as file:
        file.write_text(text, encoding="utf-8")


def origin() -> str:
    """OWNER/NAME of the git remote "origin".

    Raises:
        ValueError: if there is none, or if it is not on GitHub.
    """
    git = subprocess.run(
        ["git", "-C", REPOSITORY_ROOT, "remote", "get-url", "origin"], capture_output=True, text=True, encoding="utf-8"
    )
    address = git.stdout.strip()
    if git.returncode:
        raise ValueError("git has no remote called origin here: name the repository, as OWNER/NAME.")
    on_github = re.fullmatch(rf"(?:https://|ssh://)?(?:[^/@]+@)?github\.com[:/]({A_REPOSITORY}?)(?:\.git)?/?", address)
    if not on_github:
        raise ValueError(f"origin is {address!r}, which is not on GitHub: name the repository, as OWNER/NAME.")
    return on_github.group(1)
