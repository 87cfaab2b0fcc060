"""What Colab does, without Colab: the notebook alone in a folder, Colab's widget stack, the course from a git address."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from tools import addresses, authoring

ROOT = Path(__file__).parent.parent
ADDRESS = addresses.project_value("Repository")
TAG = f"v{addresses.project_value('version')}"
COLAB_STACK = ["ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython==7.34.0", "matplotlib==3.10.*"]
COLAB_STACK += ["ipython-genutils", "decorator", "backcall", "pickleshare", "nest-asyncio"]  # needed by those
SHOW_STACK = """\
import ipykernel, IPython, ipywidgets, matplotlib
print(ipywidgets.__version__, ipykernel.__version__, IPython.__version__, matplotlib.__version__.rpartition(".")[0])"""


def pip_install(*arguments):
    """Install into a folder; without a network a learner's run skips, and CI's fails."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *arguments]
    run = subprocess.run(pip, capture_output=True, text=True, encoding="utf-8")
    if run.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip could not install {arguments[-1]}: is there a network?")
    assert run.returncode == 0, run.stderr


def git(repository: Path, *arguments):
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", repository, *author, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A git repository with what makes the package: at the tag it is whole, after it the pretrained weights are gone."""
    repository = tmp_path_factory.mktemp("published")
    unwanted = shutil.ignore_patterns("__pycache__", "*.partial")
    shutil.copytree(ROOT / "course_utils", repository / "course_utils", ignore=unwanted)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, repository)
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "All")
    git(repository, "tag", TAG)
    git(repository, "rm", "-r", "--quiet", "course_utils/pretrained")
    git(repository, "commit", "--quiet", "-m", "Newer")
    return repository


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
    environment = os.environ | dict(PYTHONPATH="", COURSE_PRESET="smoke", COURSE_REPOSITORY=published.as_uri())
    return SimpleNamespace(python=python, kernels=home / "share" / "jupyter", site=site, environment=environment)


@pytest.fixture
def run_alone(colab, tmp_path, monkeypatch):
    """Run a notebook as the only file in a folder, up to the first cell that holds some words; return that cell."""
    monkeypatch.setenv("JUPYTER_PATH", str(colab.kernels))

    def run(source: Path, until: str, **environment):
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        last = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and until in cell.source)
        notebook.cells = [nbformat.v4.new_code_cell(SHOW_STACK), *notebook.cells[: last + 1]]
        (tmp_path / source.stem).mkdir()
        alone = {"metadata": {"path": str(tmp_path / source.stem)}}
        NotebookClient(notebook, timeout=300, kernel_name="colab", resources=alone).execute(
            env=colab.environment | environment
        )
        assert notebook.cells[0].outputs[0].text.split() == ["7.7.1", "6.17.1", "7.34.0", "3.10"]
        return notebook.cells[-1]

    return run


def test_notebooks_reach_their_picture_and_the_slider_on_colab(colab, run_alone):
    data, _, training = authoring.notebook_sources()[:3]
    cell = run_alone(data, until="dataset_grid(")
    assert "image/png" in cell.outputs[-1].data
    course = colab.site / "course_utils"
    assert (course / "pretrained").is_dir(), "not the tagged version"
    installed = (course / "__init__.py").stat().st_mtime_ns

    cell = run_alone(training, until="ClassPicker(pipe)", COURSE_REPOSITORY="file:///nowhere")  # must not be asked
    assert authoring.WIDGET_VIEW in cell.outputs[-1].data
    assert (course / "__init__.py").stat().st_mtime_ns == installed


def test_bundled_files_come_with_the_package(colab, tmp_path):
    cell = authoring.first_cell() + "\nimport course_utils\nprint(course_utils.__file__)"
    run = subprocess.run(
        [colab.python, "-c", cell],
        cwd=tmp_path,
        env=colab.environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    course = Path(run.stdout.strip()).parent
    assert course == colab.site / "course_utils"
    for bundled in ("pretrained/**/*", "samples/*.png"):
        there = {path.relative_to(ROOT / "course_utils") for path in (ROOT / "course_utils").glob(bundled)}
        assert there == {path.relative_to(course) for path in course.glob(bundled)}


@pytest.fixture
def first_cell(tmp_path, monkeypatch):
    """Run the first cell in an empty folder with pip played, and git too unless there is an address of its own; returns what pip was asked for."""

    subprocess_run = subprocess.run

    def run(address=ADDRESS, tags="abc refs/tags/" + TAG, without=(), has_course=False, failing=()):
        asked = []

        def play(command, **options):
            if command[0] == "git" and address != ADDRESS:
                return subprocess_run(command, **options)
            if command[0] == "git":
                assert command[1:] == ["ls-remote", "--tags", ADDRESS, TAG]
                return SimpleNamespace(returncode=128 * (tags is None), stdout=tags)
            asked.append(command[command.index("--quiet") + 1 :])
            return SimpleNamespace(returncode=int(asked[-1][-1] in failing))

        have = [need.split(">=")[0] for need in addresses.notebook_needs()]
        found = [SimpleNamespace(metadata={"Name": name.replace("_", "-")}) for name in have if name not in without]
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("COURSE_REPOSITORY", raising=False)
        if address != ADDRESS:
            monkeypatch.setenv("COURSE_REPOSITORY", address)
        monkeypatch.setattr(subprocess, "run", play)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: has_course or None)
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
        exec(authoring.first_cell(), {})
        return asked

    return run


def test_only_the_course_is_installed_where_all_else_is_there(first_cell, capsys):
    assert first_cell() == [["--no-deps", f"git+{ADDRESS}@{TAG}"]]
    assert capsys.readouterr().out == ""


def test_only_what_is_missing_is_installed_and_torch_never(first_cell):
    asked = first_cell(without=("diffusers", "ipywidgets", "torch", "torchvision"))
    assert [need.split(">=")[0] for need in asked[0]] == ["diffusers", "ipywidgets"]
    assert asked[1:] == [["--no-deps", f"git+{ADDRESS}@{TAG}"]]


def test_without_the_tag_the_newest_state_is_taken_and_said_so(first_cell, capsys):
    assert first_cell(tags="") == [["--no-deps", f"git+{ADDRESS}"]]
    said = capsys.readouterr().out.strip()
    assert f"has no {TAG}" in said and "\n" not in said


def test_nothing_is_installed_where_the_course_is(first_cell):
    assert first_cell(has_course=True) == []


def test_an_address_that_does_not_answer_is_one_sentence(first_cell):
    with pytest.raises(OSError, match="does not answer"):
        first_cell(tags=None)


def test_a_failing_pip_is_one_sentence(first_cell):
    with pytest.raises(OSError, match="could not install .*diffusion"):
        first_cell(failing=(f"git+{ADDRESS}@{TAG}",))


def test_a_real_git_finds_the_tag_or_finds_it_missing(published, first_cell, tmp_path, capsys):
    address = published.as_uri()
    assert first_cell(address) == [["--no-deps", f"git+{address}@{TAG}"]]
    subprocess.run(["git", "clone", "--quiet", "--no-tags", address, tmp_path / "untagged"], check=True)
    address = (tmp_path / "untagged").as_uri()
    assert first_cell(address) == [["--no-deps", f"git+{address}"]]
    assert f"has no {TAG}" in capsys.readouterr().out
    with pytest.raises(OSError, match="does not answer"):
        first_cell((tmp_path / "nowhere").as_uri())


def test_in_the_repository_nothing_is_installed(tmp_path):
    """Even without git and pip in reach, from a folder beside the package."""
    cell = authoring.first_cell() + "\nimport course_utils\nprint(course_utils.__file__)"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PATH")}
    run = subprocess.run(
        [sys.executable, "-c", cell],
        cwd=ROOT / "notebooks",
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert Path(run.stdout.strip()).parent == ROOT / "course_utils", run.stderr


@pytest.mark.parametrize("source", authoring.notebook_sources(), ids=lambda path: path.stem)
def test_readme_has_the_badge_of_every_notebook(source):
    assert addresses.badge(source.stem) in (ROOT / "README.md").read_text(encoding="utf-8")
