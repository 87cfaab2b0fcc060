"""What is installed, where, and from what: one list of needs, in three files for pip, for README's commands and for conda."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUN, EXTRAS = PROJECT["dependencies"], PROJECT["optional-dependencies"]
MAINTAINERS = RUN + EXTRAS["tests"] + EXTRAS["site"]
CONDA_NAMES = {"torch": "pytorch"}
# By what name a package is imported, where it is not its own.
IMPORTED_AS = {"pillow": "PIL", "ipython": "IPython", "pyyaml": "yaml", "markdown-it-py": "markdown_it"} | {
    "myst-nb": "myst_nb"
}
# TOML is read by the standard library, or for Python 3.10 by what pytest brings; the browser is optional.
ONLY_SOMETIMES = {"tomllib", "tomli", "playwright"}


def requirements() -> list[str]:
    """What README's commands install."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def floor(requirement: str) -> str:
    """Such as "2.6" of "torch>=2.6"."""
    return re.search(r">=([\d.]+)", requirement).group(1)


def test_readmes_commands_install_what_the_package_the_notebooks_and_the_tests_need():
    assert requirements() == RUN + EXTRAS["notebooks"] + EXTRAS["tests"]


def test_conda_environment_asks_for_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, *others = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    expected = [Requirement(line) for line in requirements()]
    assert others == [
        CONDA_NAMES.get(need.name, need.name) + line[len(need.name) :] for need, line in zip(expected, requirements())
    ]


def test_the_package_alone_brings_neither_pytest_nor_jupyterlab():
    names = {Requirement(line).name for line in RUN}
    assert not names & {"pytest", "hypothesis", "jupyterlab", "notebook", "ruff"} | {
        name for name in names if name.startswith("nb")
    }
    assert names.isdisjoint(Requirement(line).name for line in EXTRAS["notebooks"] + EXTRAS["tests"] + EXTRAS["dev"])


def test_floors_are_no_higher_than_colabs():
    """So pip, on Colab, leaves what is there."""
    colab = dict(
        torch="2.11", torchvision="0.26", diffusers="0.39", ipywidgets="7.7.1", matplotlib="3.10", ipython="7.34"
    )
    floors = {Requirement(line).name: floor(line) for line in RUN}
    for name, has in colab.items():
        assert Version(floors[name]) <= Version(has), name


def test_the_classifiers_begin_with_the_oldest_python_and_ci_tries_them_all():
    versions = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    for job in ("linux", "others"):
        assert workflow["jobs"][job]["strategy"]["matrix"]["python"] == versions


def imports(folder: str) -> set[str]:
    """What the Python files of a folder import from outside of it and of the standard library, also within functions."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    own = {"course_utils", "tools"} | {path.stem for path in (ROOT / "tests").rglob("*.py")}
    return found - set(sys.stdlib_module_names) - own


@pytest.mark.parametrize(
    "folder, needs",
    [
        ("course_utils", RUN),
        ("notebooks", RUN),
        *((folder, MAINTAINERS) for folder in ("tools", "site/course", "tests")),
    ],
)
def test_nothing_is_imported_that_is_not_required(folder, needs):
    names = {Requirement(line).name for line in needs}
    assert imports(folder) - ONLY_SOMETIMES <= {IMPORTED_AS.get(name, name) for name in names}


def test_nothing_is_required_to_run_that_the_package_does_not_import():
    indirect = {"numpy", "torchvision"}  # asked for by name all the same: they must fit torch
    names = {Requirement(line).name for line in RUN}
    assert {IMPORTED_AS.get(name, name) for name in names - indirect} <= imports("course_utils")


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for a POSIX shell")
def test_the_floors_that_are_tested_are_those_of_the_requirements():
    script = (ROOT / ".ci" / "floors").read_text(encoding="utf-8")
    derive = re.search(r"^(grep .+ requirements.txt .+) > ", script, re.MULTILINE).group(1)
    run = subprocess.run(["bash", "-c", derive], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8")
    assert run.stdout.split() == [f"{Requirement(line).name}=={floor(line)}" for line in requirements()]
    assert "- run: .ci/floors" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_a_dev_container_sets_itself_up_as_readme_says():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f"{container['postCreateCommand']} && .venv/bin/jupyter lab" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )
    assert container["image"].startswith("python:3.")


def test_hooks_fetch_nothing_and_are_what_ci_runs():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    entries = " ".join(hook["entry"] for hook in repositories[0]["hooks"])
    assert "ruff check" in entries and "ruff format" in entries and "tools.authoring check" in entries


def test_bundled_weights_are_safetensors_and_small():
    files = [path for path in (ROOT / "course_utils" / "pretrained").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 25_000_000


def test_readmes_animation_moves_and_is_small():
    path = ROOT / "notebooks" / "images" / "slider.gif"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'<img src="{path.relative_to(ROOT)}"' in readme.split("## Start")[0]
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as animation:
        assert animation.n_frames > 20 and animation.info.get("loop") == 0
        seen, milliseconds = set(), 0
        for frame in range(animation.n_frames):
            animation.seek(frame)
            milliseconds += animation.info["duration"]
            seen.add(hash(animation.convert("L").resize((70, 30)).tobytes()))
    assert len(seen) > 10 and 5_000 < milliseconds < 12_000
