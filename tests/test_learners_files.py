"""A learner's notebook goes from one front end to another, and no answer is lost on the way.

JupyterLab reads and writes through Jupytext's contents manager, which is installed with the course, and which trusts the
times of a pair's files; VS Code and Colab write the `.ipynb` alone.
"""

import asyncio
import inspect
import os
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest

from tools import authoring

ROOT = Path(__file__).parent.parent
MANAGERS = (
    "TextFileContentsManager",
    "AsyncTextFileContentsManager",
)  # the second is not in Jupytext's oldest versions
HOURS = {"older": -48, "as old": 0, "newer": 48}
OWN_SETTINGS = 'formats = "ipynb,py:percent"\n'  # a learner's, for all other notebooks


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """The course's notebooks as a clone has them, unanswered, with the settings that JupyterLab finds there."""
    (tmp_path / "clone" / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "clone")
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", tmp_path / "clone" / "notebooks")
    for source in authoring.notebook_sources():
        shutil.copy(source, tmp_path / "clone" / "notebooks")
        notebook = authoring.read_script(source)
        authoring.normalise(notebook)
        nbformat.write(notebook, tmp_path / "clone" / "notebooks" / f"{source.stem}.ipynb")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupytext.toml").write_text(OWN_SETTINGS, encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "clone"


@pytest.fixture(params=["clone", "clone/notebooks"])
def lab(request, manager, tmp_path, clone):
    """JupyterLab's files, as it opens and saves them, started in a folder: `lab("get", NAME)`, `lab("save", NAME, model)`."""
    prefix = "notebooks/" if request.param == "clone" else ""
    files = manager(root_dir=str(tmp_path / request.param))

    def call(method, name, *model):
        result = getattr(files, method)(*model, f"{prefix}{name}.ipynb")
        return asyncio.run(awaited(result)) if inspect.isawaitable(result) else result

    return call


@pytest.fixture(params=[name for name in MANAGERS if hasattr(jupytext, name)])
def manager(request):
    return getattr(jupytext, request.param)


async def awaited(result):
    return await result


def answered(notebook, answer: str):
    """A notebook with an answer in its last cell of code."""
    [*_, last] = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last.source = answer
    return notebook


def stamp(path: Path, hours: int):
    """Set a file's time, relative to that of the `.py` beside it."""
    time = path.with_suffix(".py").stat().st_mtime + 3600 * hours
    os.utime(path, (time, time))


def in_vs_code(path: Path, answer: str, hours: int):
    """What VS Code or Colab does: it writes the `.ipynb` alone, with metadata of its own."""
    notebook = answered(nbformat.read(path, as_version=4), answer)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12.1"}
    notebook.cells[2].metadata["vscode"] = {"languageId": "python"}
    nbformat.write(notebook, path)
    stamp(path, hours)


@pytest.mark.parametrize("name", ["01_data", "05_one_hot"])
@pytest.mark.parametrize("hours", HOURS.values(), ids=HOURS)
def test_an_answer_written_elsewhere_survives_jupyterlab(clone, lab, name, hours):
    path = clone / "notebooks" / f"{name}.ipynb"
    source = path.with_suffix(".py").read_bytes()
    in_vs_code(path, "answer = 'from VS Code'", hours)
    model = lab("get", name)
    assert "answer = 'from VS Code'" in str(model["content"])
    answered(model["content"], "answer = 'from JupyterLab'")
    lab("save", name, {"type": "notebook", "content": model["content"]})
    assert "answer = 'from JupyterLab'" in path.read_text(encoding="utf-8")
    assert path.with_suffix(".py").read_bytes() == source

    in_vs_code(path, "answer = 'from VS Code again'", hours)
    assert "answer = 'from VS Code again'" in str(lab("get", name)["content"])


def test_a_changed_source_does_not_change_a_learners_notebook(clone, lab):
    """As after `git pull`: the `.py` is new, the notebook is the learner's."""
    path = clone / "notebooks" / "04_embedding_size.ipynb"
    in_vs_code(path, "answer = 'mine'", -48)
    path.with_suffix(".py").write_text("# %%\nprint('another notebook')\n", encoding="utf-8")
    assert "answer = 'mine'" in str(lab("get", "04_embedding_size")["content"])


def test_a_notebook_that_was_paired_by_an_earlier_version_is_what_this_guards_against(clone, lab):
    """The same with the course's former metadata: JupyterLab shows the older `.py`, and the answer is gone, or refuses."""
    path = clone / "notebooks" / "04_embedding_size.ipynb"
    notebook = answered(nbformat.read(path, as_version=4), "answer = 'mine'")
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    nbformat.write(notebook, path)
    stamp(path, -48)
    assert "answer = 'mine'" not in str(lab("get", "04_embedding_size")["content"])
