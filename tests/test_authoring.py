"""The maintainers' commands, tried on a small course: what is committed is not looked at here."""

import base64
import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import addresses, authoring

ROOT = Path(__file__).parent.parent
PROJECT = """\
[project]
name = "small-course"
version = "1.2.0"

[project.urls]
Repository = "https://github.com/OWNER/small-course"
"""
README = """\
# Small

[Open](https://colab.research.google.com/github/OWNER/small-course/blob/main/notebooks/01_one.ipynb);
`git clone https://github.com/OWNER/small-course`, or read [it](https://OWNER.github.io/small-course/notebooks/01_one.html)
"""
CITATION = """\
title: Small
version: 1.2.0
repository-code: https://github.com/OWNER/small-course
"""
HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""
CODE = {"01_one": "print(6 * 7)", "02_two": 'print("größer ✔ 数")', "03_three": "1 + 1"}


class Player:
    """Executes a notebook's cells but the first in this process, in place of nbclient's kernel."""

    def __init__(self, notebook, **options):
        self.notebook = notebook

    def execute(self, env):
        for number, cell in enumerate(authoring.code_cells(self.notebook), 1):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(cell.source if number > 1 else "", {})
            cell.execution_count, cell.outputs = number, [new_output("stream", text=printed.getvalue() or "nothing\n")]
            cell.metadata["execution"] = {"iopub.execute_input": os.urandom(4).hex()}


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A course of three executed notebooks, each with prose, the first cell, a cell of code and a tagged one."""
    monkeypatch.setattr(addresses, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(authoring, "NOTEBOOKS_FOLDER", tmp_path / "notebooks")
    monkeypatch.setattr(authoring, "NotebookClient", Player)
    for name, text in {"pyproject.toml": PROJECT, "README.md": README, "CITATION.cff": CITATION}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", tmp_path / "notebooks")
    for name, code in CODE.items():
        cells = [f"# %% [markdown]\n# # Title\n#\n# {addresses.badge(name)}\n", f"# %%\n{authoring.first_cell()}\n"]
        cells += [f"# %%\n{code}\n", '# %% tags=["exercise-x"]\nanswer = ...\n']
        (tmp_path / "notebooks" / f"{name}.py").write_text(HEADER + "\n".join(cells), encoding="utf-8")
        authoring.execute(tmp_path / "notebooks" / f"{name}.py", "laptop")
    return tmp_path


@pytest.fixture
def one(course) -> Path:
    """The source of the first notebook."""
    return course / "notebooks" / "01_one.py"


def rewrite(path: Path, old: str, new: str):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def change(source: Path, edit):
    """Edit the `.ipynb` alone, as a learner's front end would."""
    notebook = authoring.read_paired(source)
    edit(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def contents(folder: Path) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.*") if path.is_file()}


def outputs(folder: Path) -> list:
    return [[cell.get("outputs") for cell in nbformat.read(path, 4).cells] for path in sorted(folder.rglob("*.ipynb"))]


def refused(arguments: list[str], capsys) -> str:
    """What a command says before it exits with status 2."""
    with pytest.raises(SystemExit) as stop:
        authoring.main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


# Execute and check.


def test_what_execute_makes_is_in_order_and_the_second_time_the_same(course, capsys):
    assert authoring.main(["check"]) == 0
    first = contents(course)
    assert "42" in str(outputs(course)[0])
    authoring.main(["execute", *CODE])
    assert contents(course) == first


def test_a_kernel_executes_in_a_folder_of_its_own(course, one, monkeypatch):
    monkeypatch.undo()
    rewrite(one, "print(6 * 7)", "import os\nprint(sorted(os.listdir()), os.environ['COURSE_PRESET'])")
    authoring.execute(one, "smoke")
    assert "[] smoke" in str(authoring.read_paired(one).cells[2].outputs)
    assert [path.name for path in course.iterdir() if path.name.startswith(".executing")] == []


def drift(notebook):
    notebook.cells[0].source = "# Another title"


def stale(notebook):
    notebook.cells[2].source = "print(6 * 8)"


def tags(notebook):
    notebook.cells[3].metadata["tags"] = ["another"]


def nbgrader(notebook):
    notebook.cells[3].metadata["nbgrader"] = {"grade": True, "points": 2, "grade_id": "x"}


def other_outputs(notebook):
    notebook.cells[2].outputs[0].text = "of the preset smoke\n"


def other_picture(notebook):
    notebook.cells[2].outputs.append(new_output("display_data", {"image/png": "AAAA"}))


def widgets(notebook):
    notebook.metadata["widgets"] = {authoring.WIDGET_VIEW: {}}


def pairing(notebook):
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}


def widget_output(notebook):
    notebook.cells[2].outputs.append(new_output("display_data", {authoring.WIDGET_VIEW: {}}))


def error(notebook):
    notebook.cells[2].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=[]))


def unexecuted(notebook):
    for cell in notebook.cells[1:]:
        cell.outputs, cell.execution_count = [], None


def another_order(notebook):
    notebook.cells[2].execution_count = 7


def kernel(notebook):
    notebook.metadata["kernelspec"]["name"] = "my-venv"


def large(notebook):
    notebook.cells[2].outputs.append(new_output("stream", text="x" * authoring.LARGEST_NOTEBOOK))


def without_first_cell(notebook):
    notebook.cells.pop(1)


@pytest.mark.parametrize(
    "edit, found",
    [
        (drift, "differs from its .py"),
        (stale, "outputs of other code"),
        (tags, "differs from its .py"),
        (nbgrader, "differs from its .py"),
        (other_outputs, "outputs that `execute` did not write"),
        (other_picture, "outputs that `execute` did not write"),
        (widgets, "widget metadata"),
        (pairing, "is paired by its metadata"),
        (widget_output, "a widget among its outputs"),
        (error, "an error among its outputs"),
        (unexecuted, "has no outputs"),
        (another_order, "was not run from top to bottom"),
        (kernel, "kernel python3"),
        (large, "is larger than"),
        (without_first_cell, "first cell"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_found_and_execute_mends_it(one, edit, found, capsys):
    change(one, edit)
    assert authoring.main(["check"]) == 1
    assert found in capsys.readouterr().out
    authoring.main(["execute"])
    assert authoring.main(["check"]) == 0
    assert capsys.readouterr().out.count("fresh, skipped") == 2


def test_outputs_of_another_preset_that_nbmake_wrote_are_found_and_executed_anew(one, capsys):
    """As `pytest --nbmake --overwrite` leaves them: other outputs, timestamps, and a note about the language."""

    def overwrite(notebook):
        other_outputs(notebook)
        notebook.cells[2].metadata["execution"] = {"iopub.status.idle": "2026-01-01"}
        notebook.metadata["language_info"] = {"name": "python"}

    change(one, overwrite)
    assert authoring.differences() == ["01_one has outputs that `execute` did not write."]
    authoring.main(["pair"])
    assert authoring.differences() == ["01_one has outputs that `execute` did not write."]
    authoring.main(["execute"])
    assert authoring.differences() == [] and "42" in str(outputs(one.parent)[0])


def test_a_missing_header_title_or_notebook_is_found(one):
    one.write_text("# %%\nprint(1)\n", encoding="utf-8")
    found = " ".join(authoring.problems(one))
    assert "YAML header" in found and "differs" in found and "title and the course's badge" in found
    one.with_suffix(".ipynb").unlink()
    assert authoring.problems(one) == ["01_one.ipynb is missing."]


def test_execute_runs_what_is_stale_and_goes_on_from_there(course, one, capsys):
    one.write_text(one.read_text(encoding="utf-8") + "\n# %%\n6 * 7\n", encoding="utf-8")
    (course / "notebooks" / "03_three.ipynb").unlink()
    authoring.main(["execute"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("fresh, skipped") for line in lines] == [False, True, False]


@pytest.mark.parametrize("arguments, executed", [(["execute", "01_one"], 1), (["execute", "--preset", "smoke"], 3)])
def test_execute_runs_what_is_named_and_all_at_another_preset(course, capsys, arguments, executed):
    authoring.main(arguments)
    assert capsys.readouterr().out.count(" s\n") == executed


def test_a_failing_notebook_leaves_the_earlier_one(one):
    before = one.with_suffix(".ipynb").read_text(encoding="utf-8")
    rewrite(one, "6 * 7", "6 / 0")
    with pytest.raises(ZeroDivisionError):
        authoring.execute(one, "smoke")
    assert one.with_suffix(".ipynb").read_text(encoding="utf-8") == before


def test_an_unknown_name_is_one_sentence(course, capsys):
    for command in ("execute", "pair"):
        error = refused([command, "99_nothing"], capsys)
        assert error.startswith("error: there is no notebook '99_nothing'") and "\n" not in error


def test_normalise_keeps_pictures_and_the_end_of_progress_bars():
    bar = [new_output("stream", name="stderr", text=text) for text in ("\r10%", "\r50%", "\r100%\n")]
    picture = new_output("display_data", {"image/png": png_of_noise()})
    widget = new_output("display_data", {authoring.WIDGET_VIEW: {}, "text/plain": "IntSlider()"})
    metadata = {"execution": {"iopub.status.idle": "now"}, "tags": ["a"], "scrolled": True}
    cell = new_code_cell("1", outputs=[*bar, picture, widget], metadata=metadata)
    notebook = new_notebook(
        cells=[new_markdown_cell("x"), cell], metadata={"widgets": {}, "language_info": {"name": "python"}}
    )
    authoring.normalise(notebook)
    assert [output.get("text", "picture") for output in notebook.cells[1].outputs] == ["100%\n", "picture"]
    assert notebook.metadata == {} and notebook.cells[1].metadata == {"tags": ["a"]}


def png_of_noise() -> str:
    """A grey picture with hard to compress pixels, as figures are stored: red, green, blue and opacity."""
    grey = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).convert("RGBA").save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_pictures_are_stored_with_a_palette_and_look_the_same():
    before = png_of_noise()
    after = authoring.with_palette(before)
    pictures = [Image.open(io.BytesIO(base64.b64decode(png))) for png in (before, after)]
    assert len(after) < 0.6 * len(before) and authoring.with_palette(after) == after
    np.testing.assert_allclose(*(np.asarray(picture.convert("L"), dtype=float) for picture in pictures), atol=4)


def test_pair_keeps_outputs_fresh_whose_pictures_become_smaller(course, one, capsys):
    authoring.main(["execute", one.stem])
    notebook = authoring.read_paired(one)
    notebook.cells[2].outputs.append(new_output("display_data", {"image/png": png_of_noise()}))
    notebook.metadata["course"] |= authoring.fingerprints(notebook)  # as an earlier `execute` would have left it
    authoring.write_notebook(notebook, one)
    authoring.pair(one)
    assert authoring.problems(one) == []
    assert len(authoring.read_paired(one).cells[2].outputs[-1].data["image/png"]) < 0.6 * len(png_of_noise())


# Pair.


def test_pair_takes_new_prose_and_keeps_the_outputs(one):
    rewrite(one, "# Title", "# A better title")
    assert "differs" in " ".join(authoring.problems(one))
    authoring.pair(one)
    assert authoring.problems(one) == []


def test_pair_drops_the_output_of_changed_code_and_check_says_so(one):
    rewrite(one, "6 * 7", "6 * 8")
    authoring.pair(one)
    assert "42" not in str(outputs(one.parent)[0])
    assert "01_one has outputs of other code." in authoring.problems(one)
    authoring.main(["execute"])
    assert "48" in str(outputs(one.parent)[0])


def test_pair_without_an_earlier_notebook_has_no_outputs(one):
    one.with_suffix(".ipynb").unlink()
    authoring.pair(one)
    assert "has no outputs" in " ".join(authoring.problems(one))


@pytest.mark.parametrize("command", ["pair", "execute"])
def test_metadata_of_other_tools_survives_from_either_file(course, one, command):
    change(one, nbgrader)
    rewrite(one, '# %% tags=["exercise-x"]', '# %% slideshow={"slide_type": "slide"} tags=["exercise-x"]')
    authoring.main([command, "01_one"])
    assert authoring.differences() == []
    for cells in (authoring.read_paired(one).cells, authoring.read_script(one).cells):
        assert cells[3].metadata == {
            "nbgrader": {"grade": True, "points": 2, "grade_id": "x"},
            "slideshow": {"slide_type": "slide"},
            "tags": ["exercise-x"],
        }


@pytest.mark.parametrize("command", ["pair", "execute"])
def test_ids_and_attachments_survive_a_change_of_the_text(one, command):
    def attach(notebook):
        notebook.cells[0]["attachments"] = {"a.png": {"image/png": "AAAA"}}

    change(one, attach)
    ids = [cell.id for cell in authoring.read_paired(one).cells]
    rewrite(one, "# Title", "# A better title")
    rewrite(one, "6 * 7", "6 * 8")
    authoring.main([command, "01_one"])
    cells = authoring.read_paired(one).cells
    assert [cell.id for cell in cells] == ids
    assert cells[0].attachments == {"a.png": {"image/png": "AAAA"}}


def test_a_new_cell_has_an_id_of_its_own_and_the_others_keep_theirs(one):
    before = [cell.id for cell in authoring.read_paired(one).cells]
    rewrite(one, "# %%\nprint(6 * 7)\n", "# %%\nprint(1)\n\n# %%\nprint(6 * 7)\n")
    authoring.pair(one)
    after = [cell.id for cell in authoring.read_paired(one).cells]
    assert after[:2] + after[3:] == before and len(set(after)) == 5


def test_a_layout_that_pair_would_change_is_noticed_and_mended(one):
    text = one.read_text(encoding="utf-8")
    rewrite(one, "\n\n# %%\nprint", "\n# %%\nprint")
    assert authoring.problems(one) == ["01_one has a .py file that Jupytext lays out otherwise."]
    authoring.main(["pair", "01_one"])
    assert authoring.differences() == [] and one.read_text(encoding="utf-8") == text


# Publish.


def test_publishing_under_the_same_name_changes_nothing(course):
    before = contents(course)
    assert authoring.main(["repository", addresses.repository()]) == 0
    assert contents(course) == before


def test_publishing_elsewhere_rewrites_every_address_and_keeps_outputs(course):
    made = outputs(course)
    assert authoring.main(["repository", "ada/my-course"]) == 0
    assert authoring.differences() == []
    assert outputs(course) == made
    for path, text in contents(course).items():
        if path.name == "jupytext.toml":
            continue
        assert "OWNER" not in text and "ada/my-course" in text, path


def test_stale_outputs_do_not_become_fresh(course, one):
    change(one, lambda notebook: notebook.metadata["course"].update(code_sha256="of other code"))
    authoring.main(["repository", "ada/my-course"])
    assert authoring.differences() == ["01_one has outputs of other code."]


def test_a_notebook_without_badge_and_outputs_gets_a_badge(course, one):
    one.with_suffix(".ipynb").unlink()
    rewrite(one, f"#\n# {addresses.badge('01_one')}\n", "")
    authoring.main(["repository", "ada/my-course"])
    assert one.read_text(encoding="utf-8").count("colab-badge") == 1
    assert authoring.differences() == ["01_one.ipynb is missing."]


@pytest.mark.parametrize("version, state", [("7.8.9", "refs/tags/v7.8.9"), ("7.8.9.dev0", "HEAD")])
def test_a_new_version_reaches_first_cells_and_citation(course, one, version, state):
    rewrite(course / "pyproject.toml", 'version = "1.2.0"', f'version = "{version}"')
    assert len(authoring.differences()) == 1 + len(CODE)
    authoring.main(["repository", addresses.repository()])
    assert authoring.differences() == []
    assert f"https://github.com/OWNER/small-course/archive/{state}.zip" in one.read_text(encoding="utf-8")
    assert yaml.safe_load((course / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", "notebooks/01_one.py"])
def test_an_address_that_differs_is_found(course, name):
    rewrite(course / name, "OWNER/small-course", "someone/else")
    assert any(problem.startswith(Path(name).stem) for problem in authoring.differences())


def test_the_address_of_the_site_is_written_and_checked(course):
    assert authoring.main(["repository", "ada/my.course"]) == 0
    readme = course / "README.md"
    assert "[it](https://ada.github.io/my.course/notebooks/01_one.html)" in readme.read_text(encoding="utf-8")
    rewrite(readme, "https://ada.github.io/my.course/", "https://ada.github.io/another/")
    assert authoring.differences() == ["README.md has another repository or version than pyproject.toml."]


@pytest.mark.parametrize("name", ["foo", "a/b/c", "https://example.org/a/b", "/b", "a/", "a b/c", "-a/b", ""])
def test_a_bad_name_is_one_sentence_and_changes_nothing(course, capsys, name):
    before = contents(course)
    error = refused(["repository", "--", name], capsys)
    assert error.startswith("error: ") and "OWNER/NAME" in error and "\n" not in error
    assert contents(course) == before


@pytest.mark.parametrize(
    "name", ["ada/my.course", "https://github.com/ada/my.course", "git@github.com:ada/my.course.git"]
)
def test_a_name_may_be_an_address_on_github(course, name):
    authoring.main(["repository", name])
    assert addresses.repository() == "ada/my.course"


def set_origin(course: Path, address: str):
    subprocess.run(["git", "-C", course, "init", "--quiet"], check=True)
    subprocess.run(["git", "-C", course, "remote", "add", "origin", address], check=True)


@pytest.mark.parametrize(
    "address",
    ["https://github.com/ada/my.course", "https://github.com/ada/my.course.git", "https://github.com/ada/my.course/"]
    + ["https://me@github.com/ada/my.course", "git@github.com:ada/my.course.git"]
    + ["ssh://git@github.com/ada/my.course.git"],
)
def test_the_default_is_the_origin(course, address):
    set_origin(course, address)
    assert authoring.main(["repository"]) == 0
    assert addresses.repository() == "ada/my.course"


@pytest.mark.parametrize(
    "address", ["https://example.org/a/b.git", "/srv/git/course", "https://example.org/github.com/a/b"]
)
def test_an_origin_that_is_not_on_github_is_one_sentence(course, address, capsys):
    set_origin(course, address)
    assert f"origin is '{address}', which is not on GitHub" in refused(["repository"], capsys)


def test_no_origin_and_no_git_are_one_sentence_each(course, capsys, monkeypatch):
    subprocess.run(["git", "-C", course, "init", "--quiet"], check=True)
    assert refused(["repository"], capsys).startswith("error: git has no remote called origin")
    monkeypatch.setenv("PATH", str(course))
    error = refused(["repository"], capsys)
    assert error.startswith("error: git is not installed") and "OWNER/NAME" in error


# Other systems.


@pytest.mark.skipif(sys.platform == "win32", reason="the encoding is not chosen by these variables there")
def test_check_reads_and_says_the_same_where_the_locale_is_not_utf_8(course, one):
    """As on Windows: a process whose default encoding cannot hold what the notebooks hold."""
    rewrite(course / "notebooks" / "02_two.py", "größer ✔ 数", "größer ✔ 数 und mehr")
    script = f"""
import locale, sys
from pathlib import Path
from tools import addresses, authoring
assert locale.getpreferredencoding(False).lower().replace("-", "") not in ("utf8", "cp65001")
addresses.REPOSITORY_ROOT, authoring.NOTEBOOKS_FOLDER = Path({str(course)!r}), Path({str(course / "notebooks")!r})
authoring.main(["pair"])
sys.exit(authoring.main(["check"]))"""
    environment = os.environ | dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.splitlines() == authoring.differences()
    assert "02_two has outputs of other code." in authoring.differences()


def test_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == addresses.project_value("version")
