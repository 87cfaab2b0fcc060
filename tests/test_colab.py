"""What Colab does, without Colab: the notebook alone in a folder, Colab's widget stack, the course from an archive."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from tools import addresses, authoring

ROOT = Path(__file__).parent.parent
COLAB_STACK = ["ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython==7.34.0", "matplotlib==3.10.*"]
COLAB_STACK += [
    "widgetsnbextension<4",
    "ipython-genutils",
    "decorator",
    "backcall",
    "pickleshare",
    "nest-asyncio",
]  # needed by those
SHOW_STACK = """\
import ipykernel, IPython, ipywidgets, matplotlib
print(ipywidgets.__version__, ipykernel.__version__, IPython.__version__, matplotlib.__version__.rpartition(".")[0])"""


FIND = "\nimport course_utils\nprint(course_utils.__file__)"


def published_at(source: str, address) -> str:
    """A notebook's first cell for a course that is published somewhere else; other cells as they are."""
    return source.replace(addresses.archive(), str(address))


def pip_install(*arguments):
    """Install into a folder; without an internet connection a learner's run skips, and CI's fails."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *arguments]
    run = subprocess.run(pip, capture_output=True, text=True, encoding="utf-8")
    if run.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip could not install {arguments[-1]}: is there a connection?")
    assert run.returncode == 0, run.stderr


def run_first_cell(
    folder: Path, python=sys.executable, address: str = addresses.archive(), **environment
) -> subprocess.CompletedProcess:
    """The first cell, run in a folder by a Python that knows nothing of the course, which is published at an address."""
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-c", published_at(addresses.first_cell(), address) + FIND]
    environment = others | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """An archive as GitHub makes it: what makes the package, in a folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    unwanted = shutil.ignore_patterns("__pycache__", "*.partial")
    for part in ("course_utils", "tools", "tests"):
        shutil.copytree(ROOT / part, folder / "course-HEAD" / part, ignore=unwanted)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "course-HEAD")
    return Path(shutil.make_archive(str(folder / "HEAD"), "zip", folder, "course-HEAD"))


@pytest.fixture(scope="module")
def colab(published, tmp_path_factory):
    """A Python that has Colab's widget stack and this one's torch, and has never heard of the course."""
    home, overlay = tmp_path_factory.mktemp("colab"), tmp_path_factory.mktemp("overlay")
    venv.create(home, with_pip=True)
    pip_install("--target", str(overlay), *COLAB_STACK)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    (site / "outside.pth").write_text(f"{overlay}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    python = next(home.glob("[bS]*/python*"))  # bin/python, or Scripts/python.exe
    kernel = home / "share" / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps(dict(argv=argv, display_name="Colab", language="python")), encoding="utf-8"
    )
    environment = os.environ | dict(PYTHONPATH="", COURSE_PRESET="smoke")
    had = set(site.glob("*.dist-info"))
    kernels = home / "share" / "jupyter"
    return SimpleNamespace(
        python=python, kernels=kernels, site=site, environment=environment, had=had, address=published
    )


@pytest.fixture
def run_alone(colab, tmp_path, monkeypatch):
    """Run a notebook as the only file in a folder, up to the first cell that holds some words; return that cell."""
    monkeypatch.setenv("JUPYTER_PATH", str(colab.kernels))

    def run(source: Path, until: str, address=colab.address):
        notebook = jupytext.read(source)
        for cell in notebook.cells:
            cell.source = published_at(cell.source, address)
        last = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and until in cell.source)
        notebook.cells = [nbformat.v4.new_code_cell(SHOW_STACK), *notebook.cells[: last + 1]]
        (tmp_path / source.stem).mkdir()
        alone = {"metadata": {"path": str(tmp_path / source.stem)}}
        NotebookClient(notebook, timeout=300, kernel_name="colab", resources=alone).execute(env=colab.environment)
        assert notebook.cells[0].outputs[0].text.split() == ["7.7.1", "6.17.1", "7.34.0", "3.10"]
        return notebook.cells[-1]

    return run


def test_notebooks_reach_their_picture_and_the_slider_on_colab(colab, run_alone):
    data, _, training = authoring.notebook_sources()[:3]
    cell = run_alone(data, until="dataset_grid(")
    assert "image/png" in cell.outputs[-1].data
    course = colab.site / "course_utils"
    installed = (course / "__init__.py").stat().st_mtime_ns

    cell = run_alone(training, until="ClassPicker(pipe, sample=sample)", address="/nowhere.zip")  # must not be asked
    assert authoring.WIDGET_VIEW in cell.outputs[-1].data
    assert (course / "__init__.py").stat().st_mtime_ns == installed


def test_the_package_comes_with_its_files_and_nothing_else_is_installed(colab, tmp_path):
    """Neither tests nor tools, nor a package that Colab has in another version."""
    run = run_first_cell(tmp_path, colab.python, colab.address, **colab.environment)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).parent == colab.site / "course_utils"
    for bundled in ("pretrained/**/*", "samples/*"):
        there = {path.relative_to(ROOT / "course_utils") for path in (ROOT / "course_utils").glob(bundled)}
        assert there == {
            path.relative_to(colab.site / "course_utils") for path in (colab.site).glob(f"course_utils/{bundled}")
        }
    brought = {path.name.split("-")[0] for path in {*colab.site.glob("*.dist-info")} - colab.had}
    assert brought - {"setuptools"} == {
        "class_conditional_diffusion_course"
    }  # a new environment's is too old for torch
    assert not (colab.site / "tools").exists() and not (colab.site / "tests").exists()


def test_pip_is_asked_for_the_tag_of_a_release_and_for_the_newest_state_before(monkeypatch):
    values = {"version": "1.2.0", "Repository": "https://github.com/ada/my-course"}
    monkeypatch.setattr(addresses, "project_value", values.get)
    assert '"https://github.com/ada/my-course/archive/refs/tags/v1.2.0.zip"' in addresses.first_cell()
    values["version"] = "1.2.1.dev0"
    assert '"https://github.com/ada/my-course/archive/HEAD.zip"' in addresses.first_cell()


@pytest.mark.parametrize("address", ["/nowhere.zip", "https://127.0.0.1:9/course.zip"])
def test_where_nothing_answers_the_cell_ends_and_names_the_address(tmp_path, address):
    """Also without git, which is not needed; pip has said before what it could not do."""
    run = run_first_cell(tmp_path, address=address, PATH="", PIP_RETRIES="0")
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 1 and "CalledProcessError" in last and address in last


@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/homework", "nbgrader/source/ps1/deep er/down"])
def test_a_clone_is_found_from_any_folder_in_it(tmp_path, folder):
    """Without git, pip and an internet connection; the nearest one where there are several."""
    for clone in (tmp_path, tmp_path / "clone"):
        (clone / "course_utils").mkdir(parents=True)
        (clone / "course_utils" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "clone" / folder).mkdir(parents=True, exist_ok=True)
    run = run_first_cell(tmp_path / "clone" / folder, PATH="")
    assert Path(run.stdout.strip()).parent == tmp_path / "clone" / "course_utils", run.stderr


def test_a_folder_of_that_name_that_is_no_package_is_passed_by(tmp_path):
    (tmp_path / "clone" / "course_utils").mkdir(parents=True)
    (tmp_path / "clone" / "course_utils" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "clone" / "mine" / "course_utils").mkdir(parents=True)
    run = run_first_cell(tmp_path / "clone" / "mine")
    assert Path(run.stdout.strip()).parent == tmp_path / "clone" / "course_utils", run.stderr


def test_the_cell_is_three_lines():
    lines = addresses.first_cell().splitlines()
    assert len(lines) == 3 and len(lines[-1]) < 220 and max(map(len, lines[:-1])) <= 120


@pytest.mark.parametrize("source", authoring.notebook_sources(), ids=lambda path: path.stem)
def test_readme_has_the_badge_of_every_notebook(source):
    assert addresses.badge(source.stem) in (ROOT / "README.md").read_text(encoding="utf-8")
